"""What happens without a command: delayed runs come due, attempts of executors that are gone are tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from tests.engine.engine_harness import EngineHarness, create_run, new_id
from tests.waiting import eventually
from threadlog.engine.domain.commands import CancelRun
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.records import CommandEnvelope
from threadlog.engine.processor.ports import AttemptsLook, CoordinationStore, ExpiredItems, Timer
from threadlog.engine.processor.timers import QUIET_SECONDS, TimerService


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


class _Asked:
    """A coordination store that has nothing, unless a test says so, and counts what it is asked."""

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.any_left = False
        self.due: list[Timer] = []

    async def timers(self, partitions: Sequence[int], within_seconds: float) -> list[Timer]:
        self.looks.append("timers")
        return self.due

    async def look_at_attempts(self, partitions: Sequence[int]) -> AttemptsLook:
        self.looks.append("attempts")
        return AttemptsLook([], self.any_left)

    async def expired_items(self, partitions: Sequence[int], limit: int) -> list[ExpiredItems]:
        return []


async def looked_at(timers: TimerService, store: _Asked, partitions: Sequence[int] = (0, 1)) -> list[str]:
    store.looks.clear()
    await timers.look(partitions)
    return list(store.looks)


@pytest.fixture
def asked() -> _Asked:
    return _Asked()


@pytest.fixture
async def timers(asked: _Asked) -> AsyncIterator[TimerService]:
    async def send(envelope: CommandEnvelope) -> None: ...

    service = TimerService(cast(CoordinationStore, asked), send, horizon_seconds=2.0, max_attempts=3)
    yield service
    await service.stop()


async def test_while_nothing_is_there_nothing_is_looked_for(timers: TimerService, asked: _Asked) -> None:
    assert await looked_at(timers, asked) == ["timers", "attempts"]
    assert await looked_at(timers, asked) == []


async def test_after_events_attempts_are_looked_at_until_there_are_none(timers: TimerService, asked: _Asked) -> None:
    await timers.look([0, 1])
    timers.projected()
    asked.any_left = True
    assert await looked_at(timers, asked) == ["attempts"]
    assert await looked_at(timers, asked) == ["attempts"]
    asked.any_left = False
    assert await looked_at(timers, asked) == ["attempts"]
    assert await looked_at(timers, asked) == []


async def test_what_is_projected_during_a_look_is_looked_at_by_the_next(
    timers: TimerService, asked: _Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_nothing = asked.look_at_attempts

    async def look_at_attempts(partitions: Sequence[int]) -> AttemptsLook:
        timers.projected()
        return await found_nothing(partitions)

    monkeypatch.setattr(asked, "look_at_attempts", look_at_attempts)
    await timers.look([0, 1])
    monkeypatch.undo()
    assert await looked_at(timers, asked) == ["attempts"]


@pytest.mark.parametrize("said", [True, False])
async def test_partitions_that_were_not_owned_before_are_looked_at(
    timers: TimerService, asked: _Asked, said: bool
) -> None:
    await timers.look([0, 1])
    if said:  # a new term of the same partitions: what an earlier one has projected was not told
        timers.anything_may_be()
    assert await looked_at(timers, asked, [0, 1] if said else [0, 1, 2]) == ["timers", "attempts"]


async def test_a_failed_look_is_made_again(
    timers: TimerService, asked: _Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise LogUnavailable("away")

    for name in ("timers", "look_at_attempts"):
        with monkeypatch.context() as patched:
            patched.setattr(asked, name, away)
            timers.anything_may_be()
            with pytest.raises(LogUnavailable):
                await timers.look([0, 1])
    assert "attempts" in await looked_at(timers, asked)


async def test_what_is_due_soon_keeps_it_looking(timers: TimerService, asked: _Asked) -> None:
    await timers.look([0, 1])
    assert not timers.busy
    asked.due = [Timer("due:r", 0, "t", "run.due", {}, 1.5)]
    timers.anything_may_be()
    await timers.look([0, 1])
    assert timers.busy


async def test_a_run_that_is_due_between_two_seldom_looks_has_one_in_time(timers: TimerService, asked: _Asked) -> None:
    await timers.look([0, 1])
    assert not timers.busy
    timers.expect({"due_at": in_seconds(QUIET_SECONDS), "thread_id": "t", "run_id": "r"})
    assert timers.busy and not timers._timers
    await eventually(lambda: looked_at(timers, asked), lambda looks: "timers" in looks)
