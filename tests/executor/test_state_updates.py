"""The job of a state update: what it reports, how it fails."""

from __future__ import annotations

import uuid
from typing import Any

from tests.executor.executor_harness import ExecutorHarness


async def update(harness: ExecutorHarness, graph: str, thread_id: str, *supersteps: Any, **payload: Any) -> Any:
    steps = [{"updates": updates} for updates in supersteps]
    job = await harness.enqueue_update(graph, thread_id, supersteps=steps, **payload)
    return job, await harness.outcome(job)


async def ran(harness: ExecutorHarness, graph: str, **kwargs: Any) -> str:
    run_id = await harness.enqueue(graph, {"items": ["in"]}, **kwargs)
    await harness.outcome(run_id)
    return await harness.thread_of(run_id)


async def test_an_update_as_a_node_plans_what_follows_it(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    thread_id = await ran(harness, "noop")
    job, outcome = await update(
        harness, "noop", thread_id, [{"values": {"items": ["u"]}, "as_node": "a"}], metadata={"who": "me"}
    )
    assert outcome["status"] == "success" and outcome["next"] == ["b"]
    checkpoint = next(i for i in await harness.items(job) if i["kind"] == "checkpoint")
    assert checkpoint["metadata"]["source"] == "update" and checkpoint["metadata"]["step"] == 3
    assert checkpoint["metadata"]["who"] == "me"
    result = outcome["result"]
    assert result["checkpoint"] == {
        "thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint["checkpoint_id"]
    }  # fmt: skip
    assert result["configurable"]["checkpoint_id"] == outcome["checkpoint_id"] == checkpoint["checkpoint_id"]
    (planned,) = [i for i in await harness.items(job) if i["kind"] == "tasks"]
    assert [task["name"] for task in planned["tasks"]] == ["b"]
    going_on = await harness.enqueue("noop", None, thread_id=thread_id)
    await harness.outcome(going_on)
    assert (await harness.frames(going_on))[-1] == ("values", {"items": ["in", "x", "y", "u", "y"]})


async def test_supersteps_build_a_history_on_a_new_thread(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    thread_id = str(uuid.uuid4())
    job, outcome = await update(
        harness,
        "noop",
        thread_id,
        [{"values": {"items": ["in"]}, "as_node": "__input__"}],
        [{"values": {"items": ["in"]}, "as_node": "__start__"}],
        [{"values": {"items": ["1"]}, "as_node": "a"}],
        [{"values": {"items": ["2"]}, "as_node": "b"}],
    )
    assert outcome["status"] == "success", outcome
    items = await harness.items(job)
    checkpoints = [i for i in items if i["kind"] == "checkpoint"]
    assert [c["metadata"]["step"] for c in checkpoints] == [-1, 0, 1, 2]
    planned = {i["checkpoint_id"]: [t["name"] for t in i["tasks"]] for i in items if i["kind"] == "tasks"}
    assert [planned[c["checkpoint_id"]] for c in checkpoints] == [["__start__"], ["a"], ["b"], []]
    assert outcome["next"] == []


async def test_an_update_can_fork_and_clear(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    thread_id = await ran(harness, "noop", interrupt_before=["b"])
    job, outcome = await update(harness, "noop", thread_id, [{"values": None, "as_node": "__end__"}])
    assert outcome["next"] == []
    first = await harness.connection.fetchval(
        "SELECT checkpoint_id FROM checkpoints WHERE thread_id = $1 AND (metadata->>'step')::int = 0", thread_id
    )
    job, outcome = await update(
        harness, "noop", thread_id, [{"values": {"items": ["f"]}, "as_node": "a"}], checkpoint={"checkpoint_id": first}
    )
    fork = next(i for i in await harness.items(job) if i["kind"] == "checkpoint")
    assert fork["parent_id"] == first and outcome["next"] == ["b"]


async def test_a_wrong_update_is_an_error_with_its_class(harness: ExecutorHarness, serving) -> None:
    await serving("noop", "fan")
    thread_id = await ran(harness, "noop")
    _, outcome = await update(harness, "noop", thread_id, [{"values": {"items": []}, "as_node": "nobody"}])
    assert outcome["status"] == "error"
    assert outcome["error"]["error"] == "InvalidUpdateError" and "nobody" in outcome["error"]["message"]
    good = [{"values": {"items": ["1"]}, "as_node": "a"}]
    job, outcome = await update(harness, "noop", thread_id, good, [{"values": {}, "as_node": "nobody"}])
    assert outcome["status"] == "error" and await harness.items(job) == []
    _, outcome = await update(harness, "noop", thread_id, [])
    assert outcome["error"]["error"] == "ValueError"
