"""`threadlog explain` tells the story of a run from the log, as people and as programs read it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from threadlog.deploy.commands.explain import story_of
from threadlog.deploy.commands.places import Place
from threadlog.engine.domain.events import EVENTS
from threadlog.engine.log.history import LoggedEvent
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import EventRecord, partition_of
from threadlog.engine.story.story import Story
from threadlog.engine.story.text import heading, told

T = "00000000-0000-4000-8000-0000000000aa"
R = "0199b2c1-0000-7000-8000-0000deadbeef"
OTHER = "0199b2c1-0000-7000-8000-0000deadbee0"


def at(second: float) -> str:
    return f"2026-01-02T03:04:{second:09.6f}+00:00"


def event(type_: str, **fields: object) -> dict[str, object]:
    return {"type": type_, "thread_id": T, "run_id": R, **fields}


HISTORY = [
    EventRecord(1, 0, "c0", T, at(0), [event("run.created", run_id=OTHER, graph_id="g", run={})]),
    EventRecord(
        1, 1, "c1", T, at(1),
        [event("run.created", graph_id="support", run={"kwargs": {"webhook": "https://x"}})],
        actor="user:ada",
    ),
    EventRecord(1, 2, "c2", T, at(2), [
        event("run.succeeded", run_id=OTHER, attempt=1), event("run.scheduled", attempt=1)]),
    EventRecord(1, 3, "c3", T, at(3), [
        event("run.started", attempt=1, executor="x:1", at=at(2.5)),
        event("checkpoint.saved", checkpoint_id="cp1", metadata={"step": 0, "source": "loop"}),
        event("tasks.planned", checkpoint_id="cp1", tasks=[{"id": "t1", "name": "model"}]),
    ]),
    EventRecord(1, 4, "c4", T, at(4), [
        event("run.lease_expired", attempt=1, executor="x:1"), event("run.scheduled", attempt=2)], actor="engine"),
    EventRecord(1, 5, "c5", T, at(6), [
        event("run.started", attempt=2, executor="x:2", at=at(5)),
        event("writes.saved", checkpoint_id="cp1", task_id="t1", writes=[[0, "__interrupt__", {}]]),
        event("run.succeeded", attempt=2, next=["ask"], interrupts={"t1": [{"id": "i", "value": "really?"}]},
              usage={"m": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}}),
        {"type": "thread.status_changed", "thread_id": T, "status": "interrupted"},
        event("webhook.requested", url="https://x", status="success"),
    ]),
    EventRecord(1, 6, "c6", T, at(7), [event("webhook.delivered", attempt=1, status=200)], actor="engine"),
]  # fmt: skip


def story(*records: EventRecord) -> Story:
    one = Story(R)
    for offset, record in enumerate(records):
        one.tell(LoggedEvent(3, offset, 0, record))
    return one


def test_a_story_says_who_asked_what_was_decided_and_what_it_cost() -> None:
    one = story(*HISTORY)
    assert (one.status, one.asked_by, one.graph_id, one.thread_id) == ("success", "user:ada", "support", T)
    assert (one.waited_seconds, one.ran_seconds, one.steps) == (1.5, 3.5, 1)
    assert [(a.number, a.end, a.executor) for a in one.attempts] == [
        (1, "run.lease_expired", "x:1"), (2, "run.succeeded", "x:2"),
    ]  # fmt: skip
    assert one.usage == {"m": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}}
    assert list(one.interrupts) == ["t1"]
    lines = [re.sub(" +", " ", line).strip() for line in told(one.chapters)]
    assert lines[0] == (
        "0.000 s 3@1 a request asks for graph support, with a webhook; "
        "it waits for the thread's run in flight (by user:ada)"
    )
    assert lines[1:4] == [
        "1.000 s 3@2 attempt 1 may be claimed",
        "2.000 s 3@3 attempt 1 began on executor x:1",
        "2.000 s 3@3 step 0 (loop) is checkpoint cp1",
    ]
    assert "3.000 s 3@4 the executor of attempt 1, x:1, is gone" in lines
    assert "5.000 s 3@5 model asks a question and waits" in lines
    assert "5.000 s 3@5 it waits for an answer before ask: really?" in lines
    assert lines[-1] == "6.000 s 3@6 the webhook was delivered, attempt 1, HTTP 200"
    assert any(line.startswith("tokens") and "total_tokens 12" in line for line in heading(one))


def test_a_story_is_over_when_nothing_of_it_can_follow() -> None:
    assert [story(*HISTORY[:n]).over for n in range(1, len(HISTORY) + 1)] == [False] * (len(HISTORY) - 1) + [True]


OF_RUNS = {type_ for type_, kind in EVENTS.items() if {"run_id", "job_id"} & kind.__annotations__.keys()}


@pytest.mark.parametrize("type_", sorted(type_ for type_ in OF_RUNS if not type_.startswith("cron.")))
def test_every_event_of_a_run_is_told_in_words(type_: str) -> None:
    fields = dict.fromkeys(EVENTS[type_].__annotations__, "x") | {"run_id": R, "thread_id": T, "type": type_}
    fields |= {name: {} for name in ("run", "metadata", "interrupts", "usage", "error") if name in fields}
    fields |= {name: [] for name in ("writes", "tasks", "next") if name in fields} | {"due_at": None}
    fields["job_id"] = R
    (chapter,) = story(EventRecord(1, 0, "c", T, at(0), [fields])).chapters
    assert chapter.text and chapter.text != type_ and chapter.type == type_


async def test_a_run_that_was_deleted_is_found_by_the_time_in_its_id() -> None:
    log = MemoryLog(4)
    p = partition_of(T, 4)
    await log.append([Append(Topic.EVENTS, p, r.key, r.encode()) for r in HISTORY])
    assert (
        len((await story_of(log, R, None)).chapters)
        == len((await story_of(log, R, Place(T, datetime.now(UTC)))).chapters)
        > 8
    )
    assert (await story_of(log, "00000000-0000-4000-8000-00000000ffff", None)).chapters == []


def test_subgraphs_are_told_by_their_names() -> None:
    ns = "office:0199b2c1|billing:0199b2c2"
    saved = event("checkpoint.saved", checkpoint_id="c", ns=ns, metadata={"step": 2, "source": "loop"})
    planned = event("tasks.planned", checkpoint_id="c", ns=ns, tasks=[{"id": "t", "name": "talk"}])
    written = event("writes.saved", task_id="t", writes=[[0, "messages", {}], [1, "branch:to:tools", {}]])
    texts = [chapter.text for chapter in story(EventRecord(1, 0, "c", T, at(0), [saved, planned, written])).chapters]
    assert texts == [
        "step 2 of subgraph office.billing (loop) is checkpoint c",
        "next in subgraph office.billing: talk",
        "talk wrote messages and goes to tools",
    ]


def test_a_task_that_an_earlier_run_planned_is_told_by_its_name() -> None:
    failed = event("writes.saved", task_id="t", task_path="~__pregel_pull, maybe_fail", writes=[[-1, "__error__", {}]])
    sent = event("writes.saved", task_id="u", task_path="~__pregel_push, 0000000000, False", writes=[])
    texts = [chapter.text for chapter in story(EventRecord(1, 0, "c", T, at(0), [failed, sent])).chapters]
    assert texts == ["maybe_fail raised an error", "task u wrote nothing"]
