"""Second attempts: what is in the log is not done again, what is not is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually
from threadlog.engine.executor.worker import Executor


def calls(harness: ExecutorHarness) -> Any:
    """The counter of the graphs' module as the executor loaded it."""
    return next(
        m for m in sys.modules.values() if getattr(m, "__file__", None) == str(harness.folder / "graphs.py")
    ).Calls


async def lose(harness: ExecutorHarness, executor: Executor, run_id: str, reached: Callable[[], Any]) -> None:
    """The executor dies while it works on the run, after `reached` came true and its reports are projected."""
    await eventually(reached)
    await executor.attempts[run_id].reporter.flush()
    executor.attempts[run_id].lose()
    await eventually(lambda: run_id not in executor.attempts)
    await harness.project()


async def again(harness: ExecutorHarness, run_id: str) -> dict[str, Any]:
    """The next attempt, to its end."""
    calls(harness).hold = False
    await harness.expire(run_id)
    return await harness.outcome(run_id, 2)


async def test_finished_supersteps_are_not_made_again(harness: ExecutorHarness, serving) -> None:
    executor = await serving("steps")
    run_id = await harness.enqueue("steps", {"items": ["in"]})
    await lose(harness, executor, run_id, lambda: "held" in calls(harness).done)
    outcome = await again(harness, run_id)
    assert outcome["status"] == "success"
    assert calls(harness).done == ["one", "held", "held", "three"]
    frames = await harness.frames(run_id, 2)
    assert frames[0] == ("metadata", {"run_id": run_id, "attempt": 2})
    assert frames[-1] == ("values", {"items": ["in", "one", "held", "three"]})
    steps = [i["metadata"]["step"] for i in await harness.items(run_id) if i["kind"] == "checkpoint"]
    steps += [i["metadata"]["step"] for i in await harness.items(run_id, 2) if i["kind"] == "checkpoint"]
    assert steps == [-1, 0, 1, 2, 3]
    assert {i["metadata"]["run_attempt"] for i in await harness.items(run_id, 2) if i["kind"] == "checkpoint"} == {2}


async def test_finished_tasks_of_a_broken_step_are_not_run_again(harness: ExecutorHarness, serving) -> None:
    executor = await serving("fan")
    run_id = await harness.enqueue("fan", {"items": []})

    async def quick_is_reported() -> bool:
        return any(w[2] for i in await harness.items(run_id) for w in i.get("writes", []) if w[1] == "items")

    await lose(harness, executor, run_id, quick_is_reported)
    await again(harness, run_id)
    assert sorted(calls(harness).done) == ["held", "held", "quick"]
    assert sorted((await harness.frames(run_id, 2))[-1][1]["items"]) == ["held", "quick"]


async def test_an_attempt_that_reported_nothing_is_begun_again(harness: ExecutorHarness, serving) -> None:
    executor = await serving("held_only")
    run_id = await harness.enqueue("held_only", {"items": ["in"]}, durability="exit")
    await lose(harness, executor, run_id, lambda: calls(harness).done)
    await again(harness, run_id)
    assert (await harness.frames(run_id, 2))[-1] == ("values", {"items": ["in", "held"]})


async def test_a_subgraph_continues_in_its_middle(harness: ExecutorHarness, serving) -> None:
    executor = await serving("outer")
    run_id = await harness.enqueue("outer", {"items": []})
    await lose(harness, executor, run_id, lambda: "held" in calls(harness).done)
    await again(harness, run_id)
    assert calls(harness).done == ["before", "one", "held", "held", "three", "end"]


async def test_a_resume_value_goes_to_one_question_only(harness: ExecutorHarness, serving) -> None:
    executor = await serving("asking")
    first = await harness.enqueue("asking", {"items": []})
    await eventually(lambda: calls(harness).done)
    calls(harness).hold = False
    outcome = await harness.outcome(first)
    assert outcome["next"] == ["ask"]
    calls(harness).hold = True
    thread_id = await harness.thread_of(first)
    run_id = await harness.enqueue("asking", None, thread_id=thread_id, command={"resume": "one"})

    async def second_question() -> bool:
        return any(w[1] == "__interrupt__" for i in await harness.items(run_id) for w in i.get("writes", []))

    # "wait" finished with the first run, so the run ends at the second question; here it is lost just before
    await eventually(second_question)
    await harness.outcome(run_id)
    calls(harness).hold = False
    await harness.schedule(run_id, 2)
    outcome = await harness.outcome(run_id, 2)
    (waiting,) = outcome["interrupts"].values()
    assert [i["value"] for i in waiting] == ["second?"]
    last = await harness.enqueue("asking", None, thread_id=thread_id, command={"resume": "two"})
    await harness.outcome(last)
    assert sorted((await harness.frames(last))[-1][1]["items"]) == ["held", "one", "two"]
    assert executor.attempts == {}


async def test_a_command_that_was_stored_is_not_applied_twice(harness: ExecutorHarness, serving) -> None:
    executor = await serving("steps")
    calls(harness).hold = False
    first = await harness.enqueue("steps", {"items": ["in"]})
    await harness.outcome(first)
    calls(harness).hold = True
    calls(harness).done.clear()
    command = {"update": {"items": ["u"]}, "goto": "held"}
    run_id = await harness.enqueue("steps", None, thread_id=await harness.thread_of(first), command=command)
    await lose(harness, executor, run_id, lambda: calls(harness).done)
    await again(harness, run_id)
    assert (await harness.frames(run_id, 2))[-1][1]["items"] == ["in", "one", "held", "three", "u", "held", "three"]


async def test_a_breakpoint_reached_by_the_first_attempt_holds_for_the_second(
    harness: ExecutorHarness, serving
) -> None:
    await serving("noop")
    for stop in ({"interrupt_before": ["b"]}, {"interrupt_after": ["a"]}):
        run_id = await harness.enqueue("noop", {"items": []}, **stop)
        await harness.outcome(run_id)  # reported, but suppose the report of the outcome got lost
        await harness.schedule(run_id, 2)
        outcome = await harness.outcome(run_id, 2)
        assert outcome["status"] == "success" and outcome["next"] == ["b"], stop
        assert (await harness.frames(run_id, 2))[-1] == ("values", {"items": ["x"]})


async def test_an_attempt_waits_until_the_one_before_has_stopped_in_this_process(
    harness: ExecutorHarness, serving
) -> None:
    """The lease ran out while the database was away: the executor itself claims the next attempt."""
    executor = await serving("lingering")
    run_id = await harness.enqueue("lingering", {"items": []})
    await eventually(lambda: calls(harness).done == ["begins"])
    await harness.expire(run_id)
    await eventually(lambda: len(calls(harness).done) >= 3)
    calls(harness).hold = False
    assert (await harness.outcome(run_id, 2))["status"] == "success"
    assert calls(harness).done == ["begins", "ends", "begins", "ends"]
    assert all("outcome" not in report or report["outcome"] is None for report in await harness.reports(run_id))
    await eventually(lambda: not executor.attempts)
