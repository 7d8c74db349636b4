"""What an attempt's checkpointer reports, remembers and reads."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import asyncpg
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from engine.executor.checkpointer import ThreadlogSaver
from engine.executor.serde import UnserializableState
from engine.executor.standalone import StandaloneSaver
from engine.executor.values import LARGE_BYTES
from engine.log.memory import MemoryLog
from engine.log.port import LogUnavailable, Topic
from engine.log.records import partition_of
from projections.queries.state import get_state
from tests.checkpointer import graphs
from tests.checkpointer.desk import Desk, Run
from tests.checkpointer.test_states import Thread


def thread_id() -> str:
    return str(uuid.uuid4())


async def put(
    run: Run, values: dict[str, Any], changed: list[str] | None = None, parent: str | None = None, ns: str = ""
) -> str:
    """Put a checkpoint of these channel values; returns its id."""
    checkpoint = empty_checkpoint()
    checkpoint["id"] = str(uuid6())
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, 1)
    versions = dict.fromkeys(values if changed is None else changed, 1)
    config: Any = {"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ns}}
    if parent is not None:
        config["configurable"]["checkpoint_id"] = parent
    put = await run.saver.aput(config, checkpoint, {"source": "loop", "step": 0}, versions)  # type: ignore[arg-type]
    return str(put["configurable"]["checkpoint_id"])


def at(run: Run, checkpoint_id: str | None = None, ns: str = "") -> Any:
    configurable = {"thread_id": run.thread_id, "checkpoint_ns": ns}
    return {"configurable": configurable if checkpoint_id is None else {**configurable, "checkpoint_id": checkpoint_id}}


def blobs(run: Run) -> list[dict[str, Any]]:
    return [blob for item in run.reported for blob in item.get("blobs", ())]


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class NoPool:
    """Fails whoever asks the database."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("nothing has to be read")


def without_database(run: Run) -> Run:
    run.saver._pool = NoPool()  # type: ignore[assignment]
    return run


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_a_run_on_a_fresh_thread_reads_nothing(desk: Desk) -> None:
    run = without_database(await desk.run(thread_id()))
    assert run.fresh
    for make, given in ((graphs.subgraphs, {"items": ["in"]}), (graphs.fanning_out, {"items": []})):
        graph = make().compile(checkpointer=run.saver)
        await graph.ainvoke(given, at(run))
    assert run.reported


async def test_a_run_on_a_known_thread_reads_its_subgraphs_only_where_they_have_been(desk: Desk) -> None:
    thread = Thread(desk, graphs.subgraphs())
    await thread.run({"items": ["in"]})
    run = await desk.run(thread.thread_id)
    reads: list[str] = []

    class Counting:
        async def fetchrow(self, query: str, *args: Any) -> Any:
            reads.append(args[1])
            return await desk.pool.fetchrow(query, *args)

        async def fetch(self, query: str, *args: Any) -> Any:
            return await desk.pool.fetch(query, *args)

    run.saver._pool = Counting()  # type: ignore[assignment]
    graph = graphs.subgraphs().compile(checkpointer=run.saver)
    await graph.ainvoke({"items": ["a new beginning"]}, at(run))
    assert reads == [""], "new tasks have new namespaces: only the thread's own state was read"


async def test_what_was_put_is_read_back_before_it_is_reported(desk: Desk) -> None:
    run = without_database(await desk.run(thread_id()))
    first = await put(run, {"a": 1, "b": [1, 2], "c": "x" * 500})
    await run.saver.aput_writes(at(run, first), [("a", {"w": 1}), ("b", [3])], "t1", "~p")
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": 1, "b": [1, 2], "c": "x" * 500}
    assert found.pending_writes == [("t1", "a", {"w": 1}), ("t1", "b", [3])]
    found.checkpoint["channel_values"]["b"].append(9)
    again = await run.saver.aget_tuple(at(run, first))
    assert again is not None
    assert again.checkpoint["channel_values"]["b"] == [1, 2], "each reading has values of its own"


