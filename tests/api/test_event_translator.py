"""Frames of runs as numbered events of the event-streaming protocol."""

from __future__ import annotations

from typing import Any

import orjson

from threadlog.api.events.filters import EventFilter, FilterUnion, filter_of
from threadlog.api.events.subscription import PER_RECORD, EventTranslator, RunInfo
from threadlog.api.streaming.cursor import RunEnd
from threadlog.api.streaming.subscriptions import Item, NewFrames, RunDone
from threadlog.engine.log.records import Frames

EVERY = filter_of(
    {"channels": ["values", "updates", "messages", "tools", "custom", "lifecycle", "input", "tasks", "checkpoints"]}
)


async def nothing(_: str) -> None:
    return None


async def visible() -> bool:
    return True


def translator(wanted: EventFilter | FilterUnion = EVERY) -> EventTranslator:
    return EventTranslator({"r": RunInfo("chat", True), "other": RunInfo("chat", False)}, wanted, nothing, visible)


def frames(offset: int, *named: tuple[str, Any], run_id: str = "r", attempt: int = 1, seq: int = 0) -> NewFrames:
    encoded = [(name.encode(), value if isinstance(value, bytes) else orjson.dumps(value)) for name, value in named]
    return NewFrames(offset, 0, Frames(run_id, "t", attempt, seq, encoded, at_ms=7))


async def told(translator: EventTranslator, *items: Item) -> list[tuple[int, str, Any]]:
    return [
        (event.seq, event.method, orjson.loads(event.body)["params"]["data"])
        for event in await translator.events(items)
    ]


def chunk(text: str) -> Any:
    return [{"type": "AIMessageChunk", "id": "m", "content": text}, {}]


async def test_numbers_come_from_the_offsets_and_do_not_depend_on_the_filter() -> None:
    items = [
        frames(5, ("metadata", {}), ("messages", chunk("a")), ("values", {"n": 1})),
        frames(9, ("values", {"n": 2}), seq=3),
        RunDone("r", RunEnd("success", 1, 4)),
    ]
    everything = await told(translator(), *items)
    assert [number for number, _, _ in everything] == [
        5 * PER_RECORD + 1, 5 * PER_RECORD + 2, 5 * PER_RECORD + 3, 5 * PER_RECORD + 4, 5 * PER_RECORD + 5,
        9 * PER_RECORD + 1, 9 * PER_RECORD + 2, 9 * PER_RECORD + 3, 9 * PER_RECORD + 4,
    ]  # fmt: skip
    for channel in ("values", "messages", "lifecycle"):
        some = await told(translator(filter_of({"channels": [channel]})), *items)
        assert some == [event for event in everything if event[1] == channel]
    since = filter_of({"channels": list(EVERY.channels), "since": everything[3][0]})
    assert await told(translator(since), *items) == everything[4:]


async def test_of_several_subscriptions_each_costs_from_its_own_number_on() -> None:
    """The past is read again for a new one: nothing is made of it for those that have had it."""
    items = [
        frames(5, ("metadata", {}), ("messages", chunk("a")), ("messages", chunk("b")), ("values", {"n": 1})),
        frames(9, ("messages", chunk("c")), ("messages", chunk("d")), ("values", {"n": 2}), seq=4),
        RunDone("r", RunEnd("success", 1, 7)),
    ]
    everything = await told(translator(), *items)
    old, new = filter_of({"channels": ["messages"]}), filter_of({"channels": ["values"]})
    seen = next(number for number, _, _ in everything if number > 9 * PER_RECORD) - 1
    both = await told(translator(FilterUnion([old, new], after=[seen, -1])), *items)
    assert both == [
        event for event in everything if event[1] == "values" or (event[1] == "messages" and event[0] > seen)
    ]
    assert [data["content"] for _, _, data in both if "content" in data] == [{"type": "text", "text": "abcd"}]
    assert await told(translator(FilterUnion([old], after=[everything[-1][0]])), *items) == []


