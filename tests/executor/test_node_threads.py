"""A stopped run keeps its slot until the nodes that run in threads have ended there, or for as long as it may."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually
from threadlog.engine.executor.worker import Executor


async def given_up(executor: Executor, run_id: str) -> None:
    """The attempt has stopped, but for a thread."""
    await eventually(lambda: executor.attempts[run_id]._given_up.running())


async def outcomes(harness: ExecutorHarness, run_id: str) -> list[Any]:
    return [report["outcome"] for report in await harness.reports(run_id) if report.get("outcome")]


async def left_behind(harness: ExecutorHarness, number: int) -> bool:
    """Whether the executor's row, of which the metric is made, says so many."""
    return bool(await harness.connection.fetchval("SELECT left_behind FROM executors") == number)


async def begun(harness: ExecutorHarness, executor: Executor, graph: str, gate: Path) -> str:
    run_id = await harness.enqueue(graph, {"items": [str(gate)]}, stream_mode=["custom"])
    await eventually(lambda: run_id in executor.attempts and harness.items(run_id))
    return run_id


async def test_a_cancelled_node_is_waited_for(harness: ExecutorHarness, serving, tmp_path: Path) -> None:
    gate, ended = tmp_path / "gate", tmp_path / "gate.ended"
    executor = await serving("holding", "noop")
    run_id = await begun(harness, executor, "holding", gate)
    await harness.cancel(run_id)
    await given_up(executor, run_id)
    other = await harness.enqueue("noop", {"items": []})  # the executor itself does not wait
    assert (await harness.outcome(other))["status"] == "success"
    assert await outcomes(harness, run_id) == [] and not ended.exists()
    gate.touch()
    assert (await harness.outcome(run_id))["status"] == "interrupted"
    assert ended.exists()


async def test_so_is_one_whose_run_took_too_long(harness: ExecutorHarness, serving, tmp_path: Path) -> None:
    gate, ended = tmp_path / "gate", tmp_path / "gate.ended"
    executor = await serving("holding", timeout_seconds=0.3)
    run_id = await begun(harness, executor, "holding", gate)
    await given_up(executor, run_id)
    assert await outcomes(harness, run_id) == []
    gate.touch()
    assert (await harness.outcome(run_id))["status"] == "timeout"
    assert ended.exists()


async def test_so_is_one_beside_which_another_failed(harness: ExecutorHarness, serving, tmp_path: Path) -> None:
    gate, ended = tmp_path / "gate", tmp_path / "gate.ended"
    executor = await serving("holding_beside")
    run_id = await begun(harness, executor, "holding_beside", gate)
    await given_up(executor, run_id)
    executor.attempts[run_id].cancel()  # what comes then does not cut it short
    assert await outcomes(harness, run_id) == []
    gate.touch()
    await harness.outcome(run_id)
    assert ended.exists()


async def test_after_some_time_it_is_left_behind_and_reported(
    harness: ExecutorHarness, serving, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = tmp_path / "gate"
    executor = await serving("holding", thread_stop_seconds=0.2, renew_seconds=0.1)
    run_id = await begun(harness, executor, "holding", gate)
    with caplog.at_level(logging.WARNING, "threadlog.engine.executor.run.attempt"):
        await harness.cancel(run_id)
        assert (await harness.outcome(run_id))["status"] == "interrupted"
    assert not (tmp_path / "gate.ended").exists()
    (said,) = [record.getMessage() for record in caplog.records]
    assert run_id in said and "in _hold" in said
    await eventually(lambda: left_behind(harness, 1))
    gate.touch()
    await eventually(lambda: left_behind(harness, 0))


@pytest.mark.parametrize("modes", [["custom"], ["values"]])
async def test_a_node_that_writes_to_the_stream_is_ended_there(
    harness: ExecutorHarness, serving, tmp_path: Path, modes: list[str]
) -> None:
    executor = await serving("writing", thread_stop_seconds=60)
    run_id = await harness.enqueue("writing", {"items": [str(tmp_path / "gate")]}, stream_mode=modes)
    await eventually(lambda: run_id in executor.attempts and harness.items(run_id))
    await harness.cancel(run_id)
    assert (await harness.outcome(run_id))["status"] == "interrupted"
    assert (tmp_path / "gate.ended").exists()


async def test_what_the_application_runs_in_the_background_is_not_waited_for(
    harness: ExecutorHarness, serving, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    executor = await serving("leaving_behind", thread_stop_seconds=60)
    run_id = await begun(harness, executor, "leaving_behind", gate)
    await harness.cancel(run_id)
    assert (await harness.outcome(run_id))["status"] == "interrupted"
    assert not (tmp_path / "gate.ended").exists()
    gate.touch()
