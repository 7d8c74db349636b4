"""Delta channels: rebuilt from ancestors, on forks, after pruning, in copies."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from tests.checkpointer import graphs
from tests.checkpointer.checkpointer_harness import CheckpointerHarness, Run
from tests.checkpointer.test_states import Thread
from tests.installed import delta_channels, has
from threadlog.engine.domain.commands import CreateThread, ImportCheckpoints, PruneThread
from threadlog.engine.executor.checkpointer.standalone import StandaloneSaver
from threadlog.projections.queries.state import export_items, get_state

if has("langgraph-checkpoint", "4.1"):
    from langgraph.checkpoint.serde.types import _DeltaSnapshot

pytestmark = delta_channels

VERSIONS = itertools.count(1)


async def checkpoint(run: Run, parent: str | None, values: dict[str, Any], writes: list[tuple[str, list[Any]]]) -> str:
    """A checkpoint that stores these values, and the writes of the superstep after it: (task path, written to `d`)."""
    made = empty_checkpoint()
    made["id"] = str(uuid6())
    made["channel_values"] = values
    made["channel_versions"] = {"d": next(VERSIONS), "e": 1}  # `d` changes with every checkpoint
    config: Any = {"configurable": {"thread_id": run.thread_id, "checkpoint_ns": "", "checkpoint_id": parent}}
    at = await run.saver.aput(config, made, {}, dict.fromkeys(values, 1))
    for path, written in writes:
        task = str(uuid.uuid4())
        await run.saver.aput_writes(at, [("d", value) for value in written] + [("other", "x")], task, path)
    return made["id"]


def at(thread_id: str, checkpoint_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}}


async def forked(run: Run) -> dict[str, str]:
    """root (seed) - a - b - head, and a fork from a with a snapshot on its way: a - f (snapshot) - tip."""
    root = await checkpoint(run, None, {"d": _DeltaSnapshot(["seed"]), "e": 5}, [("~b", ["r2"]), ("~a", ["r1"])])
    a = await checkpoint(run, root, {}, [("", ["a1", "a2"])])
    b = await checkpoint(run, a, {}, [("~x", ["b1"])])
    head = await checkpoint(run, b, {}, [("~x", ["pending"])])
    f = await checkpoint(run, a, {"d": ["plain"]}, [("~x", ["f1"])])
    tip = await checkpoint(run, f, {}, [])
    return {"root": root, "a": a, "b": b, "head": head, "f": f, "tip": tip}


@pytest.mark.parametrize("where", ["in memory", "in the read models"])
async def test_history_is_the_parents_writes_back_to_a_stored_value(harness: CheckpointerHarness, where: str) -> None:
    run = await harness.run(str(uuid.uuid4()))
    ids = await forked(run)
    saver = run.saver
    if where == "in the read models":
        await run.end()
        saver = (await harness.run(run.thread_id)).saver
    expected = {
        "head": (["r1", "r2", "a1", "a2", "b1"], ["seed"]),
        "a": (["r1", "r2"], ["seed"]),
        "tip": (["f1"], None),
    }
    for name, (written, seed) in expected.items():
        found = await saver.aget_delta_channel_history(config=at(run.thread_id, ids[name]), channels=["d", "e"])
        assert [value for _, _, value in found["d"]["writes"]] == written
        assert found["d"]["seed"] == (_DeltaSnapshot(seed) if seed else ["plain"])
        assert found["e"]["seed"] == 5
        slow = await BaseCheckpointSaver.aget_delta_channel_history(
            saver, config=at(run.thread_id, ids[name]), channels=["d", "e"]
        )
        assert found == slow, "as LangGraph's own walk finds it"
    root = await saver.aget_delta_channel_history(config=at(run.thread_id, ids["root"]), channels=["d"])
    assert root == {"d": {"writes": []}}
    assert await saver.aget_delta_channel_history(config=at(run.thread_id, ids["head"]), channels=[]) == {}


async def test_a_long_history_takes_few_queries(harness: CheckpointerHarness) -> None:
    run = await harness.run(str(uuid.uuid4()))
    parent = await checkpoint(run, None, {"d": _DeltaSnapshot([])}, [("", ["w" * 200])])
    for n in range(50):
        parent = await checkpoint(run, parent, {}, [("", [f"{n}" * 200])])
    await run.end()
    later = await harness.run(run.thread_id)
    asked: list[str] = []

    class Counting:
        async def fetch(self, query: str, *args: Any) -> Any:
            asked.append(query)
            return await harness.pool.fetch(query, *args)

        async def fetchrow(self, query: str, *args: Any) -> Any:
            asked.append(query)
            return await harness.pool.fetchrow(query, *args)

    later.saver._loader._pool = Counting()  # type: ignore[assignment]
    found = await later.saver.aget_delta_channel_history(config=at(run.thread_id, parent), channels=["d"])
    assert len(found["d"]["writes"]) == 50
    assert len(asked) <= 3


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_pruning_keeps_what_the_newest_state_is_rebuilt_from(
    harness: CheckpointerHarness, durability: str
) -> None:
    thread = Thread(harness, graphs.deltas())
    for n in range(4):
        await thread.run({"items": [f"in{n}"], "other": []}, durability=durability)
    async with harness.pool.acquire() as conn:
        before = await get_state(conn, thread.thread_id)
        await harness.submit(PruneThread(thread_id=thread.thread_id))
        assert await get_state(conn, thread.thread_id) == before
    history = await thread.compare()
    assert 1 <= len(history) <= 3, "back to the last snapshot, not further"
    await thread.run({"items": ["later"], "other": []}, durability=durability)
    assert (await thread.compare())[-1]["values"]["items"] == history[-1]["values"]["items"]


async def test_pruning_a_thread_without_delta_channels_leaves_one_checkpoint(harness: CheckpointerHarness) -> None:
    thread = Thread(harness, graphs.asking())
    await thread.run({"items": ["in"]})
    before = (await thread.compare())[0]
    await harness.submit(PruneThread(thread_id=thread.thread_id))
    assert await thread.compare() == [before]


@pytest.mark.parametrize(
    "make", [graphs.deltas, graphs.subgraphs, graphs.parallel, graphs.talking], ids=lambda make: make.__name__
)
async def test_a_copy_has_the_same_states_and_a_life_of_its_own(harness: CheckpointerHarness, make: Any) -> None:
    source, copy = Thread(harness, make()), Thread(harness, make())
    given = graphs.chat_input("hi") if make is graphs.talking else {"items": ["in"]}
    for _ in range(3):
        await source.run(given)
    await harness.submit(CreateThread(thread_id=copy.thread_id))
    async with harness.pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
        items = [item async for item in export_items(conn, source.thread_id, copy.thread_id)]
    for item in items:  # one by one: every chunk is complete in itself
        await harness.submit(ImportCheckpoints(thread_id=copy.thread_id, items=[item]))
    original = await source.compare()

    def without_thread(value: Any) -> Any:
        return eval(repr(value).replace(copy.thread_id, source.thread_id))

    assert without_thread(await copy.compare()) == original
    await copy.run(given)
    await copy.compare()
    assert await source.compare() == original


async def test_a_standalone_copy_with_large_values(harness: CheckpointerHarness) -> None:
    saver = StandaloneSaver(pool=harness.pool, log=harness.log, gateway=harness)
    graph = graphs.noop().compile(checkpointer=saver)
    source, target = str(uuid.uuid4()), str(uuid.uuid4())
    config: Any = {"configurable": {"thread_id": source}}
    big = "".join(str(uuid.uuid4()) for _ in range(5000))
    await graph.ainvoke({"items": [big]}, config)
    await saver.acopy_thread(source, target)
    copied = await graph.aget_state({"configurable": {"thread_id": target}})
    assert copied.values == (await graph.aget_state(config)).values
    assert copied.values["items"][0] == big
    await saver.adelete_thread(source)
    assert (await graph.aget_state(config)).values == {}
    assert (await graph.aget_state({"configurable": {"thread_id": target}})).values == copied.values
