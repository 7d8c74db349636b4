"""What happens without a command: delayed runs come due, attempts of executors that are gone are tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.engine.engine_harness import EngineHarness, create_run, new_id
from tests.waiting import eventually
from threadlog.engine.domain.commands import CancelRun


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


@pytest.mark.parametrize("delay", [0.05, 0.6])
async def test_a_delayed_run_gets_its_turn_when_it_is_due(harness: EngineHarness, delay: float) -> None:
    engine = await harness.engine()
    run = create_run(new_id(), due_at=in_seconds(delay))
    await engine.submit(run)
    await harness.until("SELECT count(*) = 1 FROM run_queue WHERE run_id = $1", run.run_id)
    assert await harness.rows("SELECT * FROM timers") == []
    await eventually(lambda: f"due:{run.run_id}" in [r.cmd_id for _, _, r in engine.heard.records])
    assert await harness.verify() == []


async def test_a_timer_survives_its_processor(harness: EngineHarness) -> None:
    first = await harness.engine("one")
    run = create_run(new_id(), due_at=in_seconds(0.5))
    await first.submit(run)
    await first.stop()
    harness.engines.remove(first)
    await harness.engine("two")
    await harness.until("SELECT count(*) = 1 FROM run_queue WHERE run_id = $1", run.run_id)


async def test_an_attempt_whose_executor_is_gone_is_tried_again(harness: EngineHarness) -> None:
    engine = await harness.engine()
    run = create_run(new_id())
    await engine.submit(run)
    await harness.pool.execute("INSERT INTO executors VALUES ('dead', now() - interval '1 second', 1)")
    await harness.pool.execute("UPDATE run_queue SET owner = 'dead'")
    await harness.until("SELECT count(*) = 1 FROM run_queue WHERE attempt = 2 AND owner IS NULL")
    await eventually(lambda: engine.heard.events().count("run.lease_expired") == 1)


async def test_an_attempt_of_a_living_executor_is_left_alone(harness: EngineHarness) -> None:
    engine = await harness.engine()
    lost, kept = create_run(new_id()), create_run(new_id())
    await engine.submit(lost)
    await engine.submit(kept)
    await harness.pool.execute("INSERT INTO executors VALUES ('alive', now() + interval '1 hour', 1)")
    await harness.pool.execute("UPDATE run_queue SET owner = 'alive' WHERE run_id = $1", kept.run_id)
    await harness.pool.execute("UPDATE run_queue SET owner = 'never registered' WHERE run_id = $1", lost.run_id)
    engine.processor.look()
    await harness.until("SELECT count(*) = 1 FROM run_queue WHERE run_id = $1 AND attempt = 2", lost.run_id)
    row = (await harness.rows("SELECT attempt, owner FROM run_queue WHERE run_id = $1", kept.run_id))[0]
    assert (row["attempt"], row["owner"]) == (1, "alive")


async def test_a_run_cancelled_before_anybody_claimed_it_frees_its_thread(harness: EngineHarness) -> None:
    engine = await harness.engine()
    run = create_run(new_id())
    await engine.submit(run)
    await engine.submit(CancelRun(thread_id=run.thread_id, run_id=run.run_id))
    await harness.until("SELECT count(*) = 0 FROM run_queue")
    assert (await harness.rows("SELECT status FROM runs"))[0]["status"] == "interrupted"
    assert (await engine.submit(create_run(run.thread_id, multitask_strategy="reject"))).events[0][
        "type"
    ] == "run.created"
