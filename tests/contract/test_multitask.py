"""Contract statements 98 to 105: several runs on one thread."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from .frames import events
from .gate import Gate
from .refusals import refused
from .waiting import ended, settled


@pytest.mark.contract(98)
async def test_runs_queue_up_by_default(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    runs = [await client.runs.create(thread_id, "gated", input={**gate.input, "items": [n]}) for n in range(3)]
    ids = [run["run_id"] for run in runs]
    assert {run["multitask_strategy"] for run in runs} == {"enqueue"}
    await gate.entered(ids[0])
    assert [(await client.runs.get(thread_id, run_id))["status"] for run_id in ids] == ["running", "pending", "pending"]
    gate.open()
    for run_id in ids:
        assert (await ended(client, thread_id, run_id))["status"] == "success"
    values = (await client.threads.get_state(thread_id))["values"]
    assert values["items"] == [word for n in range(3) for word in (n, "first", "held", "last")]


@pytest.mark.contract(99)
async def test_reject_changes_nothing(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    first = await client.runs.create(thread_id, "gated", input=gate.input, multitask_strategy="reject")
    with refused(ConflictError, "already running"):
        await client.runs.create(thread_id, "noop", input={"items": ["x"]}, multitask_strategy="reject")
    await gate.entered(first["run_id"])
    with refused(ConflictError, "already running"):
        await client.runs.create(thread_id, "noop", input={"items": ["x"]}, multitask_strategy="reject")
    assert [run["run_id"] for run in await client.runs.list(thread_id)] == [first["run_id"]]
    gate.open()
    assert (await client.runs.join(thread_id, first["run_id"]))["items"] == ["first", "held", "last"]
    after = await client.runs.wait(thread_id, "noop", input={"items": []}, multitask_strategy="reject")
    assert after["items"] == ["first", "held", "last", "a", "b"]


@pytest.mark.contract(99)
async def test_a_delayed_run_counts_as_one(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.create(thread_id, "noop", input={"items": []}, after_seconds=600)
    with pytest.raises(ConflictError):
        await client.runs.create(thread_id, "noop", input={"items": []}, multitask_strategy="reject")


@pytest.mark.contract(100)
async def test_interrupt_keeps_what_was_done(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    first = await client.runs.create(thread_id, "gated", input={**gate.input, "items": ["one"]})
    await gate.entered(first["run_id"])
    second = await client.runs.create(thread_id, "noop", input={"items": ["two"]}, multitask_strategy="interrupt")
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"
    values = await client.runs.join(thread_id, second["run_id"])
    assert values["items"] == ["one", "first", "two", "a", "b"]
    assert (await client.runs.get(thread_id, second["run_id"]))["status"] == "success"
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"
    assert (await client.threads.get(thread_id))["status"] == "idle"
    assert gate.journal(first["run_id"]) == ["enter", "cancelled", "exit"]


@pytest.mark.contract(101)
async def test_rollback_undoes_what_was_done(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    before = await client.runs.wait(thread_id, "noop", input={"items": ["zero"]})
    first = await client.runs.create(thread_id, "gated", input={**gate.input, "items": ["one"]})
    await gate.entered(first["run_id"])
    second = await client.runs.create(thread_id, "noop", input={"items": ["two"]}, multitask_strategy="rollback")
    values = await client.runs.join(thread_id, second["run_id"])
    assert values["items"] == [*before["items"], "two", "a", "b"]
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, first["run_id"])
    history = await client.threads.get_history(thread_id, limit=100)
    assert first["run_id"] not in {at["metadata"]["run_id"] for at in history}
    assert len(history) == 8
    assert (await client.threads.get(thread_id))["status"] == "idle"


@pytest.mark.contract(102)
@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_queued_runs_are_superseded_too(
    client: LangGraphClient, thread_id: str, gate: Gate, strategy: str
) -> None:
    running = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(running["run_id"])
    queued = await client.runs.create(thread_id, "gated", input={**gate.input, "items": ["queued"]})
    last = await client.runs.create(thread_id, "noop", input={"items": ["last"]}, multitask_strategy=strategy)
    values = await client.runs.join(thread_id, last["run_id"])
    assert "queued" not in values["items"] and values["items"][-3:] == ["last", "a", "b"]
    for superseded in (running, queued):
        if strategy == "interrupt":
            assert (await client.runs.get(thread_id, superseded["run_id"]))["status"] == "interrupted"
        else:
            with pytest.raises(NotFoundError):
                await client.runs.get(thread_id, superseded["run_id"])
    assert gate.journal(queued["run_id"]) == []


@pytest.mark.contract(103)
@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_a_superseded_stream_just_ends(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate, strategy: str
) -> None:
    body = {"assistant_id": "gated", "input": gate.input, "stream_mode": ["updates"]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        await gate.entered(stream.headers["content-location"].rsplit("/", 1)[1])
        values, seen = await asyncio.gather(
            client.runs.wait(thread_id, "noop", input={"items": []}, multitask_strategy=strategy), events(stream)
        )
    assert values["items"][-2:] == ["a", "b"]
    assert [frame.event for frame in seen] == ["metadata", "updates"]
    assert seen[1].data == {"first": {"items": ["first"]}}


@pytest.mark.contract(104)
async def test_two_runs_of_one_thread_are_never_in_the_graph_together(
    client: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    """Each run takes the place of the one before while that one still needs a moment to leave."""
    last = None
    for n in range(6):
        strategy = "interrupt" if n % 2 else "rollback"
        last = await client.runs.create(thread_id, "gated", input=gate.input, multitask_strategy=strategy)
        await gate.entered(last["run_id"])
    queued = [await client.runs.create(thread_id, "gated", input=gate.input) for _ in range(3)]
    gate.open()
    for run in [last, *queued]:
        assert (await ended(client, thread_id, run["run_id"]))["status"] == "success"
    inside: set[str] = set()
    for line in gate.journal():
        word, run_id = line.split()
        if word == "enter":
            assert not inside, f"{run_id} entered while {inside} were inside"
            inside.add(run_id)
        elif word == "exit":
            inside.remove(run_id)
    assert len([line for line in gate.journal() if line.startswith("enter")]) == 9


@pytest.mark.contract(105)
async def test_different_threads_run_in_parallel(client: LangGraphClient, gate: Gate) -> None:
    threads = [await client.threads.create() for _ in range(8)]
    runs = [await client.runs.create(thread["thread_id"], "gated", input=gate.input) for thread in threads]
    for run in runs:
        await gate.entered(run["run_id"])
    gate.open()
    for run in runs:
        assert (await ended(client, run["thread_id"], run["run_id"]))["status"] == "success"


@pytest.mark.contract(105)
async def test_blocking_nodes_do_not_stop_the_others(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run = await client.runs.create(thread_id, "blocking", input=gate.input)
    await gate.entered(run["run_id"])
    assert (await client.runs.wait(None, "noop", input={"items": []}))["items"] == ["a", "b"]
    gate.open()
    assert (await client.runs.join(thread_id, run["run_id"]))["items"] == ["blocked", "last"]
    assert (await settled(client, thread_id))["status"] == "idle"
