"""When a put is durable, whose threads an attempt may write to, deletion, and calls from anywhere."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import asyncpg
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from tests.checkpointer import graphs
from tests.checkpointer.checkpointer_harness import CheckpointerHarness
from tests.checkpointer.puts import at, blobs, put, thread_id
from tests.checkpointer.test_states import Thread
from tests.installed import needs
from threadlog.engine.executor.checkpointer.saver import ThreadlogSaver
from threadlog.engine.executor.checkpointer.standalone import CommandRefused, StandaloneSaver
from threadlog.projections.queries.state import get_state


async def test_a_sync_put_returns_when_it_is_durable(harness: CheckpointerHarness) -> None:
    lazy, sync = await harness.run(thread_id()), await harness.run(thread_id(), sync=True)
    await put(lazy, {"a": 1})
    assert lazy.items, "buffered"
    await put(sync, {"a": 1})
    assert sync.reported and not sync.items, "reported"


async def test_a_graph_called_synchronously_in_a_node_thread(harness: CheckpointerHarness) -> None:
    inner = graphs.subgraphs()

    def node(state: Any) -> dict[str, Any]:
        return {"items": inner.compile().invoke({"items": ["sync"]})["items"]}

    graph = StateGraph(graphs.Wide)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    thread = Thread(harness, graph)
    await thread.run({"items": ["in"]})
    history = await thread.compare()
    [interrupted] = history[0]["interrupts"]
    [event] = [e for e in thread.last if e["type"] == "run.succeeded"]
    assert [i["id"] for found in event["interrupts"].values() for i in found] == [interrupted["id"]]
    assert next(iter(event["interrupts"])) != history[0]["tasks"][0]["id"], "told by the task that asks"
    await thread.run(Command(resume="deep"))
    assert "deep" in (await thread.compare())[0]["values"]["items"]


async def test_a_synchronous_call_on_the_loop_works_while_nothing_has_to_be_waited_for(
    harness: CheckpointerHarness,
) -> None:
    run = await harness.run(thread_id())
    graph = graphs.noop().compile(checkpointer=run.saver)
    assert graph.get_state(at(run)).values == {}
    checkpoint_id = await put(run, {"a": 1})
    assert run.saver.get(at(run)) is not None
    await run.end()
    later = await harness.run(run.thread_id)
    with pytest.raises(RuntimeError, match="ainvoke"):
        later.saver.get_tuple(at(run, checkpoint_id))


async def test_a_run_writes_to_its_own_thread_only(harness: CheckpointerHarness) -> None:
    mine, other = await harness.run(thread_id()), await harness.run(thread_id())
    await put(other, {"a": "theirs"})
    await other.end()
    with pytest.raises(ValueError, match="start a run on that thread"):
        await mine.saver.aput(at(other), empty_checkpoint(), {}, {})
    found = await mine.saver.aget_tuple(at(other))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": "theirs"}
    assert [t.checkpoint["channel_values"] async for t in mine.saver.alist(at(other))] == [{"a": "theirs"}]


async def test_a_run_may_prune_and_delete_on_its_own_thread(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    text = "kept " * 100
    first = await put(run, {"a": text, "b": "gone " * 100})
    second = await put(run, {"a": text}, None, first)
    await run.saver.aprune([run.thread_id])
    assert [t.checkpoint["id"] async for t in run.saver.alist(at(run))] == [second]
    third = await put(run, {"a": text, "b": "gone " * 100}, None, second)
    found = await run.saver.aget_tuple(at(run, third))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": text, "b": "gone " * 100}
    await run.saver.adelete_for_runs([run.run_id])
    assert await run.saver.aget_tuple(at(run)) is None
    with pytest.raises(ValueError, match="API"):
        await run.saver.adelete_thread(run.thread_id)


async def test_a_run_deleted_while_another_is_in_flight_leaves_its_values(
    harness: CheckpointerHarness, pool: asyncpg.Pool
) -> None:
    from threadlog.engine.domain.commands import DeleteRun

    first = await harness.run(thread_id())
    text = "shared " * 100
    parent = await put(first, {"a": text})
    await first.end()
    second = await harness.run(first.thread_id)
    await pool.execute("UPDATE run_queue SET owner = 'e' WHERE run_id = $1", uuid.UUID(second.run_id))
    await second.saver.aget_tuple(at(second))
    await harness.submit(DeleteRun(thread_id=first.thread_id, run_id=first.run_id))
    await put(second, {"a": text}, [], parent)
    await second.end()
    found = await (await harness.run(first.thread_id)).saver.aget_tuple(at(first))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": text}


async def test_finishing_twice_or_without_a_graph_is_harmless(harness: CheckpointerHarness) -> None:
    thread = Thread(harness, graphs.parallel())
    run = await harness.run(thread.thread_id)
    graph = graphs.parallel().compile(checkpointer=run.saver)
    await graph.ainvoke({"items": []}, at(run))
    await run.saver.finish()
    await run.saver.finish(graph, at(run))
    reported = len(run.reported)
    await run.saver.finish(graph, at(run))
    assert len(run.reported) <= reported + 1
    await run.end()
    async with harness.pool.acquire() as conn:
        state = await get_state(conn, run.thread_id)
    assert (state["next"], state["values"]["items"]) == (["left", "right"], ["quick"])


async def test_interrupts_are_told_as_json(harness: CheckpointerHarness) -> None:
    graph = StateGraph(graphs.Wide)
    graph.add_node("ask", lambda s: interrupt({"id": uuid.UUID(int=1), 2: {3}, "nan": float("nan")}))
    graph.add_edge(START, "ask")
    thread = Thread(harness, graph)
    await thread.run({"items": []})
    [event] = [e for e in thread.last if e["type"] == "run.succeeded"]
    [[found]] = event["interrupts"].values()
    assert found["value"] == {"id": str(uuid.UUID(int=1)), "2": [3], "nan": None}


@needs("langgraph-checkpoint", "4.0.1")
def test_the_synchronous_half_is_complete() -> None:
    for name in ("get_tuple", "list", "put", "put_writes", "delete_thread", "delete_for_runs", "copy_thread", "prune"):
        assert getattr(ThreadlogSaver, name) is not getattr(ThreadlogSaver.__mro__[2], name)


class Mine(BaseModel):
    """A type of the user's."""

    x: int


