"""One attempt from claim to report."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.executor.executor_harness import ExecutorHarness
from tests.installed import has
from tests.waiting import eventually


def names(frames: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in frames]


async def test_a_short_run_is_one_report_with_everything_in_it(stage: ExecutorHarness, serving) -> None:
    executor = await serving("noop", short_ticks=1_000_000)
    run_id = await stage.enqueue("noop", {"items": ["in"]})
    outcome = await stage.outcome(run_id)
    assert outcome["status"] == "success"
    assert outcome["next"] == [] and outcome["interrupts"] == {}
    (report,) = await stage.reports(run_id)
    assert report["started"]["executor"] == executor.executor_id
    kinds = [item["kind"] for item in report["items"]]
    assert kinds.count("checkpoint") == 4
    assert outcome["checkpoint_id"] == [i["checkpoint_id"] for i in report["items"] if i["kind"] == "checkpoint"][-1]
    assert await stage.frames(run_id) == [
        ("metadata", {"run_id": run_id, "attempt": 1}),
        ("values", {"items": ["in"]}),
        ("values", {"items": ["in", "x"]}),
        ("values", {"items": ["in", "x", "y"]}),
    ]


async def test_frames_wait_while_the_run_may_be_a_short_one_unless_its_client_follows_it(
    stage: ExecutorHarness, serving
) -> None:
    executor = await serving("slow", short_ticks=1_000_000)
    alone = await stage.enqueue("slow", {"items": []})
    followed = await stage.enqueue("slow", {"items": []}, streamed=True)
    begun = ["metadata", "values", "values"]
    async with asyncio.timeout(60):
        while names(await stage.frames(followed)) != begun:
            await asyncio.sleep(0.01)
        while alone not in executor.attempts or executor.attempts[alone].queue.count < len(begun):
            await asyncio.sleep(0.01)
        assert await stage.frames(alone) == []
        executor.attempts[alone].settle()
        while names(await stage.frames(alone)) != begun:
            await asyncio.sleep(0.01)


async def test_a_second_run_continues_the_thread(stage: ExecutorHarness, serving) -> None:
    await serving("noop")
    first = await stage.enqueue("noop", {"items": ["1"]})
    await stage.outcome(first)
    second = await stage.enqueue("noop", {"items": ["2"]}, thread_id=await stage.thread_of(first))
    await stage.outcome(second)
    assert (await stage.frames(second))[-1] == ("values", {"items": ["1", "x", "y", "2", "x", "y"]})


async def test_a_run_without_the_values_mode_still_leaves_its_output(stage: ExecutorHarness, serving) -> None:
    await serving("noop", "hitl")
    run_id = await stage.enqueue("noop", {"items": []}, stream_mode=["updates"])
    await stage.outcome(run_id)
    frames = await stage.frames(run_id)
    assert names(frames) == ["metadata", "updates", "updates", "~output"]
    assert frames[-1][1] == {"items": ["x", "y"]}
    asked = await stage.enqueue("hitl", {"items": []}, stream_mode="updates")
    await stage.outcome(asked)
    assert [i["value"] for i in (await stage.frames(asked))[-1][1]["__interrupt__"]] == [{"question": "ok?"}]


async def test_large_output_that_the_thread_has_is_not_sent_as_well(stage: ExecutorHarness, serving) -> None:
    await serving("noop", "stateless")
    large = {"items": ["x" * 20_000]}
    run_id = await stage.enqueue("noop", large, stream_mode=["updates"])
    await stage.outcome(run_id)
    assert names(await stage.frames(run_id)) == ["metadata", "updates", "updates"]
    # No checkpoint has the values of this one.
    run_id = await stage.enqueue("stateless", large, stream_mode=["updates"])
    await stage.outcome(run_id)
    assert names(await stage.frames(run_id)) == ["metadata", "updates", "~output"]


async def test_nodes_see_ids_user_metadata_and_context(stage: ExecutorHarness, serving) -> None:
    await serving("seeing")
    run_id = await stage.enqueue(
        "seeing",
        {"items": []},
        metadata={"created_by": "system", "mine": "yes"},
        config={
            "configurable": {
                "run_id": "forged",
                "color": "red",
                "langgraph_auth_user": {"identity": "ann", "extra": 5},
            },
            "tags": ["t"],
        },
        context={"tone": "dry", "color": "red"},
    )
    await stage.outcome(run_id)
    (seen,) = (await stage.frames(run_id))[-1][1]["items"]
    thread_id = await stage.thread_of(run_id)
    assert seen["configurable"]["run_id"] == run_id
    assert seen["configurable"]["thread_id"] == thread_id
    assert seen["configurable"]["graph_id"] == "seeing"
    assert seen["configurable"]["color"] == "red"
    assert seen["metadata"] | {"mine": "yes", "run_attempt": 1, "langgraph_host": "self-hosted"} == seen["metadata"]
    assert seen["context"] == {"tone": "dry", "color": "red"}  # a TypedDict takes everything
    assert seen["server"] == ("seeing" if has("langgraph", "1.1.5") else None)
    assert seen["user"] == ["ann", "ann", 5]
    checkpoint = (await stage.items(run_id))[0]
    assert checkpoint["metadata"]["run_id"] == run_id and checkpoint["metadata"]["mine"] == "yes"


async def test_an_interrupt_ends_the_run_and_a_resume_continues_it(stage: ExecutorHarness, serving) -> None:
    await serving("hitl")
    asked = await stage.enqueue("hitl", {"items": []}, stream_mode=["values", "updates"])
    outcome = await stage.outcome(asked)
    assert outcome["status"] == "success" and outcome["next"] == ["ask"]
    ((interrupt,),) = outcome["interrupts"].values()
    assert interrupt["value"] == {"question": "ok?"}
    frames = await stage.frames(asked)
    assert frames[-2][0] == "updates" and frames[-2][1]["__interrupt__"][0]["id"] == interrupt["id"]
    assert frames[-1][0] == "values" and frames[-1][1]["__interrupt__"][0]["id"] == interrupt["id"]
    thread_id = await stage.thread_of(asked)
    answered = await stage.enqueue("hitl", None, thread_id=thread_id, command={"resume": "yes"})
    outcome = await stage.outcome(answered)
    assert outcome["next"] == [] and outcome["interrupts"] == {}
    assert (await stage.frames(answered))[-1] == ("values", {"items": ["yes", "fin"]})


async def test_breakpoints_stop_before_and_after_a_node(stage: ExecutorHarness, serving) -> None:
    await serving("noop")
    run_id = await stage.enqueue("noop", {"items": []}, interrupt_before=["b"], stream_mode=["updates"])
    outcome = await stage.outcome(run_id)
    assert outcome["next"] == ["b"] and outcome["interrupts"] == {}
    assert ("updates", {"__interrupt__": []}) in await stage.frames(run_id)
    going_on = await stage.enqueue("noop", None, thread_id=await stage.thread_of(run_id), interrupt_after=["b"])
    assert (await stage.outcome(going_on))["next"] == []


async def test_a_command_can_update_and_go_to_a_node(stage: ExecutorHarness, serving) -> None:
    await serving("noop")
    first = await stage.enqueue("noop", {"items": []})
    await stage.outcome(first)
    command = {"update": {"items": ["u"]}, "goto": "b"}
    second = await stage.enqueue("noop", None, thread_id=await stage.thread_of(first), command=command)
    await stage.outcome(second)
    assert (await stage.frames(second))[-1] == ("values", {"items": ["x", "y", "u", "y"]})
    command = {"goto": {"node": "b", "input": {"items": []}}}
    third = await stage.enqueue("noop", None, thread_id=await stage.thread_of(first), command=command)
    await stage.outcome(third)
    assert (await stage.frames(third))[-1] == ("values", {"items": ["x", "y", "u", "y", "y"]})


async def test_a_run_can_start_from_an_older_checkpoint(stage: ExecutorHarness, serving) -> None:
    await serving("noop")
    first = await stage.enqueue("noop", {"items": ["1"]})
    await stage.outcome(first)
    checkpoints = [i["checkpoint_id"] for i in await stage.items(first) if i["kind"] == "checkpoint"]
    config = {"configurable": {"checkpoint_id": checkpoints[2]}}
    fork = await stage.enqueue("noop", None, thread_id=await stage.thread_of(first), config=config)
    await stage.outcome(fork)
    assert (await stage.frames(fork))[-1] == ("values", {"items": ["1", "x", "y"]})
    made = [i for i in await stage.items(fork) if i["kind"] == "checkpoint"]
    assert made[0]["parent_id"] == checkpoints[2]


async def test_durability_exit_leaves_one_checkpoint(stage: ExecutorHarness, serving) -> None:
    await serving("noop")
    run_id = await stage.enqueue("noop", {"items": []}, durability="exit")
    await stage.outcome(run_id)
    assert [i["kind"] for i in await stage.items(run_id)].count("checkpoint") == 1


async def test_with_durability_sync_every_step_is_in_the_log_before_the_next_begins(
    stage: ExecutorHarness, serving
) -> None:
    await serving("slow")
    run_id = await stage.enqueue("slow", {"items": []}, durability="sync")

    async def first_step_reported() -> bool:
        return [i["kind"] for i in await stage.items(run_id)].count("checkpoint") >= 3

    await eventually(first_step_reported)
    await stage.cancel(run_id)
    await stage.outcome(run_id)


async def test_a_waiting_run_says_that_it_runs_and_shows_its_steps(stage: ExecutorHarness, serving) -> None:
    await serving("slow")
    run_id = await stage.enqueue("slow", {"items": []})
    await eventually(lambda: stage.items(run_id))
    reports = await stage.reports(run_id)
    assert reports[0]["started"] and not reports[0].get("outcome")

    async def three_checkpoints() -> bool:
        return [i["kind"] for i in await stage.items(run_id)].count("checkpoint") == 3

    await eventually(three_checkpoints)
    await stage.cancel(run_id)
    assert (await stage.outcome(run_id))["status"] == "interrupted"


async def test_a_failing_node_fails_the_run_and_nothing_else(stage: ExecutorHarness, serving) -> None:
    await serving("failing", "noop")
    run_id = await stage.enqueue("failing", {"items": []})
    outcome = await stage.outcome(run_id)
    assert outcome["status"] == "error"
    assert outcome["error"] == {"error": "ValueError", "message": "kaboom"}
    assert outcome["next"] == ["boom"]
    assert (await stage.frames(run_id))[-1] == ("error", {"error": "ValueError", "message": "kaboom"})
    other = await stage.enqueue("noop", {"items": []})
    assert (await stage.outcome(other))["status"] == "success"


async def test_limits_and_empty_input_are_errors_with_their_names(stage: ExecutorHarness, serving) -> None:
    await serving("endless", "noop", "unserializable")
    endless = await stage.enqueue("endless", {"items": []}, config={"recursion_limit": 3})
    assert (await stage.outcome(endless))["error"]["error"] == "GraphRecursionError"
    empty = await stage.enqueue("noop", None)
    outcome = await stage.outcome(empty)
    assert outcome["error"]["error"] == "EmptyInputError"
    assert names(await stage.frames(empty)) == ["metadata", "error"]
    odd = await stage.enqueue("unserializable", {"items": []})
    outcome = await stage.outcome(odd)
    assert outcome["status"] == "error" and "odd" in outcome["error"]["message"]


async def test_a_run_over_its_time_limit_times_out(stage: ExecutorHarness, serving) -> None:
    await serving("slow", timeout_seconds=0.2)
    run_id = await stage.enqueue("slow", {"items": []})
    outcome = await stage.outcome(run_id)
    assert outcome["status"] == "timeout" and outcome["error"]["error"] == "TimeoutError"
    assert outcome["next"] == ["slow"]
    assert (await stage.frames(run_id))[-1][0] == "error"


async def test_a_cancelled_run_stops_at_once_and_keeps_its_steps(stage: ExecutorHarness, serving) -> None:
    executor = await serving("slow")
    run_id = await stage.enqueue("slow", {"items": []})
    await eventually(lambda: stage.reports(run_id))
    await stage.cancel(run_id)
    outcome = await stage.outcome(run_id)
    assert outcome["status"] == "interrupted" and outcome["next"] == ["slow"]
    assert names(await stage.frames(run_id)) == ["metadata", "values", "values"]
    await eventually(lambda: not executor.attempts)


async def test_a_node_that_swallows_the_cancellation_is_cancelled_again(stage: ExecutorHarness, serving) -> None:
    await serving("stubborn", cancel_again_seconds=0.05)
    run_id = await stage.enqueue("stubborn", {"items": []})
    await eventually(lambda: stage.reports(run_id))
    await stage.cancel(run_id)
    assert (await stage.outcome(run_id))["status"] == "interrupted"


async def test_a_node_that_blocks_the_loop_does_not_lose_the_lease(stage: ExecutorHarness, serving) -> None:
    executor = await serving("blocking_loop", lease_seconds=0.5, renew_seconds=0.1)
    run_id = await stage.enqueue("blocking_loop", {"items": [], "n": 1.2})
    assert (await stage.outcome(run_id))["status"] == "success"
    assert (await stage.reports(run_id))[0]["started"]["executor"] == executor.executor_id


async def test_many_runs_work_at_the_same_time(stage: ExecutorHarness, serving) -> None:
    executor = await serving("slow", slots=64)
    runs = [await stage.enqueue("slow", {"items": []}) for _ in range(40)]
    await eventually(lambda: len(executor.attempts) == 40)
    for run_id in runs:
        await stage.cancel(run_id)
    for run_id in runs:
        assert (await stage.outcome(run_id))["status"] == "interrupted"


async def test_no_more_runs_than_slots(stage: ExecutorHarness, serving) -> None:
    executor = await serving("slow", slots=3)
    runs = [await stage.enqueue("slow", {"items": []}) for _ in range(5)]
    await eventually(lambda: len(executor.attempts) == 3)
    owned = [row["owner"] for row in await stage.rows()]
    assert owned.count(executor.executor_id) == 3 and owned.count(None) == 2
    for run_id in runs:
        await stage.cancel(run_id)
    await eventually(lambda: not executor.attempts)


async def test_entrypoints_and_graphs_without_checkpoints_run(stage: ExecutorHarness, serving) -> None:
    await serving("workflow", "stateless")
    run_id = await stage.enqueue("workflow", {"n": 4})
    await stage.outcome(run_id)
    assert (await stage.frames(run_id))[-1] == ("values", {"doubled": 8})
    bare = await stage.enqueue("stateless", {"items": []})
    outcome = await stage.outcome(bare)
    assert outcome["status"] == "success"
    assert await stage.items(bare) == []
    assert (await stage.frames(bare))[-1] == ("values", {"items": ["x"]})