async def test_runs_that_can_not_be_replayed_are_not_shown() -> None:
    assert await told(translator(), frames(1, ("values", {}), run_id="other")) == []
    assert await told(translator(), frames(1, ("values", {}), run_id="unknown")) == []


async def test_a_second_attempt_ends_what_the_first_had_begun() -> None:
    events = await told(
        translator(),
        frames(1, ("metadata", {}), ("messages", chunk("a"))),
        frames(2, ("metadata", {}), ("messages", chunk("b")), attempt=2),
        RunDone("r", RunEnd("success", 2, 2)),
    )
    assert [data["event"] for _, method, data in events if method == "lifecycle"] == ["running", "completed"]
    said = [data["event"] for _, method, data in events if method == "messages"]
    assert said == [
        "message-start", "content-block-start", "content-block-delta", "error",
        "message-start", "content-block-start", "content-block-delta", "content-block-finish", "message-finish",
    ]  # fmt: skip


async def test_interrupts_are_requested_once_whichever_modes_tell_of_them() -> None:
    waiting = {"__interrupt__": [{"id": "i", "value": "ok?"}]}
    events = await told(
        translator(),
        frames(1, ("metadata", {}), ("updates", waiting), ("values", {"n": 1, **waiting})),
        RunDone("r", RunEnd("success", 1, 3)),
    )
    assert [(method, data) for _, method, data in events] == [
        ("lifecycle", {"event": "running", "graph_name": "chat"}),
        ("input.requested", {"interrupt_id": "i", "payload": "ok?", "value": "ok?"}),
        ("values", {"n": 1}),
        ("lifecycle", {"event": "interrupted", "graph_name": "chat"}),
    ]


async def test_a_run_cancelled_before_it_began_is_told_to_who_is_there_now() -> None:
    late = filter_of({"channels": ["lifecycle"], "since": 50})
    ((number, _, data),) = await told(translator(late), RunDone("r", RunEnd("interrupted")))
    assert (number, data["event"]) == (51, "interrupted")


async def test_what_comes_after_the_end_of_a_cancelled_run_is_not_shown() -> None:
    events = await told(
        translator(),
        frames(1, ("metadata", {})),
        RunDone("r", RunEnd("interrupted")),
        frames(2, ("values", {}), seq=1),
        RunDone("r", RunEnd("interrupted")),
    )
    assert [method for _, method, _ in events] == ["lifecycle", "lifecycle"]


async def test_a_frame_that_can_not_be_translated_is_left_out() -> None:
    events = await told(translator(), frames(1, ("metadata", {}), ("tools", b"[1]"), ("values", {"n": 1})))
    assert [method for _, method, _ in events] == ["lifecycle", "values"]


async def test_subgraphs_tools_and_custom_events() -> None:
    events = await told(
        translator(),
        frames(
            1,
            ("lifecycle|child:1", {"event": "started", "namespace": ["child:1"], "tool_call_id": "c"}),
            ("tools", {"event": "on_tool_event", "toolCallId": "c", "name": "t", "data": {"n": 1}}),
            (
                "tools",
                {"event": "on_tool_error", "toolCallId": "c", "name": "t", "error": {"error": "E", "message": "m"}},
            ),
            ("tools", {"event": "on_tool_start", "name": "t"}),
            ("custom", {"name": 1}),
            ("updates|child:1", {"a": {"n": 1}}),
        ),
    )
    assert [(method, data) for _, method, data in events][1:] == [
        (
            "lifecycle",
            {
                "event": "started",
                "namespace": ["child:1"],
                "graph_name": "child",
                "trigger_call_id": "1",
                "cause": {"type": "toolCall", "tool_call_id": "c"},
            },
        ),
        ("tools", {"event": "tool-output-delta", "delta": '{"n":1}', "tool_call_id": "c"}),
        ("tools", {"event": "tool-error", "message": "m", "tool_call_id": "c"}),
        ("custom", {"payload": {"name": 1}}),
        ("updates", {"node": "a", "values": {"n": 1}}),
    ]
