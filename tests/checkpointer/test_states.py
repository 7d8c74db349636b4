"""States and histories from the read models are the ones LangGraph tells, for graphs of every kind."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import orjson
import pytest
from langgraph.types import Command, Interrupt, StateSnapshot

from tests.checkpointer import graphs
from tests.checkpointer.checkpointer_harness import CheckpointerHarness, Run
from tests.installed import delta_channels, needs
from threadlog.engine.executor.reporting.jsonable import dumps
from threadlog.projections.queries.state import get_history, get_state, get_values
from threadlog.projections.render.state import StateSelection
from threadlog.projections.render.values import BlobMissing

# Before, LangGraph's own `get_state`, which these tests compare with, left out tasks that had been answered once.
resumed_states = needs("langgraph", "1.2.13")


def ref(config: Any) -> dict[str, Any] | None:
    if config is None or "checkpoint_id" not in config["configurable"]:
        return None
    keys = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
    return {k: v for k, v in config["configurable"].items() if k in keys}


def interrupts(found: tuple[Interrupt, ...]) -> list[dict[str, Any]]:
    return [{"id": i.id, "value": i.value} for i in found]


def told(snapshot: StateSnapshot, thread_id: str) -> Any:
    """LangGraph's snapshot in the form of the API."""
    checkpoint, parent = ref(snapshot.config), ref(snapshot.parent_config)
    if checkpoint is None:
        return {
            "values": {}, "next": [], "tasks": [], "metadata": None, "created_at": None, "checkpoint": None,
            "parent_checkpoint": None, "interrupts": [], "checkpoint_id": None, "parent_checkpoint_id": None,
        }  # fmt: skip
    tasks = []
    for task in snapshot.tasks:
        nested = isinstance(task.state, StateSnapshot)
        tasks.append({
            "id": task.id, "name": task.name, "path": task.path, "error": task.error,
            "interrupts": interrupts(task.interrupts),
            "checkpoint": None if nested or task.state is None else task.state["configurable"],
            "state": told(task.state, thread_id) if nested else None,
            "result": task.result,
        })  # fmt: skip
    return {
        "values": snapshot.values, "next": snapshot.next, "tasks": tasks,
        "metadata": {**(snapshot.metadata or {}), "thread_id": thread_id}, "created_at": snapshot.created_at,
        "checkpoint": checkpoint, "parent_checkpoint": parent, "interrupts": interrupts(snapshot.interrupts),
        "checkpoint_id": checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }  # fmt: skip


def plain(value: Any) -> Any:
    return orjson.loads(dumps(value))


class Thread:
    """A thread of one graph, run as the executor runs it."""

    def __init__(self, harness: CheckpointerHarness, graph: Any) -> None:
        self.harness, self.thread_id = harness, str(uuid.uuid4())
        self.graph = graph
        self.last: list[dict[str, Any]] = []

    @asynccontextmanager
    async def attempt(self, **options: Any) -> AsyncIterator[tuple[Run, Any]]:
        run = await self.harness.run(self.thread_id, **options)
        yield run, self._with(run.saver)

    def _with(self, saver: Any) -> Any:
        if hasattr(self.graph, "compile"):
            return self.graph.compile(checkpointer=saver)
        return self.graph.copy(update={"checkpointer": saver})

    @property
    def config(self) -> Any:
        return {"configurable": {"thread_id": self.thread_id, "checkpoint_ns": ""}}

    async def run(self, given: Any, *, config: Any = None, flush: bool = False, **options: Any) -> None:
        """One run, to its end; `flush`: everything is projected after each superstep."""
        durability = options.setdefault("durability", "async")
        async with self.attempt(sync=durability == "sync") as (run, graph):
            run.saver.runs(graph)
            merged = {
                "configurable": {**self.config["configurable"], **(config or {})},
                "metadata": {"run_id": run.run_id},
            }
            status = "success"
            try:
                stream = graph.astream(given, merged, stream_mode=["checkpoints"], subgraphs=True, **options)
                async for ns, _, payload in stream:
                    run.saver.planned(ns, payload)
                    if flush:
                        await run.flush()
            except ValueError:
                status = "error"
            await run.saver.finish(graph, self.config)
            self.last = await run.end(status)

    async def update(self, values: Any, *, config: Any = None, **options: Any) -> None:
        """A state update, as the executor does it."""
        async with self.attempt() as (run, graph):
            merged = {"configurable": {**self.config["configurable"], **(config or {})}}
            await graph.aupdate_state(merged, values, **options)
            await run.saver.finish(graph, self.config)
            await run.end()

    async def compare(self, checkpoint_ns: str = "") -> list[dict[str, Any]]:
        """Every state of the thread, as LangGraph tells it and as the read models do. Returns the history."""
        async with self.harness.pool.acquire() as conn, self.attempt(fresh=False) as (run, graph):
            config = {"configurable": {"thread_id": self.thread_id, "checkpoint_ns": checkpoint_ns}}
            for nested in (False, True):
                snapshot = await graph.aget_state(config, subgraphs=nested)
                found = await get_state(conn, self.thread_id, ns=checkpoint_ns, subgraphs=nested)
                assert plain(found) == plain(told(snapshot, self.thread_id))
            history = await get_history(conn, self.thread_id, limit=1000, ns=checkpoint_ns)
            expected = [told(s, self.thread_id) async for s in graph.aget_state_history(config)]
            assert plain(history) == plain(expected)
            for state in history:
                at = await get_state(conn, self.thread_id, ns=checkpoint_ns, checkpoint_id=state["checkpoint_id"])
                assert plain(at) == plain(state)
            if history and not checkpoint_ns:
                values = await get_values(conn, [self.thread_id])
                assert plain(values[self.thread_id]) == plain((await graph.aget_state(config)).values)
            await run.end()
        return history


