"""The checkpointer called from everywhere: its loop, threads without one, threads with a loop of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from tests.checkpointer import graphs
from tests.checkpointer.checkpointer_harness import CheckpointerHarness, Run
from tests.checkpointer.puts import at, thread_id
from threadlog.engine.executor.checkpointer.standalone import StandaloneSaver
from threadlog.engine.executor.checkpointer.sync_bridge import MustWait

Call = Callable[..., Awaitable[Any]]
LARGE = "large " * 20_000  # it has to be in the `values` topic before the put that names it


async def on_its_loop(saver: Any, name: str, *args: Any, **more: Any) -> Any:
    if name == "list":
        return [found async for found in saver.alist(*args, **more)]
    return await getattr(saver, f"a{name}")(*args, **more)


async def in_a_thread(saver: Any, name: str, *args: Any, **more: Any) -> Any:
    def call() -> Any:
        found = getattr(saver, name)(*args, **more)
        return list(found) if name == "list" else found

    return await asyncio.to_thread(call)


async def on_a_loop_of_a_thread(saver: Any, name: str, *args: Any, **more: Any) -> Any:
    return await asyncio.to_thread(lambda: asyncio.run(on_its_loop(saver, name, *args, **more)))


async def synchronously_on_a_loop_of_a_thread(saver: Any, name: str, *args: Any, **more: Any) -> Any:
    async def call() -> Any:
        found = getattr(saver, name)(*args, **more)
        return list(found) if name == "list" else found

    return await asyncio.to_thread(lambda: asyncio.run(call()))


PLACES = [on_its_loop, in_a_thread, on_a_loop_of_a_thread, synchronously_on_a_loop_of_a_thread]
_places = pytest.mark.parametrize("call", PLACES, ids=[place.__name__ for place in PLACES])


def checkpoint(**values: Any) -> tuple[Any, dict[str, Any]]:
    made = empty_checkpoint()
    versions: dict[str, Any] = dict.fromkeys(values, 1)
    return {**made, "channel_values": values, "channel_versions": versions}, versions


@_places
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "lazy"])
async def test_every_method_works_from_everywhere(harness: CheckpointerHarness, call: Call, sync: bool) -> None:
    run = await harness.run(thread_id(), sync=sync)
    saver = run.saver
    assert await call(saver, "get_tuple", at(run)) is None
    made, versions = checkpoint(a=1, b=LARGE)
    saved = await call(saver, "put", at(run), made, {"step": 0}, versions)
    assert saved["configurable"]["checkpoint_id"] == made["id"]
    assert not (sync and run.items), "durable"
    await call(saver, "put_writes", saved, [("a", LARGE + "2")], "task")
    found = await call(saver, "get_tuple", at(run))
    assert found.checkpoint["channel_values"] == {"a": 1, "b": LARGE}
    assert found.pending_writes == [("task", "a", LARGE + "2")]
    assert [t.checkpoint["id"] for t in await call(saver, "list", at(run))] == [made["id"]]
    history = await call(saver, "get_delta_channel_history", config=at(run), channels=["a"])
    assert history == {"a": {"writes": []}}
    await call(saver, "prune", [run.thread_id])
    assert len(await call(saver, "list", at(run))) == 1
    await call(saver, "delete_for_runs", [run.run_id])
    assert await call(saver, "list", at(run)) == []
    with pytest.raises(ValueError, match="delete a thread"):
        await call(saver, "delete_thread", run.thread_id)
    with pytest.raises(ValueError, match="copy a thread"):
        await call(saver, "copy_thread", run.thread_id, thread_id())


@_places
async def test_a_standalone_checkpointer_too(harness: CheckpointerHarness, call: Call) -> None:
    saver = StandaloneSaver(pool=harness.pool, log=harness.log, gateway=harness)
    one, other = thread_id(), thread_id()
    config: Any = {"configurable": {"thread_id": one, "checkpoint_ns": ""}}
    made, versions = checkpoint(a=LARGE)
    saved = await call(saver, "put", config, made, {"step": 0}, versions)
    await call(saver, "put_writes", saved, [("a", 2)], "task")
    assert (await call(saver, "get_tuple", config)).pending_writes == [("task", "a", 2)]
    await call(saver, "copy_thread", one, other)
    there: Any = {"configurable": {"thread_id": other, "checkpoint_ns": ""}}
    assert [t.checkpoint["channel_values"] for t in await call(saver, "list", there)] == [{"a": LARGE}]
    await call(saver, "prune", [one])
    await call(saver, "delete_thread", one)
    assert await call(saver, "get_tuple", config) is None


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_many_threads_with_loops_of_their_own_at_once(harness: CheckpointerHarness, durability: Any) -> None:
    run = await harness.run(thread_id())
    graph = graphs.noop().compile(checkpointer=run.saver)
    other = StandaloneSaver(pool=harness.pool, log=harness.log, gateway=harness)

    def work(number: int) -> Any:
        config: Any = {"configurable": {"thread_id": thread_id()}}
        own = graphs.noop().compile(checkpointer=other)
        asyncio.run(own.ainvoke({"items": [f"in {number}"]}, config, durability=durability))
        return asyncio.run(own.aget_state(config)).values

    found = await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(8)))
    assert [values["items"] for values in found] == [[f"in {number}", "x"] for number in range(8)]
    values = await asyncio.to_thread(
        lambda: asyncio.run(graph.ainvoke({"items": ["mine"]}, at(run), durability=durability))
    )
    assert values["items"] == ["mine", "x"]
    await run.end()
    later = await harness.run(run.thread_id)
    found_later = await later.saver.aget_tuple(at(later))
    assert found_later is not None
    assert found_later.checkpoint["channel_values"]["items"] == ["mine", "x"]


def _in_a_thread_while_the_loop_waits(run: Run, **options: Any) -> Any:
    """As an async node does that hands a coroutine to a thread and waits for the result without `await`."""
    graph = graphs.noop().compile(checkpointer=run.saver)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(graph.ainvoke({"items": ["in"]}, at(run), **options))).result()


async def test_a_loop_that_waits_for_the_thread_that_calls(harness: CheckpointerHarness) -> None:
    run = await harness.run(thread_id())
    assert _in_a_thread_while_the_loop_waits(run, durability="async")["items"] == ["in", "x"]
    await run.end()
    later = await harness.run(run.thread_id)
    found = await later.saver.aget_tuple(at(later))
    assert found is not None
    assert found.checkpoint["channel_values"]["items"] == ["in", "x"]


async def test_what_has_to_wait_for_a_loop_that_waits_for_it_says_so(
    harness: CheckpointerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadlog.engine.executor.checkpointer.sync_bridge._DEADLOCK_SECONDS", 0.2)
    run = await harness.run(thread_id())
    with pytest.raises(MustWait, match="ainvoke"):
        _in_a_thread_while_the_loop_waits(run, durability="sync")


@pytest.mark.parametrize("call", PLACES[1:], ids=[place.__name__ for place in PLACES[1:]])
async def test_errors_of_the_call_itself_come_as_they_are(harness: CheckpointerHarness, call: Call) -> None:
    mine, other = await harness.run(thread_id()), await harness.run(thread_id())
    made, versions = checkpoint(a=1)
    with pytest.raises(ValueError, match="start a run on that thread"):
        await call(mine.saver, "put", at(other), made, {}, versions)
