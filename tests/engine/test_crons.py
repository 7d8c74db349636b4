"""Firing crons over both journals: once per due time with several owners, after crashes and outages; faulty crons."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.engine.engine_harness import PARTITIONS, EngineHarness, create_thread, new_id
from tests.simulation.crons import check
from tests.waiting import eventually
from threadlog.engine.crons.service import CronService
from threadlog.engine.domain.commands import (
    Command,
    CreateAssistant,
    CreateCron,
    CreateRun,
    DeleteThread,
    RecordCronRun,
    UpdateCron,
)
from threadlog.engine.gateway.event_tail import EventTail
from threadlog.engine.gateway.gateway import LogGateway
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.port import LogUnavailable, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.engine.processor.ports import Decided, Gateway
from threadlog.engine.schedules import iso
from threadlog.projections.commit.applied import PostgresApplied
from threadlog.projections.commit.crons import PostgresCronStore

ASSISTANT = new_id()
EVERYTHING = list(range(PARTITIONS))
Start = Callable[..., Awaitable[CronService]]


@pytest.fixture
async def gateway(harness: EngineHarness) -> AsyncIterator[Gateway]:
    """To whichever engine owns a command's partition. There is one engine, and an assistant."""
    engine = await harness.engine()
    await engine.submit(CreateAssistant(assistant_id=ASSISTANT, graph_id="g", config={"tags": ["of the assistant"]}))
    through_log = LogGateway(harness.log)
    tail = EventTail(harness.log, PostgresApplied(harness.pool))
    tail.add_listener(through_log)
    await tail.start()
    yield through_log
    await tail.stop()


@pytest.fixture
async def start(harness: EngineHarness, gateway: Gateway) -> AsyncIterator[Start]:
    """Starts a service that believes to own all partitions, whatever others believe."""
    async with AsyncExitStack() as started:

        async def start(through: Gateway = gateway) -> CronService:
            crons = CronService(
                PostgresCronStore(harness.pool), through, harness.log, lambda: EVERYTHING, look_seconds=0.05,
                orphans_seconds=0.05,
            )  # fmt: skip
            for engine in harness.engines:
                engine.processor.add_listener(crons)
            await crons.start()
            started.push_async_callback(crons.stop)
            return crons

        yield start


class FailsAt:
    """A gateway of a process that dies when it sends such a command: nothing of it reaches the log any more."""

    def __init__(self, gateway: Gateway, kind: type[Command]) -> None:
        self.gateway, self.kind, self.dead = gateway, kind, False

    async def submit(self, command: Command, *, id: str | None = None) -> Decided:
        self.dead = self.dead or isinstance(command, self.kind)
        if self.dead:
            raise LogUnavailable("the process has died")
        return await self.gateway.submit(command, id=id)


def cron(**fields: Any) -> CreateCron:
    """A cron that has been due for an hour."""
    due_at = iso(datetime.now(UTC) - timedelta(hours=1))
    return CreateCron(
        **{"cron_id": new_id(), "assistant_id": ASSISTANT, "schedule": "0 0 1 1 *", "next_due_at": due_at} | fields
    )


async def accepted(harness: EngineHarness) -> list[EventRecord]:
    """What every reader makes of the log."""
    records: list[EventRecord] = []
    for p in EVERYTHING:
        rule, at = Acceptance(), 0
        while some := await harness.log.read(Topic.EVENTS, p, at):
            at = some[-1].offset + 1
            records += [record for raw in some if rule.accepts(record := EventRecord.decode(raw.value))]
    return records


async def test_with_two_owners_of_every_partition_a_cron_fires_once_per_due_time(
    harness: EngineHarness, gateway: Gateway, start: Start
) -> None:
    made = [cron(schedule="* * * * * *", metadata={"of": "cron"}) for _ in range(6)]
    for command in made:
        await gateway.submit(command)
    one, two = await start(), await start()
    await harness.until("SELECT count(*) >= 18 FROM runs")
    await one.stop()
    await two.stop()
    for command in made:
        await gateway.submit(UpdateCron(cron_id=command.cron_id, version=1, enabled=False, reschedules=True))
    third = await start()  # for what both have left undone
    await harness.until("SELECT count(*) = 0 FROM cron_firings")
    await third.stop()
    records = await accepted(harness)
    assert check(records) >= 18
    assert {cron_id for record in records for e in record.events if (cron_id := e.get("cron_id"))} == {
        command.cron_id for command in made
    }
    assert await harness.verify() == []