async def test_what_memory_has_dropped_is_read_from_the_read_models(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.executor.values._KEPT_BYTES", 1000)
    monkeypatch.setattr("engine.executor.memory._CHECKPOINTS_KEPT", 2)
    run = await desk.run(thread_id())
    ids: list[str] = []
    for n in range(5):
        values = {"big": noise(900, n), "same": "s" * 400, "list": [noise(90, i) for i in range(n)]}
        ids.append(await put(run, values, ["big", "list"] if n else None, ids[-1] if n else None))
    for n, checkpoint_id in enumerate(ids):
        found = await run.saver.aget_tuple(at(run, checkpoint_id))
        assert found is not None
        values = found.checkpoint["channel_values"]
        assert values == {"big": noise(900, n), "same": "s" * 400, "list": [noise(90, i) for i in range(n)]}
    assert [t.checkpoint["id"] async for t in run.saver.alist(at(run))] == ids[::-1]


async def test_writes_that_come_before_their_checkpoint_are_kept(desk: Desk) -> None:
    run = without_database(await desk.run(thread_id()))
    checkpoint = empty_checkpoint()
    await run.saver.aput_writes(at(run, checkpoint["id"]), [("a", 1)], "t")
    await run.saver.aput(at(run), checkpoint, {}, {})
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.pending_writes == [("t", "a", 1)]


async def test_the_first_regular_write_stays_and_the_last_special_one_counts(desk: Desk) -> None:
    run = await desk.run(thread_id())
    checkpoint_id = await put(run, {"a": 1})
    for value in ("first", "second"):
        await run.saver.aput_writes(at(run, checkpoint_id), [("a", value), ("__interrupt__", value)], "t")
    expected = [("t", "__interrupt__", "second"), ("t", "a", "first")]
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.pending_writes == expected
    await run.end()
    later = (await desk.run(run.thread_id)).saver
    found = await later.aget_tuple(at(run))
    assert found is not None
    assert found.pending_writes == expected


async def test_writes_come_in_the_order_of_task_paths(desk: Desk) -> None:
    run = await desk.run(thread_id())
    checkpoint_id = await put(run, {"a": 1})
    for task, path in (("t3", "~b"), ("t1", "~c"), ("t2", "~a"), ("t0", "")):
        await run.saver.aput_writes(at(run, checkpoint_id), [("a", path), ("b", path)], task, path)
    expected = ["t0", "t0", "t2", "t2", "t3", "t3", "t1", "t1"]
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert [write[0] for write in found.pending_writes or ()] == expected
    await run.end()
    found = await (await desk.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    assert [write[0] for write in found.pending_writes or ()] == expected


# --- storing ---------------------------------------------------------------------------------------------------------


async def test_a_value_is_sent_once(desk: Desk) -> None:
    run = await desk.run(thread_id())
    text, other = "text " * 200, "other " * 200
    first = await put(run, {"a": text, "b": other})
    second = await put(run, {"a": text, "b": other}, ["b"], first)
    await run.saver.aput_writes(at(run, second), [("a", text)], "t")
    await put(run, {"a": other, "c": text}, None, second)
    assert len(blobs(run)) == 2
    await run.end()
    later = await desk.run(run.thread_id)
    await later.saver.aget_tuple(at(later))
    await put(later, {"a": text}, None, second)
    assert blobs(later) == [], "nor by another run that has read it"


async def test_small_values_stand_in_the_checkpoint(desk: Desk) -> None:
    run = await desk.run(thread_id())
    await put(run, {"a": 1, "b": "short", "c": None, "d": [], "e": {"x": [1]}, "f": b"bytes"})
    assert blobs(run) == []
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["e"] == {"x": [1]}


async def test_a_large_value_is_in_the_values_topic_before_it_is_reported(desk: Desk) -> None:
    run = await desk.run(thread_id())
    big = noise(LARGE_BYTES * 3)
    partition = partition_of(run.thread_id, desk.log.partitions)
    _, before = await desk.log.bounds(Topic.VALUES, partition)
    checkpoint_id = await put(run, {"big": big, "small": "x" * 300})
    [large] = [blob for blob in blobs(run) if "at" in blob]
    [record] = await desk.log.read(Topic.VALUES, partition, before)
    assert (record.offset, record.key, record.value) == (large["at"], run.thread_id, big)
    await run.saver.aput_writes(at(run, checkpoint_id), [("other", big)], "t")
    assert (await desk.log.bounds(Topic.VALUES, partition))[1] == before + 1, "once"
    await run.end()
    found = await (await desk.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["big"] == big


async def test_a_large_value_put_twice_at_once_is_appended_once(desk: Desk) -> None:
    """LangGraph puts the writes of a step and the checkpoint made of them at the same time."""
    run = await desk.run(thread_id())
    big = noise(300_000)
    checkpoint_id = str(uuid6())
    await asyncio.gather(
        run.saver.aput_writes(at(run, checkpoint_id), [("big", big)], "t"),
        put(run, {"big": big}),
        run.saver.aput_writes(at(run, checkpoint_id), [("big", big)], "u"),
    )
    ends = [await desk.log.bounds(Topic.VALUES, p) for p in range(desk.log.partitions)]
    assert sum(end for _, end in ends) == 1
    assert [len(item["blobs"]) for item in run.reported] == [1, 0, 0], "who refers to it comes after it"


async def test_an_append_of_a_large_value_is_repeated_until_it_works(desk: Desk) -> None:
    run = await desk.run(thread_id())

    class Shaky(MemoryLog):
        failures = 2

        async def append(self, records: Any) -> list[int]:
            if self.failures:
                self.failures -= 1
                raise LogUnavailable("away")
            return await desk.log.append(records)

    run.saver._log = Shaky(4)
    await put(run, {"big": noise(LARGE_BYTES * 2)})
    assert len(blobs(run)) == 1


async def test_a_put_that_waits_lets_nobody_refer_to_its_values(desk: Desk) -> None:
    """Otherwise a crash between the two would leave a reference without a value in the log."""
    run = await desk.run(thread_id())
    reached, go = asyncio.Event(), asyncio.Event()

    class Slow(MemoryLog):
        async def append(self, records: Any) -> list[int]:
            reached.set()
            await go.wait()
            return await desk.log.append(records)

    run.saver._log = Slow(4)
    text = "text " * 200
    slow = asyncio.create_task(put(run, {"big": noise(LARGE_BYTES * 2), "a": text}))
    await reached.wait()
    await run.saver.aput_writes(at(run, str(uuid6())), [("a", text)], "t")
    assert len(run.reported[0]["blobs"]) == 1, "the writes carry their own copy"
    go.set()
    await slow


async def test_a_message_changed_in_place_is_stored_anew(desk: Desk) -> None:
    run = await desk.run(thread_id())
    messages = [HumanMessage(f"message {n} " * 20, id=str(n)) for n in range(20)]
    first = await put(run, {"messages": messages})
    messages[3].content = "changed"
    messages[4].additional_kwargs["deep"] = {"changed": True}
    await put(run, {"messages": list(messages)}, None, first)
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    read = found.checkpoint["channel_values"]["messages"]
    assert (read[3].content, read[4].additional_kwargs) == ("changed", {"deep": {"changed": True}})
    before = await run.saver.aget_tuple(at(run, first))
    assert before is not None
    assert before.checkpoint["channel_values"]["messages"][3].content.startswith("message 3")


async def test_a_wide_dict_stores_what_changed_of_it(desk: Desk) -> None:
    run = await desk.run(thread_id())
    state = {"document": "d" * 5000, "log": [f"line {n} {'x' * 50}" for n in range(100)], "n": 0}
    first = await put(run, {"__root__": state})
    before = len(blobs(run))
    state = {**state, "log": [*state["log"], "one more " + "y" * 100], "n": 1}  # type: ignore[misc]
    await put(run, {"__root__": state}, None, first)
    new = blobs(run)[before:]
    assert len(new) == 1 and len(new[0]["d"]) < 200
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["__root__"] == state
    assert list(found.checkpoint["channel_values"]["__root__"]) == list(state)


@pytest.mark.parametrize("nested", [False, True], ids=["a graph", "a subgraph"])
async def test_a_chat_is_stored_in_proportion_to_what_is_said(desk: Desk, nested: bool) -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [AIMessage(noise(150, len(s["messages"])).hex())]})
    graph.add_edge(START, "model")
    if nested:
        outer = StateGraph(MessagesState)
        outer.add_node("agent", graph.compile())
        outer.add_edge(START, "agent")
        graph = outer
    thread = Thread(desk, graph)
    turns, said = 100, 0
    for n in range(turns):
        text = noise(150, 10_000 + n).hex()
        said += 2 * len(text)
        await thread.run({"messages": [HumanMessage(text)]})
    stored = await desk.pool.fetchval(
        "SELECT sum(length(data)) FROM channel_values WHERE thread_id = $1", uuid.UUID(thread.thread_id)
    )
    assert stored < 6 * said, "the square would be a hundred times as much"
    assert desk.event_bytes < turns * (40_000 if nested else 14_000)


async def test_a_state_that_cannot_be_stored_is_named(desk: Desk) -> None:
    run = await desk.run(thread_id())
    for value in (lambda: 0, [lambda: 0] * 20, {"big": "x" * 5000, "f": lambda: 0}, 2**70):
        with pytest.raises(UnserializableState, match="'culprit'"):
            await put(run, {"culprit": value})
        with pytest.raises(UnserializableState, match="'culprit'"):
            await run.saver.aput_writes(at(run, str(uuid6())), [("culprit", value)], "t")
    assert run.reported == []


async def test_metadata_is_plain_json_that_jsonb_takes(desk: Desk) -> None:
    run = await desk.run(thread_id())
    odd = {
        "nul\u0000": {"deep": ["a\u0000b"]},
        "half": "\ud800",
        "tuple": (1, 2),
        "nan": float("nan"),
        "id": uuid.UUID(int=1),
    }
    config = at(run)
    config["metadata"] = {"graph_id": "g", "text": "n\u0000l", "object": object()}
    await run.saver.aput(config, empty_checkpoint(), odd, {})  # type: ignore[arg-type]
    await run.end()
    found = await (await desk.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    metadata: dict[str, Any] = dict(found.metadata)
    assert metadata["graph_id"] == "g"
    assert metadata["text"] == "nl"
    assert (metadata["tuple"], metadata["nan"], metadata["half"]) == ([1, 2], None, "?")
    assert "object" not in metadata


async def test_versions_of_any_type_are_kept(desk: Desk) -> None:
    run = await desk.run(thread_id())
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"a": 1, "b": 2, "c": 3}
    checkpoint["channel_versions"] = {"a": "00000000000000000000000000000003.0.5", "b": 1.5, "c": 7}
    checkpoint["versions_seen"] = {"n": {"a": "00000000000000000000000000000003.0.5"}}
    await run.saver.aput(at(run), checkpoint, {}, checkpoint["channel_versions"])
    await run.end()
    found = await (await desk.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint == {**checkpoint, "channel_values": {"a": 1, "b": 2, "c": 3}}


# --- durability, threads, deletion -----------------------------------------------------------------------------------


async def test_a_sync_put_returns_when_it_is_durable(desk: Desk) -> None:
    lazy, sync = await desk.run(thread_id()), await desk.run(thread_id(), sync=True)
    await put(lazy, {"a": 1})
    assert lazy.items, "buffered"
    await put(sync, {"a": 1})
    assert sync.reported and not sync.items, "reported"


async def test_a_graph_called_synchronously_in_a_node_thread(desk: Desk) -> None:
    inner = graphs.subgraphs()

    def node(state: Any) -> dict[str, Any]:
        return {"items": inner.compile().invoke({"items": ["sync"]})["items"]}

    graph = StateGraph(graphs.Wide)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    thread = Thread(desk, graph)
    await thread.run({"items": ["in"]})
    history = await thread.compare()
    [interrupted] = history[0]["interrupts"]
    [event] = [e for e in thread.last if e["type"] == "run.succeeded"]
    assert [i["id"] for found in event["interrupts"].values() for i in found] == [interrupted["id"]]
    assert next(iter(event["interrupts"])) != history[0]["tasks"][0]["id"], "told by the task that asks"
    await thread.run(Command(resume="deep"))
    assert "deep" in (await thread.compare())[0]["values"]["items"]


async def test_a_synchronous_call_on_the_loop_works_while_nothing_has_to_be_waited_for(desk: Desk) -> None:
    run = await desk.run(thread_id())
    graph = graphs.noop().compile(checkpointer=run.saver)
    assert graph.get_state(at(run)).values == {}
    checkpoint_id = await put(run, {"a": 1})
    assert run.saver.get(at(run)) is not None
    await run.end()
    later = await desk.run(run.thread_id)
    with pytest.raises(RuntimeError, match="ainvoke"):
        later.saver.get_tuple(at(run, checkpoint_id))


async def test_a_run_writes_to_its_own_thread_only(desk: Desk) -> None:
    mine, other = await desk.run(thread_id()), await desk.run(thread_id())
    await put(other, {"a": "theirs"})
    await other.end()
    with pytest.raises(ValueError, match="start a run on that thread"):
        await mine.saver.aput(at(other), empty_checkpoint(), {}, {})
    found = await mine.saver.aget_tuple(at(other))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": "theirs"}
    assert [t.checkpoint["channel_values"] async for t in mine.saver.alist(at(other))] == [{"a": "theirs"}]


async def test_a_run_may_prune_and_delete_on_its_own_thread(desk: Desk) -> None:
    run = await desk.run(thread_id())
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


async def test_a_run_deleted_while_another_is_in_flight_leaves_its_values(desk: Desk, pool: asyncpg.Pool) -> None:
    from engine.domain.commands import DeleteRun

    first = await desk.run(thread_id())
    text = "shared " * 100
    parent = await put(first, {"a": text})
    await first.end()
    second = await desk.run(first.thread_id)
    await pool.execute("UPDATE run_queue SET owner = 'e' WHERE run_id = $1", uuid.UUID(second.run_id))
    await second.saver.aget_tuple(at(second))
    await desk.submit(DeleteRun(thread_id=first.thread_id, run_id=first.run_id), key=first.thread_id)
    await put(second, {"a": text}, [], parent)
    await second.end()
    found = await (await desk.run(first.thread_id)).saver.aget_tuple(at(first))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": text}


async def test_finishing_twice_or_without_a_graph_is_harmless(desk: Desk) -> None:
    thread = Thread(desk, graphs.parallel())
    run = await desk.run(thread.thread_id)
    graph = graphs.parallel().compile(checkpointer=run.saver)
    await graph.ainvoke({"items": []}, at(run))
    await run.saver.finish()
    await run.saver.finish(graph, at(run))
    reported = len(run.reported)
    await run.saver.finish(graph, at(run))
    assert len(run.reported) <= reported + 1
    await run.end()
    async with desk.pool.acquire() as conn:
        state = await get_state(conn, run.thread_id)
    assert (state["next"], state["values"]["items"]) == (["left", "right"], ["quick"])


async def test_interrupts_are_told_as_json(desk: Desk) -> None:
    graph = StateGraph(graphs.Wide)
    graph.add_node("ask", lambda s: interrupt({"id": uuid.UUID(int=1), 2: {3}, "nan": float("nan")}))
    graph.add_edge(START, "ask")
    thread = Thread(desk, graph)
    await thread.run({"items": []})
    [event] = [e for e in thread.last if e["type"] == "run.succeeded"]
    [[found]] = event["interrupts"].values()
    assert found["value"] == {"id": str(uuid.UUID(int=1)), "2": [3], "nan": None}


def test_the_synchronous_half_is_complete() -> None:
    for name in ("get_tuple", "list", "put", "put_writes", "delete_thread", "delete_for_runs", "copy_thread", "prune"):
        assert getattr(ThreadlogSaver, name) is not getattr(ThreadlogSaver.__mro__[2], name)


class Mine(BaseModel):
    """A type of the user's."""

    x: int


async def test_the_users_types_load_without_a_warning(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    run = await desk.run(thread_id())
    await put(run, {"a": Mine(x=1), "list": [Mine(x=n) for n in range(20)]})
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["a"] == Mine(x=1)
    assert found.checkpoint["channel_values"]["list"][3] == Mine(x=3)
    assert caplog.records == []


async def test_a_strict_serializer_is_widened_by_the_graph(desk: Desk) -> None:
    run = await desk.run(thread_id())
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


async def test_a_standalone_checkpointer_is_called_synchronously_from_threads(desk: Desk) -> None:
    saver = StandaloneSaver(pool=desk.pool, log=desk.log, gateway=desk)
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


async def test_two_runs_of_a_thread_from_two_processes_share_nothing_but_the_read_models(desk: Desk) -> None:
    """What an attempt learnt by reading is enough to continue without storing anything again."""
    tid = thread_id()
    messages = [HumanMessage(f"message {n} " * 30, id=str(n)) for n in range(50)]
    parent = None
    sizes = []
    for n in range(10, 50, 5):
        run = await desk.run(tid)
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
async def test_every_byte_of_a_value_survives_the_log(desk: Desk, value: Any) -> None:
    run = await desk.run(str(uuid.uuid4()))
    saved = await put(run, {"x": value})
    await run.end()
    again = await desk.run(run.thread_id)
    found = await again.saver.aget_tuple(at(again, saved))
    assert found is not None
    assert found.checkpoint["channel_values"]["x"] == value
