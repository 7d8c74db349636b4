"""What an attempt's checkpointer reports, remembers and reads."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, MessagesState, StateGraph

from tests.checkpointer import graphs
from tests.checkpointer.checkpointer_harness import CheckpointerHarness
from tests.checkpointer.puts import at, blobs, noise, put, thread_id, without_database
from tests.checkpointer.test_states import Thread
from threadlog.engine.executor.checkpointer.serde import UnserializableState
from threadlog.engine.executor.checkpointer.values import LARGE_BYTES
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import LogUnavailable, Topic
from threadlog.engine.log.records import partition_of

# --- reading ---------------------------------------------------------------------------------------------------------


async def test_a_run_on_a_fresh_thread_reads_nothing(harness: CheckpointerHarness) -> None:
    run = without_database(await harness.run(thread_id()))
    assert run.fresh
    for make, given in ((graphs.subgraphs, {"items": ["in"]}), (graphs.fanning_out, {"items": []})):
        graph = make().compile(checkpointer=run.saver)
        await graph.ainvoke(given, at(run))
    assert run.reported


async def test_a_run_on_a_known_thread_reads_its_subgraphs_only_where_they_have_been(
    harness: CheckpointerHarness,
) -> None:
    thread = Thread(harness, graphs.subgraphs())
    await thread.run({"items": ["in"]})
    run = await harness.run(thread.thread_id)
    reads: list[str] = []

    class Counting:
        async def fetchrow(self, query: str, *args: Any) -> Any:
            reads.append(args[1])
            return await harness.pool.fetchrow(query, *args)

        async def fetch(self, query: str, *args: Any) -> Any:
            return await harness.pool.fetch(query, *args)

    run.saver._loader._pool = Counting()  # type: ignore[assignment]
    graph = graphs.subgraphs().compile(checkpointer=run.saver)
    await graph.ainvoke({"items": ["a new beginning"]}, at(run))
    assert reads == [""], "new tasks have new namespaces: only the thread's own state was read"


async def test_what_was_put_is_read_back_before_it_is_reported(harness: CheckpointerHarness) -> None:
    run = without_database(await harness.run(thread_id()))
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
    harness: CheckpointerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadlog.engine.executor.checkpointer.values._KEPT_BYTES", 1000)
    monkeypatch.setattr("threadlog.engine.executor.checkpointer.cache._CHECKPOINTS_KEPT", 2)
    run = await harness.run(thread_id())
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


async def test_writes_that_come_before_their_checkpoint_are_kept(harness: CheckpointerHarness) -> None:
    run = without_database(await harness.run(thread_id()))
    checkpoint = empty_checkpoint()
    await run.saver.aput_writes(at(run, checkpoint["id"]), [("a", 1)], "t")
    await run.saver.aput(at(run), checkpoint, {}, {})
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.pending_writes == [("t", "a", 1)]


async def test_the_first_regular_write_stays_and_the_last_special_one_counts(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    checkpoint_id = await put(run, {"a": 1})
    for value in ("first", "second"):
        await run.saver.aput_writes(at(run, checkpoint_id), [("a", value), ("__interrupt__", value)], "t")
    expected = [("t", "__interrupt__", "second"), ("t", "a", "first")]
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.pending_writes == expected
    await run.end()
    later = (await harness.run(run.thread_id)).saver
    found = await later.aget_tuple(at(run))
    assert found is not None
    assert found.pending_writes == expected


async def test_writes_come_in_the_order_of_task_paths(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    checkpoint_id = await put(run, {"a": 1})
    for task, path in (("t3", "~b"), ("t1", "~c"), ("t2", "~a"), ("t0", "")):
        await run.saver.aput_writes(at(run, checkpoint_id), [("a", path), ("b", path)], task, path)
    expected = ["t0", "t0", "t2", "t2", "t3", "t3", "t1", "t1"]
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert [write[0] for write in found.pending_writes or ()] == expected
    await run.end()
    found = await (await harness.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    assert [write[0] for write in found.pending_writes or ()] == expected


# --- storing ---------------------------------------------------------------------------------------------------------


async def test_a_value_is_sent_once(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    text, other = "text " * 200, "other " * 200
    first = await put(run, {"a": text, "b": other})
    second = await put(run, {"a": text, "b": other}, ["b"], first)
    await run.saver.aput_writes(at(run, second), [("a", text)], "t")
    await put(run, {"a": other, "c": text}, None, second)
    assert len(blobs(run)) == 2
    await run.end()
    later = await harness.run(run.thread_id)
    await later.saver.aget_tuple(at(later))
    await put(later, {"a": text}, None, second)
    assert blobs(later) == [], "nor by another run that has read it"


async def test_small_values_stand_in_the_checkpoint(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    await put(run, {"a": 1, "b": "short", "c": None, "d": [], "e": {"x": [1]}, "f": b"bytes"})
    assert blobs(run) == []
    found = await run.saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["e"] == {"x": [1]}


async def test_a_large_value_is_in_the_values_topic_before_it_is_reported(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    big = noise(LARGE_BYTES * 3)
    partition = partition_of(run.thread_id, harness.log.partitions)
    _, before = await harness.log.bounds(Topic.VALUES, partition)
    checkpoint_id = await put(run, {"big": big, "small": "x" * 300})
    [large] = [blob for blob in blobs(run) if "at" in blob]
    [record] = await harness.log.read(Topic.VALUES, partition, before)
    assert (record.offset, record.key, record.value) == (large["at"], run.thread_id, big)
    await run.saver.aput_writes(at(run, checkpoint_id), [("other", big)], "t")
    assert (await harness.log.bounds(Topic.VALUES, partition))[1] == before + 1, "once"
    await run.end()
    found = await (await harness.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint["channel_values"]["big"] == big


async def test_a_large_value_put_twice_at_once_is_appended_once(harness: CheckpointerHarness) -> None:
    """LangGraph puts the writes of a step and the checkpoint made of them at the same time."""
    run = await harness.run(thread_id())
    big = noise(300_000)
    checkpoint_id = str(uuid6())
    await asyncio.gather(
        run.saver.aput_writes(at(run, checkpoint_id), [("big", big)], "t"),
        put(run, {"big": big}),
        run.saver.aput_writes(at(run, checkpoint_id), [("big", big)], "u"),
    )
    ends = [await harness.log.bounds(Topic.VALUES, p) for p in range(harness.log.partitions)]
    assert sum(end for _, end in ends) == 1
    assert [len(item["blobs"]) for item in run.reported] == [1, 0, 0], "who refers to it comes after it"


async def test_an_append_of_a_large_value_is_repeated_until_it_works(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())

    class Shaky(MemoryLog):
        failures = 2

        async def append(self, records: Any) -> list[int]:
            if self.failures:
                self.failures -= 1
                raise LogUnavailable("away")
            return await harness.log.append(records)

    run.saver._sender._log = Shaky(4)
    await put(run, {"big": noise(LARGE_BYTES * 2)})
    assert len(blobs(run)) == 1


async def test_a_put_that_waits_lets_nobody_refer_to_its_values(harness: CheckpointerHarness) -> None:
    """Otherwise a crash between the two would leave a reference without a value in the log."""
    run = await harness.run(thread_id())
    reached, go = asyncio.Event(), asyncio.Event()

    class Slow(MemoryLog):
        async def append(self, records: Any) -> list[int]:
            reached.set()
            await go.wait()
            return await harness.log.append(records)

    run.saver._sender._log = Slow(4)
    text = "text " * 200
    slow = asyncio.create_task(put(run, {"big": noise(LARGE_BYTES * 2), "a": text}))
    await reached.wait()
    await run.saver.aput_writes(at(run, str(uuid6())), [("a", text)], "t")
    assert len(run.reported[0]["blobs"]) == 1, "the writes carry their own copy"
    go.set()
    await slow


async def test_a_message_changed_in_place_is_stored_anew(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
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


async def test_a_wide_dict_stores_what_changed_of_it(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
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
async def test_a_chat_is_stored_in_proportion_to_what_is_said(harness: CheckpointerHarness, nested: bool) -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [AIMessage(noise(150, len(s["messages"])).hex())]})
    graph.add_edge(START, "model")
    if nested:
        outer = StateGraph(MessagesState)
        outer.add_node("agent", graph.compile())
        outer.add_edge(START, "agent")
        graph = outer
    thread = Thread(harness, graph)
    turns, said = 100, 0
    for n in range(turns):
        text = noise(150, 10_000 + n).hex()
        said += 2 * len(text)
        await thread.run({"messages": [HumanMessage(text)]})
    stored = await harness.pool.fetchval(
        "SELECT sum(length(data)) FROM channel_values WHERE thread_id = $1", uuid.UUID(thread.thread_id)
    )
    assert stored < 6 * said, "the square would be a hundred times as much"
    assert harness.event_bytes < turns * (40_000 if nested else 14_000)


async def test_a_state_that_cannot_be_stored_is_named(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    for value in (lambda: 0, [lambda: 0] * 20, {"big": "x" * 5000, "f": lambda: 0}, 10**5000):
        with pytest.raises(UnserializableState, match="'culprit'"):
            await put(run, {"culprit": value})
        with pytest.raises(UnserializableState, match="'culprit'"):
            await run.saver.aput_writes(at(run, str(uuid6())), [("culprit", value)], "t")
    assert run.reported == []


async def test_metadata_is_plain_json_that_jsonb_takes(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
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
    found = await (await harness.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    metadata: dict[str, Any] = dict(found.metadata)
    assert metadata["graph_id"] == "g"
    assert metadata["text"] == "nl"
    assert (metadata["tuple"], metadata["nan"], metadata["half"]) == ([1, 2], None, "?")
    assert "object" not in metadata


async def test_versions_of_any_type_are_kept(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"a": 1, "b": 2, "c": 3}
    checkpoint["channel_versions"] = {"a": "00000000000000000000000000000003.0.5", "b": 1.5, "c": 7}
    checkpoint["versions_seen"] = {"n": {"a": "00000000000000000000000000000003.0.5"}}
    await run.saver.aput(at(run), checkpoint, {}, checkpoint["channel_versions"])
    await run.end()
    found = await (await harness.run(run.thread_id)).saver.aget_tuple(at(run))
    assert found is not None
    assert found.checkpoint == {**checkpoint, "channel_values": {"a": 1, "b": 2, "c": 3}}