@pytest.mark.parametrize("died_at", [CreateRun, RecordCronRun])
async def test_what_a_dead_owner_has_begun_is_finished_by_the_next(
    harness: EngineHarness, gateway: Gateway, start: Start, died_at: type[Command]
) -> None:
    thread = create_thread()
    await gateway.submit(thread)
    made = cron(thread_id=thread.thread_id, payload={"input": {"x": 1}})
    await gateway.submit(made)
    dying = FailsAt(gateway, died_at)
    dead = await start(dying)
    await eventually(lambda: dying.dead)
    await dead.stop()
    assert len(await harness.rows("SELECT FROM cron_firings")) == 1
    await start()
    await harness.until("SELECT count(*) = 0 FROM cron_firings")
    (run,) = await harness.rows("SELECT run_id, kwargs::jsonb #>> '{input,x}' AS x, kwargs FROM runs")
    assert run["x"] == "1" and "of the assistant" in run["kwargs"]
    assert check(await accepted(harness)) == 1


async def test_times_missed_while_all_were_down_are_one_firing(
    harness: EngineHarness, gateway: Gateway, start: Start
) -> None:
    made = cron(schedule="*/20 * * * *")  # due an hour ago; seldom is it time while this runs
    await gateway.submit(made)
    await start()
    await harness.until("SELECT next_due_at > now() FROM crons")
    await harness.until("SELECT count(*) = 0 FROM cron_firings")
    assert check(await accepted(harness)) == 1
    assert len(await harness.rows("SELECT FROM runs")) == 1


async def test_what_can_not_be_fired_says_so_and_stops_no_other(
    harness: EngineHarness, gateway: Gateway, start: Start
) -> None:
    no_zone, no_thread = cron(timezone="Mars/Olympus"), cron(thread_id=new_id())
    odd, good = cron(payload={"stream_mode": 7, "config": {"configurable": 7}}), cron()
    thread = create_thread(no_thread.thread_id)
    await gateway.submit(thread)
    for command in (no_zone, no_thread, odd, good):
        await gateway.submit(command)
    await gateway.submit(DeleteThread(thread_id=thread.thread_id))
    await start()
    await harness.until("SELECT count(*) = 2 FROM runs")
    await harness.until(
        "SELECT last_firing #>> '{error,message}' LIKE 'timezone: %' AND next_due_at IS NULL FROM crons "
        "WHERE cron_id = $1",
        no_zone.cron_id,
    )
    await harness.until("SELECT last_firing #>> '{error,message}' <> '' FROM crons WHERE cron_id = $1", odd.cron_id)
    await harness.until("SELECT count(*) = 0 FROM crons WHERE cron_id = $1", no_thread.cron_id)
    await harness.until("SELECT count(*) = 0 FROM cron_firings")
    assert check(await accepted(harness)) >= 3
    assert await harness.verify() == []


async def test_a_cron_does_not_fire_long_after_its_end(harness: EngineHarness, gateway: Gateway, start: Start) -> None:
    over, late = cron(), cron()
    over = cron(end_time=over.next_due_at)
    just_now = iso(datetime.now(UTC))
    late = cron(next_due_at=just_now, end_time=just_now)
    for command in (over, late):
        await gateway.submit(command)
    await start()
    await harness.until("SELECT count(*) = 0 FROM crons WHERE next_due_at IS NOT NULL")
    await harness.until("SELECT count(*) = 1 FROM runs")
    fired = [event for record in await accepted(harness) for event in record.events if event["type"] == "cron.fired"]
    assert [event["cron_id"] for event in fired] == [late.cron_id]