@pytest.fixture(params=[False, True], ids=["one report", "a report per step"])
def flush(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_graph_that_just_runs(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.noop())
    await thread.run({"items": ["in"]}, flush=flush)
    assert len(await thread.compare()) == 4
    await thread.run({"items": ["again"]}, flush=flush)
    assert len(await thread.compare()) == 8


async def test_values_that_are_not_selected_are_not_read(harness: CheckpointerHarness) -> None:
    thread = Thread(harness, graphs.noop())
    await thread.run({"items": [token_hex(20_000)]})
    wanted = StateSelection(frozenset(("values", "next")), frozenset(("note",)))
    async with harness.pool.acquire() as conn:
        await conn.execute("DELETE FROM channel_values WHERE length(data) > 10000")
        with pytest.raises(BlobMissing):
            await get_state(conn, thread.thread_id)
        expected = {"values": {"note": "done"}, "next": []}
        assert await get_state(conn, thread.thread_id, selection=wanted) == expected
        assert await get_history(conn, thread.thread_id, limit=1, selection=wanted) == [expected]


async def test_no_checkpoint_is_the_empty_state(harness: CheckpointerHarness) -> None:
    thread = Thread(harness, graphs.noop())
    assert await thread.compare() == []


@resumed_states
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_questions_one_after_the_other(harness: CheckpointerHarness, flush: bool, durability: str) -> None:
    thread = Thread(harness, graphs.asking())
    await thread.run({"items": ["in"]}, flush=flush, durability=durability)
    history = await thread.compare()
    assert history[0]["interrupts"][0]["value"] == {"question": "ok?"}
    assert next(e for e in thread.last if e["type"] == "run.succeeded")["next"] == ["ask"]
    await thread.run(Command(resume="yes"), flush=flush, durability=durability)
    assert (await thread.compare())[0]["interrupts"][0]["value"] == {"question": "sure?"}
    await thread.run(Command(resume="no", update={"note": "changed"}), flush=flush, durability=durability)
    assert (await thread.compare())[0]["values"]["items"] == ["in", "yes/no"]


@resumed_states
@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_parallel_questions_are_answered_one_by_one(
    harness: CheckpointerHarness, flush: bool, durability: str
) -> None:
    thread = Thread(harness, graphs.parallel())
    await thread.run({"items": ["in"]}, flush=flush, durability=durability)
    history = await thread.compare()
    [event] = [e for e in thread.last if e["type"] == "run.succeeded"]
    assert sorted(event["next"]) == ["left", "right"]
    assert len(event["interrupts"]) == 2
    async with harness.pool.acquire() as conn:
        state = await get_state(conn, thread.thread_id)
    assert state["values"]["items"] == ["in", "quick"], "what is done of the superstep shows"
    assert history[0]["values"]["items"] == ["in"], "the record of the checkpoint stays as it was"
    first, second = (i["id"] for i in state["interrupts"])
    await thread.run(Command(resume={first: "1"}), flush=flush, durability=durability)
    await thread.compare()
    await thread.run(Command(resume={second: "2"}), flush=flush, durability=durability)
    assert (await thread.compare())[0]["next"] == []


async def test_a_node_that_fails(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.failing())
    await thread.run({"items": ["in"]}, flush=flush)
    history = await thread.compare()
    errors = {task["name"]: task["error"] for task in history[0]["tasks"]}
    assert errors["bad"] == "ValueError('kaboom')"
    assert errors["good"] in (None, "CancelledError()"), "LangGraph cancels what has not ended by then"
    await thread.run(None, flush=flush)
    await thread.compare()


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_questions_in_subgraphs(harness: CheckpointerHarness, flush: bool, durability: str) -> None:
    thread = Thread(harness, graphs.subgraphs())
    await thread.run({"items": ["in"]}, flush=flush, durability=durability)
    history = await thread.compare()
    below = history[0]["tasks"][0]["checkpoint"]["checkpoint_ns"]
    middle = await thread.compare(below)
    bottom = await thread.compare(middle[0]["tasks"][0]["checkpoint"]["checkpoint_ns"])
    [event] = [e for e in thread.last if e["type"] == "run.succeeded"]
    assert list(event["interrupts"]) == [bottom[0]["tasks"][0]["id"]], "by the task that asks"
    await thread.run(Command(resume="deep answer"), flush=flush, durability=durability)
    assert "deep answer" in (await thread.compare())[0]["values"]["items"]
    await thread.compare(below)


async def test_sends_fan_out(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.fanning_out())
    await thread.run({"items": ["in"]}, flush=flush)
    history = await thread.compare()
    assert [task["path"] for task in history[0]["tasks"]] == [["__pregel_push", n, False] for n in range(4)]
    await thread.run(Command(resume="checked"), flush=flush)
    await thread.compare()


async def test_breakpoints(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.noop())
    await thread.run({"items": ["in"]}, flush=flush, interrupt_before=["b"])
    assert (await thread.compare())[0]["next"] == ["b"]
    await thread.run(None, flush=flush, interrupt_after=["b"])
    await thread.compare()


async def test_messages(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.talking())
    for n in range(5):
        await thread.run(graphs.chat_input(str(n)), flush=flush)
    history = await thread.compare()
    last = history[0]["values"]["messages"][-1]
    assert (last["type"], last["tool_calls"][0]["name"]) == ("ai", "search")


@pytest.mark.parametrize("make", [graphs.modelled, graphs.recorded, graphs.routing], ids=lambda make: make.__name__)
async def test_states_that_are_classes(harness: CheckpointerHarness, flush: bool, make: Any) -> None:
    thread = Thread(harness, make())
    await thread.run({"items": ["in"]}, flush=flush)
    await thread.compare()


async def test_a_state_that_is_one_dict(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.single())
    await thread.run({"in": 0}, flush=flush)
    assert (await thread.compare())[0]["values"] == {"in": 0, "a": 1, "b": 2}


async def test_a_state_that_is_a_number(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.number())
    await thread.run(5, flush=flush)
    await thread.compare()
    await thread.run(Command(resume=7), flush=flush)
    assert (await thread.compare())[0]["values"] == 13


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_the_functional_api(harness: CheckpointerHarness, flush: bool, durability: str) -> None:
    thread = Thread(harness, graphs.functional)
    await thread.run(4, flush=flush, durability=durability)
    await thread.compare()
    await thread.run(Command(resume="yes"), flush=flush, durability=durability)
    await thread.compare()
    await thread.run(5, flush=flush, durability=durability)
    await thread.compare()


@delta_channels
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_delta_channels(harness: CheckpointerHarness, flush: bool, durability: str) -> None:
    thread = Thread(harness, graphs.deltas())
    for n in range(4):
        await thread.run({"items": [f"in{n}"], "other": []}, flush=flush, durability=durability)
        await thread.compare()


async def test_state_updates(harness: CheckpointerHarness) -> None:
    thread = Thread(harness, graphs.asking())
    await thread.run({"items": ["in"]})
    await thread.update({"note": "edited"})
    await thread.compare()
    await thread.update({"items": ["as ask"]}, as_node="ask")
    history = await thread.compare()
    await thread.update({"note": "forked"}, config={"checkpoint_id": history[-1]["checkpoint_id"]}, as_node="prepare")
    assert (await thread.compare())[0]["values"]["note"] == "forked"


@resumed_states
async def test_state_updates_of_delta_channels(harness: CheckpointerHarness) -> None:
    thread = Thread(harness, graphs.deltas())
    await thread.update({"items": ["first"]}, as_node="a")
    await thread.compare()
    for n in range(5):
        await thread.update({"items": [f"u{n}"]}, as_node="a")
    assert (await thread.compare())[0]["values"]["items"] == ["first", "u0", "u1", "u2", "u3", "u4"]


async def test_runs_from_an_older_checkpoint_fork(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.asking())
    await thread.run({"items": ["in"]}, flush=flush)
    await thread.run(Command(resume="1"), flush=flush)
    await thread.run(Command(resume="2"), flush=flush)
    history = await thread.compare()
    await thread.run(None, config={"checkpoint_id": history[-2]["checkpoint_id"]}, flush=flush)
    await thread.compare()
    await thread.run({"items": ["other"]}, config={"checkpoint_id": history[-1]["checkpoint_id"]}, flush=flush)
    await thread.compare()


@resumed_states
async def test_delta_channels_fork(harness: CheckpointerHarness, flush: bool) -> None:
    thread = Thread(harness, graphs.deltas())
    for n in range(3):
        await thread.run({"items": [f"in{n}"], "other": []}, flush=flush)
    history = await thread.compare()
    for at in (history[-1], history[5], history[2]):
        await thread.run({"items": ["fork"], "other": []}, config={"checkpoint_id": at["checkpoint_id"]}, flush=flush)
        await thread.compare()