async def test_the_users_types_load_without_a_warning(
    harness: CheckpointerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    run = await harness.run(thread_id())
    await put(run, {"a": Mine(x=1), "list": [Mine(x=n) for n in range(20)]})
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["a"] == Mine(x=1)
    assert found.checkpoint["channel_values"]["list"][3] == Mine(x=3)
    assert caplog.records == []


@needs("langgraph-checkpoint", "4.0.1")
async def test_a_strict_serializer_is_widened_by_the_graph(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    saver = run.saver
    saver.serde = saver._values.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    await put(run, {"a": Mine(x=1)})
    found = await saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["a"] == {"x": 1}, "not loaded as what it was"
    assert saver.with_allowlist([(Mine.__module__, "Mine")]) is saver, "one checkpointer, one memory"
    found = await saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["a"] == Mine(x=1)


async def test_a_standalone_checkpointer_is_called_synchronously_from_threads(harness: CheckpointerHarness) -> None:
    saver = StandaloneSaver(pool=harness.pool, log=harness.log, gateway=harness)
    graph = graphs.talking().compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": thread_id()}}
    await asyncio.to_thread(graph.invoke, graphs.chat_input("hi"), config)
    state = await asyncio.to_thread(graph.get_state, config)
    assert [message.type for message in state.values["messages"]] == ["human", "ai"]
    assert len(await asyncio.to_thread(lambda: list(graph.get_state_history(config)))) == 4
    with pytest.raises(RuntimeError, match="ainvoke"):
        graph.invoke(graphs.chat_input("again"), config)
    await asyncio.to_thread(saver.prune, [config["configurable"]["thread_id"]])
    assert (await graph.aget_state(config)).values == state.values


async def test_a_standalone_checkpointer_raises_what_the_engine_rejects(harness: CheckpointerHarness) -> None:
    saver = StandaloneSaver(pool=harness.pool, log=harness.log, gateway=harness)
    run = await harness.run(thread_id())
    with pytest.raises(CommandRefused, match="already running"):
        await saver.aprune([run.thread_id])
    await run.end()
    await saver.aprune([run.thread_id])
    for strategy in ("keep_latest", "delete"):  # of a thread that does not exist there is nothing to prune
        await saver.aprune([thread_id()], strategy=strategy)


async def test_two_runs_of_a_thread_from_two_processes_share_nothing_but_the_read_models(
    harness: CheckpointerHarness,
) -> None:
    """What an attempt learnt by reading is enough to continue without storing anything again."""
    tid = thread_id()
    messages = [HumanMessage(f"message {n} " * 30, id=str(n)) for n in range(50)]
    parent = None
    sizes = []
    for n in range(10, 50, 5):
        run = await harness.run(tid)
        found = await run.saver.aget_tuple(at(run))
        before = found.checkpoint["channel_values"]["messages"] if found else []
        parent = await put(run, {"messages": [*before, *messages[len(before) : n]]}, None, parent)
        sizes.append(sum(n for name, n in run.reported[0]["channels"]["messages"]["s"]))
        assert len(blobs(run)) == 1, "only what is new"
        await run.end()
    assert sizes == list(range(10, 50, 5))


@pytest.mark.parametrize(
    "value",
    ["\0" * 200, "a\0\\u0000Ā" * 40, bytes(range(256)) * 2, list(range(20)) * 4, {"tokens": [0] * 99}, "é" * 2000],
    ids=["nul", "escapes", "bytes", "numbers", "zeros", "text"],
)
async def test_every_byte_of_a_value_survives_the_log(harness: CheckpointerHarness, value: Any) -> None:
    run = await harness.run(str(uuid.uuid4()))
    saved = await put(run, {"x": value})
    await run.end()
    again = await harness.run(run.thread_id)
    found = await again.saver.aget_tuple(at(again, saved))
    assert found is not None
    assert found.checkpoint["channel_values"]["x"] == value
