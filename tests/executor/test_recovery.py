"""Second attempts: what is in the log is not done again, what is not is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually
from threadlog.engine.executor.worker import Executor


def calls(stage: ExecutorHarness) -> Any:
    """The counter of the graphs' module as the executor loaded it."""
    return next(
        m for m in sys.modules.values() if getattr(m, "__file__", None) == str(stage.folder / "graphs.py")
    ).Calls


async def lose(stage: ExecutorHarness, executor: Executor, run_id: str, reached: Callable[[], Any]) -> None:
    """The executor dies while it works on the run, after `reached` came true and its reports are projected."""
    await eventually(reached)
    await executor.attempts[run_id].reporter.flush()
    executor.attempts[run_id].lose()
    await eventually(lambda: run_id not in executor.attempts)
    await stage.project()


async def again(stage: ExecutorHarness, run_id: str) -> dict[str, Any]:
    """The next attempt, to its end."""
    calls(stage).hold = False
    await stage.expire(run_id)
    return await stage.outcome(run_id, 2)


async def test_finished_supersteps_are_not_made_again(stage: ExecutorHarness, serving) -> None:
    executor = await serving("steps")
    run_id = await stage.enqueue("steps", {"items": ["in"]})
    await lose(stage, executor, run_id, lambda: "held" in calls(stage).done)
    outcome = await again(stage, run_id)
    assert outcome["status"] == "success"
    assert calls(stage).done == ["one", "held", "held", "three"]
    frames = await stage.frames(run_id, 2)
    assert frames[0] == ("metadata", {"run_id": run_id, "attempt": 2})
    assert frames[-1] == ("values", {"items": ["in", "one", "held", "three"]})
    steps = [i["metadata"]["step"] for i in await stage.items(run_id) if i["kind"] == "checkpoint"]
    steps += [i["metadata"]["step"] for i in await stage.items(run_id, 2) if i["kind"] == "checkpoint"]
    assert steps == [-1, 0, 1, 2, 3]
    assert {i["metadata"]["run_attempt"] for i in await stage.items(run_id, 2) if i["kind"] == "checkpoint"} == {2}


async def test_finished_tasks_of_a_broken_step_are_not_run_again(stage: ExecutorHarness, serving) -> None:
    executor = await serving("fan")
    run_id = await stage.enqueue("fan", {"items": []})

    async def quick_is_reported() -> bool:
        return any(w[2] for i in await stage.items(run_id) for w in i.get("writes", []) if w[1] == "items")

    await lose(stage, executor, run_id, quick_is_reported)
    await again(stage, run_id)
    assert sorted(calls(stage).done) == ["held", "held", "quick"]
    assert sorted((await stage.frames(run_id, 2))[-1][1]["items"]) == ["held", "quick"]


async def test_an_attempt_that_reported_nothing_is_begun_again(stage: ExecutorHarness, serving) -> None:
    executor = await serving("held_only")
    run_id = await stage.enqueue("held_only", {"items": ["in"]}, durability="exit")
    await lose(stage, executor, run_id, lambda: calls(stage).done)
    await again(stage, run_id)
    assert (await stage.frames(run_id, 2))[-1] == ("values", {"items": ["in", "held"]})


async def test_a_subgraph_continues_in_its_middle(stage: ExecutorHarness, serving) -> None:
    executor = await serving("outer")
    run_id = await stage.enqueue("outer", {"items": []})
    await lose(stage, executor, run_id, lambda: "held" in calls(stage).done)
    await again(stage, run_id)
    assert calls(stage).done == ["before", "one", "held", "held", "three", "end"]


async def test_a_resume_value_goes_to_one_question_only(stage: ExecutorHarness, serving) -> None:
    executor = await serving("asking")
    first = await stage.enqueue("asking", {"items": []})
    await eventually(lambda: calls(stage).done)
    calls(stage).hold = False
    outcome = await stage.outcome(first)
    assert outcome["next"] == ["ask"]
    calls(stage).hold = True
    thread_id = await stage.thread_of(first)
    run_id = await stage.enqueue("asking", None, thread_id=thread_id, command={"resume": "one"})

    async def second_question() -> bool:
        return any(w[1] == "__interrupt__" for i in await stage.items(run_id) for w in i.get("writes", []))

    # "wait" finished with the first run, so the run ends at the second question; here it is lost just before
    await eventually(second_question)
    await stage.outcome(run_id)
    calls(stage).hold = False
    await stage.schedule(run_id, 2)
    outcome = await stage.outcome(run_id, 2)
    (waiting,) = outcome["interrupts"].values()
    assert [i["value"] for i in waiting] == ["second?"]
    last = await stage.enqueue("asking", None, thread_id=thread_id, command={"resume": "two"})
    await stage.outcome(last)
    assert sorted((await stage.frames(last))[-1][1]["items"]) == ["held", "one", "two"]
    assert executor.attempts == {}


async def test_a_command_that_was_stored_is_not_applied_twice(stage: ExecutorHarness, serving) -> None:
    executor = await serving("steps")
    calls(stage).hold = False
    first = await stage.enqueue("steps", {"items": ["in"]})
    await stage.outcome(first)
    calls(stage).hold = True
    calls(stage).done.clear()
    command = {"update": {"items": ["u"]}, "goto": "held"}
    run_id = await stage.enqueue("steps", None, thread_id=await stage.thread_of(first), command=command)
    await lose(stage, executor, run_id, lambda: calls(stage).done)
    await again(stage, run_id)
    assert (await stage.frames(run_id, 2))[-1][1]["items"] == ["in", "one", "held", "three", "u", "held", "three"]


async def test_a_breakpoint_reached_by_the_first_attempt_holds_for_the_second(stage: ExecutorHarness, serving) -> None:
    await serving("noop")
    for stop in ({"interrupt_before": ["b"]}, {"interrupt_after": ["a"]}):
        run_id = await stage.enqueue("noop", {"items": []}, **stop)
        await stage.outcome(run_id)  # reported, but suppose the report of the outcome got lost
        await stage.schedule(run_id, 2)
        outcome = await stage.outcome(run_id, 2)
        assert outcome["status"] == "success" and outcome["next"] == ["b"], stop
        assert (await stage.frames(run_id, 2))[-1] == ("values", {"items": ["x"]})


async def test_an_attempt_waits_until_the_one_before_has_stopped_in_this_process(
    stage: ExecutorHarness, serving
) -> None:
    """The lease ran out while the database was away: the executor itself claims the next attempt."""
    executor = await serving("lingering")
    run_id = await stage.enqueue("lingering", {"items": []})
    await eventually(lambda: calls(stage).done == ["begins"])
    await stage.expire(run_id)
    await eventually(lambda: len(calls(stage).done) >= 3)
    calls(stage).hold = False
    assert (await stage.outcome(run_id, 2))["status"] == "success"
    assert calls(stage).done == ["begins", "ends", "begins", "ends"]
    assert all("outcome" not in report or report["outcome"] is None for report in await stage.reports(run_id))
    await eventually(lambda: not executor.attempts)
