"""One attempt from claim to report."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.executor.executor_harness import ExecutorHarness
from tests.installed import has
from tests.waiting import eventually


def names(frames: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in frames]


async def test_a_short_run_is_one_report_with_everything_in_it(harness: ExecutorHarness, serving) -> None:
    executor = await serving("noop", short_ticks=1_000_000)
    run_id = await harness.enqueue("noop", {"items": ["in"]})
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "success"
    assert outcome["next"] == [] and outcome["interrupts"] == {}
    (report,) = await harness.reports(run_id)
    assert report["started"]["executor"] == executor.executor_id
    kinds = [item["kind"] for item in report["items"]]
    assert kinds.count("checkpoint") == 4
    assert outcome["checkpoint_id"] == [i["checkpoint_id"] for i in report["items"] if i["kind"] == "checkpoint"][-1]
    assert await harness.frames(run_id) == [
        ("metadata", {"run_id": run_id, "attempt": 1}),
        ("values", {"items": ["in"]}),
        ("values", {"items": ["in", "x"]}),
        ("values", {"items": ["in", "x", "y"]}),
    ]


async def test_frames_wait_while_the_run_may_be_a_short_one_unless_its_client_follows_it(
    harness: ExecutorHarness, serving
) -> None:
    executor = await serving("slow", short_ticks=1_000_000)
    alone = await harness.enqueue("slow", {"items": []})
    followed = await harness.enqueue("slow", {"items": []}, streamed=True)
    begun = ["metadata", "values", "values"]
    async with asyncio.timeout(60):
        while names(await harness.frames(followed)) != begun:
            await asyncio.sleep(0.01)
        while alone not in executor.attempts or executor.attempts[alone].queue.count < len(begun):
            await asyncio.sleep(0.01)
        assert await harness.frames(alone) == []
        executor.attempts[alone].settle()
        while names(await harness.frames(alone)) != begun:
            await asyncio.sleep(0.01)


async def test_a_second_run_continues_the_thread(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    first = await harness.enqueue("noop", {"items": ["1"]})
    await harness.outcome(first)
    second = await harness.enqueue("noop", {"items": ["2"]}, thread_id=await harness.thread_of(first))
    await harness.outcome(second)
    assert (await harness.frames(second))[-1] == ("values", {"items": ["1", "x", "y", "2", "x", "y"]})


async def test_a_run_without_the_values_mode_still_leaves_its_output(harness: ExecutorHarness, serving) -> None:
    await serving("noop", "hitl")
    run_id = await harness.enqueue("noop", {"items": []}, stream_mode=["updates"])
    await harness.outcome(run_id)
    frames = await harness.frames(run_id)
    assert names(frames) == ["metadata", "updates", "updates", "~output"]
    assert frames[-1][1] == {"items": ["x", "y"]}
    asked = await harness.enqueue("hitl", {"items": []}, stream_mode="updates")
    await harness.outcome(asked)
    assert [i["value"] for i in (await harness.frames(asked))[-1][1]["__interrupt__"]] == [{"question": "ok?"}]


async def test_large_output_that_the_thread_has_is_not_sent_as_well(harness: ExecutorHarness, serving) -> None:
    await serving("noop", "stateless")
    large = {"items": ["x" * 20_000]}
    run_id = await harness.enqueue("noop", large, stream_mode=["updates"])
    await harness.outcome(run_id)
    assert names(await harness.frames(run_id)) == ["metadata", "updates", "updates"]
    # No checkpoint has the values of this one.
    run_id = await harness.enqueue("stateless", large, stream_mode=["updates"])
    await harness.outcome(run_id)
    assert names(await harness.frames(run_id)) == ["metadata", "updates", "~output"]


async def test_nodes_see_ids_user_metadata_and_context(harness: ExecutorHarness, serving) -> None:
    await serving("seeing")
    run_id = await harness.enqueue(
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
    await harness.outcome(run_id)
    (seen,) = (await harness.frames(run_id))[-1][1]["items"]
    thread_id = await harness.thread_of(run_id)
    assert seen["configurable"]["run_id"] == run_id
    assert seen["configurable"]["thread_id"] == thread_id
    assert seen["configurable"]["graph_id"] == "seeing"
    assert seen["configurable"]["color"] == "red"
    assert seen["metadata"] | {"mine": "yes", "run_attempt": 1, "langgraph_host": "self-hosted"} == seen["metadata"]
    assert seen["context"] == {"tone": "dry", "color": "red"}  # a TypedDict takes everything
    assert seen["server"] == ("seeing" if has("langgraph", "1.1.5") else None)
    assert seen["user"] == ["ann", "ann", 5]
    checkpoint = (await harness.items(run_id))[0]
    assert checkpoint["metadata"]["run_id"] == run_id and checkpoint["metadata"]["mine"] == "yes"


async def test_an_interrupt_ends_the_run_and_a_resume_continues_it(harness: ExecutorHarness, serving) -> None:
    await serving("hitl")
    asked = await harness.enqueue("hitl", {"items": []}, stream_mode=["values", "updates"])
    outcome = await harness.outcome(asked)
    assert outcome["status"] == "success" and outcome["next"] == ["ask"]
    ((interrupt,),) = outcome["interrupts"].values()
    assert interrupt["value"] == {"question": "ok?"}
    frames = await harness.frames(asked)
    assert frames[-2][0] == "updates" and frames[-2][1]["__interrupt__"][0]["id"] == interrupt["id"]
    assert frames[-1][0] == "values" and frames[-1][1]["__interrupt__"][0]["id"] == interrupt["id"]
    thread_id = await harness.thread_of(asked)
    answered = await harness.enqueue("hitl", None, thread_id=thread_id, command={"resume": "yes"})
    outcome = await harness.outcome(answered)
    assert outcome["next"] == [] and outcome["interrupts"] == {}
    assert (await harness.frames(answered))[-1] == ("values", {"items": ["yes", "fin"]})


async def test_breakpoints_stop_before_and_after_a_node(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    run_id = await harness.enqueue("noop", {"items": []}, interrupt_before=["b"], stream_mode=["updates"])
    outcome = await harness.outcome(run_id)
    assert outcome["next"] == ["b"] and outcome["interrupts"] == {}
    assert ("updates", {"__interrupt__": []}) in await harness.frames(run_id)
    going_on = await harness.enqueue("noop", None, thread_id=await harness.thread_of(run_id), interrupt_after=["b"])
    assert (await harness.outcome(going_on))["next"] == []


async def test_a_command_can_update_and_go_to_a_node(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    first = await harness.enqueue("noop", {"items": []})
    await harness.outcome(first)
    command = {"update": {"items": ["u"]}, "goto": "b"}
    second = await harness.enqueue("noop", None, thread_id=await harness.thread_of(first), command=command)
    await harness.outcome(second)
    assert (await harness.frames(second))[-1] == ("values", {"items": ["x", "y", "u", "y"]})
    command = {"goto": {"node": "b", "input": {"items": []}}}
    third = await harness.enqueue("noop", None, thread_id=await harness.thread_of(first), command=command)
    await harness.outcome(third)
    assert (await harness.frames(third))[-1] == ("values", {"items": ["x", "y", "u", "y", "y"]})


async def test_a_run_can_start_from_an_older_checkpoint(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    first = await harness.enqueue("noop", {"items": ["1"]})
    await harness.outcome(first)
    checkpoints = [i["checkpoint_id"] for i in await harness.items(first) if i["kind"] == "checkpoint"]
    config = {"configurable": {"checkpoint_id": checkpoints[2]}}
    fork = await harness.enqueue("noop", None, thread_id=await harness.thread_of(first), config=config)
    await harness.outcome(fork)
    assert (await harness.frames(fork))[-1] == ("values", {"items": ["1", "x", "y"]})
    made = [i for i in await harness.items(fork) if i["kind"] == "checkpoint"]
    assert made[0]["parent_id"] == checkpoints[2]


async def test_durability_exit_leaves_one_checkpoint(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    run_id = await harness.enqueue("noop", {"items": []}, durability="exit")
    await harness.outcome(run_id)
    assert [i["kind"] for i in await harness.items(run_id)].count("checkpoint") == 1


async def test_with_durability_sync_every_step_is_in_the_log_before_the_next_begins(
    harness: ExecutorHarness, serving
) -> None:
    await serving("slow")
    run_id = await harness.enqueue("slow", {"items": []}, durability="sync")

    async def first_step_reported() -> bool:
        return [i["kind"] for i in await harness.items(run_id)].count("checkpoint") >= 3

    await eventually(first_step_reported)
    await harness.cancel(run_id)
    await harness.outcome(run_id)


async def test_a_waiting_run_says_that_it_runs_and_shows_its_steps(harness: ExecutorHarness, serving) -> None:
    await serving("slow")
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.items(run_id))
    reports = await harness.reports(run_id)
    assert reports[0]["started"] and not reports[0].get("outcome")

    async def three_checkpoints() -> bool:
        return [i["kind"] for i in await harness.items(run_id)].count("checkpoint") == 3

    await eventually(three_checkpoints)
    await harness.cancel(run_id)
    assert (await harness.outcome(run_id))["status"] == "interrupted"


async def test_a_failing_node_fails_the_run_and_nothing_else(harness: ExecutorHarness, serving) -> None:
    await serving("failing", "noop")
    run_id = await harness.enqueue("failing", {"items": []})
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "error"
    assert outcome["error"] == {"error": "ValueError", "message": "kaboom"}
    assert outcome["next"] == ["boom"]
    assert (await harness.frames(run_id))[-1] == ("error", {"error": "ValueError", "message": "kaboom"})
    other = await harness.enqueue("noop", {"items": []})
    assert (await harness.outcome(other))["status"] == "success"


async def test_limits_and_empty_input_are_errors_with_their_names(harness: ExecutorHarness, serving) -> None:
    await serving("endless", "noop", "unserializable")
    endless = await harness.enqueue("endless", {"items": []}, config={"recursion_limit": 3})
    assert (await harness.outcome(endless))["error"]["error"] == "GraphRecursionError"
    empty = await harness.enqueue("noop", None)
    outcome = await harness.outcome(empty)
    assert outcome["error"]["error"] == "EmptyInputError"
    assert names(await harness.frames(empty)) == ["metadata", "error"]
    odd = await harness.enqueue("unserializable", {"items": []})
    outcome = await harness.outcome(odd)
    assert outcome["status"] == "error" and "odd" in outcome["error"]["message"]


async def test_a_run_over_its_time_limit_times_out(harness: ExecutorHarness, serving) -> None:
    await serving("slow", timeout_seconds=0.2)
    run_id = await harness.enqueue("slow", {"items": []})
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "timeout" and outcome["error"]["error"] == "TimeoutError"
    assert outcome["next"] == ["slow"]
    assert (await harness.frames(run_id))[-1][0] == "error"


async def test_a_cancelled_run_stops_at_once_and_keeps_its_steps(harness: ExecutorHarness, serving) -> None:
    executor = await serving("slow")
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.reports(run_id))
    await harness.cancel(run_id)
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "interrupted" and outcome["next"] == ["slow"]
    assert names(await harness.frames(run_id)) == ["metadata", "values", "values"]
    await eventually(lambda: not executor.attempts)


async def test_a_node_that_swallows_the_cancellation_is_cancelled_again(harness: ExecutorHarness, serving) -> None:
    await serving("stubborn", cancel_again_seconds=0.05)
    run_id = await harness.enqueue("stubborn", {"items": []})
    await eventually(lambda: harness.reports(run_id))
    await harness.cancel(run_id)
    assert (await harness.outcome(run_id))["status"] == "interrupted"


async def test_a_node_that_blocks_the_loop_does_not_lose_the_lease(harness: ExecutorHarness, serving) -> None:
    executor = await serving("blocking_loop", lease_seconds=0.5, renew_seconds=0.1)
    run_id = await harness.enqueue("blocking_loop", {"items": [], "n": 1.2})
    assert (await harness.outcome(run_id))["status"] == "success"
    assert (await harness.reports(run_id))[0]["started"]["executor"] == executor.executor_id


async def test_many_runs_work_at_the_same_time(harness: ExecutorHarness, serving) -> None:
    executor = await serving("slow", slots=64)
    runs = [await harness.enqueue("slow", {"items": []}) for _ in range(40)]
    await eventually(lambda: len(executor.attempts) == 40)
    for run_id in runs:
        await harness.cancel(run_id)
    for run_id in runs:
        assert (await harness.outcome(run_id))["status"] == "interrupted"


async def test_no_more_runs_than_slots(harness: ExecutorHarness, serving) -> None:
    executor = await serving("slow", slots=3)
    runs = [await harness.enqueue("slow", {"items": []}) for _ in range(5)]
    await eventually(lambda: len(executor.attempts) == 3)
    owned = [row["owner"] for row in await harness.rows()]
    assert owned.count(executor.executor_id) == 3 and owned.count(None) == 2
    for run_id in runs:
        await harness.cancel(run_id)
    await eventually(lambda: not executor.attempts)


async def test_entrypoints_and_graphs_without_checkpoints_run(harness: ExecutorHarness, serving) -> None:
    await serving("workflow", "stateless")
    run_id = await harness.enqueue("workflow", {"n": 4})
    await harness.outcome(run_id)
    assert (await harness.frames(run_id))[-1] == ("values", {"doubled": 8})
    bare = await harness.enqueue("stateless", {"items": []})
    outcome = await harness.outcome(bare)
    assert outcome["status"] == "success"
    assert await harness.items(bare) == []
    assert (await harness.frames(bare))[-1] == ("values", {"items": ["x"]})
