"""The frames of a run, mode by mode: contract 2.1-2.3."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually
from threadlog.engine.executor.reporting.outgoing import AppendLimits
from threadlog.engine.log.port import AppendUnknown, LogUnavailable


async def frames_of(
    harness: ExecutorHarness, graph: str, input: Any, *modes: str, **kwargs: Any
) -> list[tuple[str, Any]]:
    run_id = await harness.enqueue(graph, input, stream_mode=list(modes), **kwargs)
    await harness.outcome(run_id)
    return [(name, data) for name, data in await harness.frames(run_id) if not name.startswith("~")]


async def test_modes_interleave_step_by_step(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    frames = await frames_of(harness, "noop", {"items": ["in"]}, "values", "updates", "tasks", "checkpoints")
    assert [name for name, _ in frames] == [
        "metadata",
        "checkpoints",  # input
        "values",
        "checkpoints",  # step 0
        "tasks", "updates", "tasks", "values", "checkpoints",
        "tasks", "updates", "tasks", "values", "checkpoints",
    ]  # fmt: skip
    tasks = [data for name, data in frames if name == "tasks"]
    assert tasks[0]["name"] == "a" and tasks[0]["input"] == {"items": ["in"]} and tasks[0]["triggers"]
    assert tasks[1]["id"] == tasks[0]["id"]
    assert tasks[1]["result"] == {"items": ["x"]} and tasks[1]["error"] is None and tasks[1]["interrupts"] == []
    assert [data for name, data in frames if name == "updates"] == [{"a": {"items": ["x"]}}, {"b": {"items": ["y"]}}]
    checkpoint = next(data for name, data in frames if name == "checkpoints")
    assert set(checkpoint["config"]["configurable"]) == {
        "checkpoint_ns", "checkpoint_id", "run_id", "thread_id", "graph_id", "assistant_id"
    }  # fmt: skip
    assert checkpoint["next"] == ["__start__"] and checkpoint["metadata"]["source"] == "input"
    assert checkpoint["parent_config"] is None


async def test_debug_tells_checkpoints_in_both_forms(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    frames = await frames_of(harness, "noop", {"items": []}, "debug")
    kinds = [data["type"] for name, data in frames if name == "debug"]
    assert kinds == [
        "checkpoint",
        "checkpoint",
        "task",
        "task_result",
        "checkpoint",
        "task",
        "task_result",
        "checkpoint",
    ]
    last = frames[-1][1]["payload"]
    assert set(last["checkpoint"]) >= {"checkpoint_id", "thread_id"}
    assert last["parent_checkpoint"]["checkpoint_id"] == frames[-4][1]["payload"]["checkpoint"]["checkpoint_id"]


async def test_custom_events_come_before_their_nodes_update_in_order(harness: ExecutorHarness, serving) -> None:
    await serving("tokens", "async_tokens")
    for graph in ("tokens", "async_tokens"):
        frames = await frames_of(harness, graph, {"items": [], "n": 300}, "custom", "updates")
        assert [data["token"] for name, data in frames if name == "custom"] == list(range(300))
        assert [name for name, _ in frames][-1] == "updates"


async def test_messages_tuple_chunks_make_up_the_message(harness: ExecutorHarness, serving) -> None:
    await serving("chat")
    frames = await frames_of(harness, "chat", {"messages": [("user", "hi")]}, "messages-tuple")
    chunks = [data for name, data in frames if name == "messages"]
    assert "".join(chunk["content"] for chunk, _ in chunks) == "one two three"
    assert {chunk["type"] for chunk, _ in chunks} == {"AIMessageChunk"}
    assert {chunk["id"] for chunk, _ in chunks} == {"answer"}
    assert chunks[-1][0]["chunk_position"] == "last"
    assert chunks[0][1]["langgraph_node"] == "model" and chunks[0][1]["graph_id"] == "chat"


async def test_messages_accumulate(harness: ExecutorHarness, serving) -> None:
    await serving("chat")
    frames = await frames_of(harness, "chat", {"messages": [("user", "hi")]}, "messages")
    assert {name for name, _ in frames} == {"metadata", "messages/metadata", "messages/partial"}
    assert frames[1][0] == "messages/metadata" and list(frames[1][1]) == ["answer"]
    partial = [data[0]["content"] for name, data in frames if name == "messages/partial"]
    assert partial[-1] == "one two three" and all(partial[-1].startswith(text) for text in partial)
    assert {data[0]["type"] for name, data in frames if name == "messages/partial"} == {"ai"}


async def test_a_subgraphs_messages_without_and_with_stream_subgraphs(harness: ExecutorHarness, serving) -> None:
    await serving("parent")
    given = {"messages": [("user", "hi")]}
    without = await frames_of(harness, "parent", given, "messages")
    assert [name for name, _ in without] == ["metadata", "messages/metadata", "messages/complete"]
    assert without[-1][1][0]["content"] == "one two three"
    within = await frames_of(harness, "parent", given, "messages", subgraphs=True)
    assert "messages/partial" in {name.partition("|")[0] for name, _ in within}
    assert {name.partition("|")[2].partition(":")[0] for name, _ in within if "partial" in name} == {"child"}
    chunks = await frames_of(harness, "parent", given, "messages-tuple", subgraphs=True)
    assert {name.split(":")[0] for name, _ in chunks} == {"metadata", "messages|child"}
    plain = await frames_of(harness, "parent", given, "messages-tuple")
    assert [data[0]["content"] for name, data in plain if name == "messages"] == ["one two three"]


async def test_subgraph_events_carry_their_namespace_and_only_on_request(harness: ExecutorHarness, serving) -> None:
    await serving("parent")
    given = {"messages": [("user", "hi")]}
    without = await frames_of(harness, "parent", given, "updates", "values")
    assert {name for name, _ in without} == {"metadata", "updates", "values"}
    within = await frames_of(harness, "parent", given, "updates", subgraphs=True)
    assert [name.split(":")[0] for name, _ in within] == ["metadata", "updates|child", "updates"]
    assert list(within[1][1]) == ["model"] and list(within[2][1]) == ["child"]


async def test_a_graph_called_synchronously_in_a_node_streams_and_checkpoints_like_any_subgraph(
    harness, serving
) -> None:
    await serving("calling")
    run_id = await harness.enqueue("calling", {"items": []}, stream_mode=["updates"], subgraphs=True)
    await harness.outcome(run_id)
    names = [name.split(":")[0] for name, _ in await harness.frames(run_id)]
    assert names == ["metadata", "updates|call", "updates|call", "updates", "~output"]
    items = await harness.items(run_id)
    inner = [i for i in items if i["kind"] == "checkpoint" and i["ns"].startswith("call:")]
    assert len(inner) == 4
    planned = {i["checkpoint_id"] for i in items if i["kind"] == "tasks"}
    assert {i["checkpoint_id"] for i in inner} <= planned


async def test_a_node_in_a_thread_waits_while_the_log_cannot_keep_up(
    harness: ExecutorHarness, serving, monkeypatch
) -> None:
    gate, append = asyncio.Event(), harness.log.append

    async def held(records):
        await gate.wait()
        return await append(records)

    executor = await serving("tokens", append_limits=AppendLimits(full_bytes=20_000))
    monkeypatch.setattr(harness.log, "append", held)
    run_id = await harness.enqueue("tokens", {"items": [], "n": 50_000}, stream_mode=["custom"])
    await eventually(lambda: executor.appender.buffer.full)
    queue = executor.attempts[run_id].queue
    before = await settled(lambda: queue.count)
    assert before < 10_000
    gate.set()
    await harness.outcome(run_id)
    assert [data["token"] for name, data in await harness.frames(run_id) if name == "custom"] == list(range(50_000))


@pytest.mark.parametrize("kilobytes", [6000, -6000], ids=["without a pause", "with pauses"])
async def test_a_node_on_the_loop_that_streams_fast_takes_no_memory_and_its_run_waits(
    harness: ExecutorHarness, serving, monkeypatch, kilobytes: int
) -> None:
    gate, append = asyncio.Event(), harness.log.append

    async def held(records):
        await gate.wait()
        return await append(records)

    executor = await serving("flood", append_limits=AppendLimits(full_bytes=100_000))
    monkeypatch.setattr(harness.log, "append", held)
    run_id = await harness.enqueue("flood", {"items": [], "n": kilobytes}, stream_mode=["custom"])
    await eventually(lambda: run_id in executor.attempts and executor.attempts[run_id].queue.count >= 6000)
    attempt = executor.attempts[run_id]
    assert sum(len(data) for _, data in attempt.queue.frames) < 2_000_000
    assert attempt.queue.full and executor.appender.buffer.queued_bytes < 2_000_000
    await settled(lambda: attempt.queue.count)
    assert attempt.working, "the next superstep waits"
    gate.set()
    assert (await harness.outcome(run_id))["status"] == "success"
    sent = [data.split()[0] for name, data in await harness.frames(run_id) if name == "custom"]
    assert sent == [str(i) for i in range(6000)]


async def test_a_node_that_is_too_far_ahead_of_the_log_fails(harness: ExecutorHarness, serving) -> None:
    limits = AppendLimits(full_bytes=20_000, spill_bytes=100_000)
    await serving("flood", "noop", append_limits=limits)
    run_id = await harness.enqueue("flood", {"items": [], "n": 3000}, stream_mode=["custom"])
    outcome = await harness.outcome(run_id)
    assert (outcome["status"], outcome["error"]["error"]) == ("error", "StreamTooFast")
    assert len(await harness.frames(run_id)) == outcome["frames"]
    assert (await harness.outcome(await harness.enqueue("noop", {"items": []})))["status"] == "success"


async def settled(value: Callable[[], int]) -> int:
    """The value, once it has stopped growing."""
    last = -1
    while last != value():
        last = value()
        await asyncio.sleep(0.1)
    return last


async def test_events_are_langchains_and_combine_with_other_modes(harness: ExecutorHarness, serving) -> None:
    await serving("chat")
    frames = await frames_of(harness, "chat", {"messages": [("user", "hi")]}, "events", "values")
    kinds = [data["event"] for name, data in frames if name == "events"]
    assert kinds[0] == "on_chain_start" and kinds[-1] == "on_chain_end" and "on_chat_model_stream" in kinds
    assert frames[1][1]["name"] == "chat" and not any(
        data["name"] == "chat" and data["event"] == "on_chain_stream" for name, data in frames if name == "events"
    )
    assert [data["messages"][-1]["content"] for name, data in frames if name == "values"][-1] == "one two three"


async def test_values_and_updates_show_the_output_schema_only(harness: ExecutorHarness, serving) -> None:
    await serving("narrow")
    frames = await frames_of(harness, "narrow", {"q": "hi"}, "values", "updates")
    assert frames[1:] == [
        ("updates", {"think": None}),
        ("updates", {"say": {"a": "hix"}}),
        ("values", {"a": "hix"}),
    ]
    stopped = await harness.enqueue("narrow", {"q": "hi"}, stream_mode=["updates"], interrupt_before=["say"])
    await harness.outcome(stopped)
    assert (await harness.frames(stopped))[-1] == ("~output", {})


async def test_a_failed_task_tells_its_error_as_a_run_does(harness: ExecutorHarness, serving) -> None:
    await serving("failing")
    frames = await frames_of(harness, "failing", {"items": []}, "tasks")
    failed = [data for name, data in frames if name == "tasks"][-1]
    assert failed["name"] == "boom" and failed["error"] == {"error": "ValueError", "message": "kaboom"}


async def test_modes_that_have_nothing_to_tell_show_nothing(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    assert [name for name, _ in await frames_of(harness, "noop", {"items": []}, "tools", "lifecycle")] == ["metadata"]


async def test_frames_that_fail_to_be_appended_are_sent_again_and_read_once(harness: ExecutorHarness, serving) -> None:
    await serving("noop", "tokens")
    warm = await harness.enqueue("noop", {"items": []})
    await harness.outcome(warm)
    harness.log.fail_next(LogUnavailable("away"))
    harness.log.fail_next(AppendUnknown("who knows"), landed=True)
    run_id = await harness.enqueue("tokens", {"items": [], "n": 50}, stream_mode=["custom"])
    await harness.outcome(run_id)
    frames = await harness.frames(run_id)
    assert [data["token"] for name, data in frames if name == "custom"] == list(range(50))


async def test_node_threads_make_way_unless_that_is_switched_off(harness: ExecutorHarness, serving) -> None:
    assert (await serving("chat")).appender.precedence is not None
    executor = await serving("chat", loop_yield=False)
    assert executor.appender.precedence is None
    run_id = await harness.enqueue("chat", {"messages": [("user", "hi")]}, stream_mode=["messages-tuple"])
    assert (await harness.outcome(run_id))["status"] == "success"
