"""Who owns partitions: processors that come, go, die or lose them to others."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.engine.engine_harness import PARTITIONS, EngineHarness, create_run, create_thread, finish, new_id, thread_in
from tests.waiting import eventually
from threadlog.engine.gateway.event_tail import EventTail
from threadlog.engine.gateway.gateway import LogGateway, envelope_for
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.records import partition_of
from threadlog.engine.processor.processor import Processor
from threadlog.projections.commit.applied import PostgresApplied


async def test_one_processor_takes_everything_at_once(harness: EngineHarness) -> None:
    engine = await harness.engine()
    assert engine.processor.owned == list(range(PARTITIONS))


async def test_partitions_spread_over_processors_and_come_back(harness: EngineHarness) -> None:
    one = await harness.engine("one")
    two = await harness.engine("two")
    assert sorted(one.processor.owned + two.processor.owned) == list(range(PARTITIONS))
    assert len(two.processor.owned) == PARTITIONS // 2
    await two.stop()
    harness.engines.remove(two)
    await eventually(lambda: one.processor.owned == list(range(PARTITIONS)))


async def test_services_are_told_when_the_partitions_have_changed(harness: EngineHarness) -> None:
    one = await harness.engine("one")
    told: list[list[int]] = []
    one.processor.when_owned(lambda: told.append(one.processor.owned))
    two = await harness.engine("two")
    await eventually(lambda: told and len(told[-1]) == PARTITIONS // 2)
    await two.stop()
    harness.engines.remove(two)
    await eventually(lambda: told[-1] == list(range(PARTITIONS)))


async def test_a_command_reaches_the_processor_that_owns_it(harness: EngineHarness) -> None:
    one = await harness.engine("one")
    thread = create_thread(thread_in(PARTITIONS - 1))
    await one.submit(thread)
    two = await harness.engine("two")
    assert two.processor.owns_key(thread.thread_id)
    own, foreign = create_run(thread_in(0)), create_run(thread.thread_id)
    # Through the log, from a process that hears of events from `one`: it is told by what is projected there.
    await one.submit(own)
    await two.submit(foreign)
    assert len(await harness.rows("SELECT * FROM runs")) == 2
    assert await harness.verify() == []


async def test_a_processor_that_lost_its_partitions_changes_nothing(harness: EngineHarness) -> None:
    engine = await harness.engine("one", lease_seconds=60.0)
    thread = create_thread()
    await engine.submit(thread)
    p = partition_of(thread.thread_id, PARTITIONS)
    await harness.pool.execute("INSERT INTO processors VALUES ('thief', now() + interval '1 hour')")
    await harness.pool.execute("UPDATE partitions SET owner = 'thief', epoch = epoch + 1 WHERE p = $1", p)
    # Decided by the old term at once: the guard refuses it, whether or not the theft has been noticed.
    lost = asyncio.create_task(engine.submit(create_run(thread.thread_id, "00000000-0000-4000-8000-000000000001")))
    await eventually(lambda: not engine.processor.owns(p))
    assert await harness.rows("SELECT * FROM runs") == []
    # When the thief is gone, the partition is decided again, with nothing lost.
    await harness.pool.execute("DELETE FROM processors WHERE owner = 'thief'")
    assert (await lost).events[0]["type"] == "run.created"
    assert await harness.verify() == []


async def test_commands_given_up_while_a_partition_is_nobodys_are_not_kept() -> None:
    committer: Any = SimpleNamespace(takes_submissions=True)
    processor = Processor(MemoryLog(), cast(Any, None), lambda projected, failed: committer, owner="one")  # not started
    for _ in range(3):
        call = asyncio.create_task(processor.submit(*await envelope_for(create_thread()).on_wire()))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert len(processor._waiting[0]) == 1


async def test_a_killed_processor_is_continued_by_its_successor_at_once(harness: EngineHarness) -> None:
    first = await harness.engine("same name", lease_seconds=3600.0)
    run = create_run(new_id())
    await first.submit(run)
    for task in (*first.processor._tasks, first.processor._tail):
        if task is not None:
            task.cancel()
    harness.engines.remove(first)
    second = await harness.engine("same name", lease_seconds=3600.0)
    assert second.processor.owned == list(range(PARTITIONS))
    assert (await second.submit(create_run(run.thread_id))).events[0]["type"] == "run.created"
    with pytest.raises(RuntimeError):  # the first one's terms are over: its journal can't commit any more
        await _commit_with_old_term(first, run.thread_id)
    await first.committer.aclose()
    assert await harness.verify() == []


async def _commit_with_old_term(engine: Any, thread_id: str) -> None:
    from threadlog.engine.gateway.gateway import envelope_for
    from threadlog.engine.processor.committer import Turn

    term = engine.processor._partitions[partition_of(thread_id, PARTITIONS)].term
    envelope = envelope_for(create_run(thread_id))
    await engine.committer.commit([Turn(term, [(term.decided + 1000, envelope)])])
    await engine.committer.settle()
    if term.dead:
        raise RuntimeError("the term is over")


async def test_a_restart_goes_on_where_it_stopped(harness: EngineHarness) -> None:
    first = await harness.engine("one")
    run = create_run(new_id())
    await first.submit(run)
    await first.stop()
    harness.engines.remove(first)
    await harness.append(finish(run.thread_id, run.run_id))  # nobody is there to decide it
    await harness.engine("two")
    await harness.until("SELECT count(*) = 1 FROM runs WHERE status = 'success'")
    assert await harness.verify() == []


async def test_a_stopped_processor_refuses(harness: EngineHarness) -> None:
    engine = await harness.engine(deadline_seconds=0.2)  # for another engine to decide it
    await engine.stop()
    with pytest.raises(LogUnavailable):
        await engine.submit(create_thread())


async def test_partitions_that_change_hands_all_the_time_lose_and_repeat_nothing(harness: EngineHarness) -> None:
    """Thieves bump the epochs under load: what is being decided just then must not count, and must not be lost."""
    one = await harness.engine("one", lease_seconds=0.5)
    two = await harness.engine("two", lease_seconds=0.5)
    gateway = LogGateway(harness.log, deadline_seconds=60)
    tail = EventTail(harness.log, PostgresApplied(harness.pool))
    tail.add_listener(gateway)
    await tail.start()
    threads = [thread_in(p) for p in range(PARTITIONS)]
    accepted: list[str] = []

    async def client(thread_id: str) -> None:
        for _ in range(6):
            run = create_run(thread_id)
            answer = await gateway.submit(run)
            assert "run.created" in [event["type"] for event in answer.events]
            accepted.append(run.run_id)

    async def thief() -> None:
        steal = (
            "UPDATE partitions SET epoch = epoch + 1, owner = CASE owner WHEN 'one' THEN 'two' ELSE 'one' END "
            "WHERE p = $1"
        )
        for _ in range(6):  # not for ever: a slow machine would never get to decide anything
            for p in range(PARTITIONS):
                await harness.pool.execute(steal, p)
                await asyncio.sleep(0.02)

    stealing = asyncio.create_task(thief())
    try:
        await asyncio.gather(*(client(thread_id) for thread_id in threads))
    finally:
        stealing.cancel()
        await asyncio.gather(stealing, return_exceptions=True)
        await tail.stop()
    assert sorted(accepted) == sorted(str(row["run_id"]) for row in await harness.rows("SELECT run_id FROM runs"))
    for engine in (one, two):  # none tells anything twice, or out of order
        told = [(p, offset) for p, offset, _ in engine.heard.records]
        assert len(told) == len(set(told))
        assert all(a[1] < b[1] for a, b in pairwise(sorted(told, key=lambda one: one[0])) if a[0] == b[0])
    assert await harness.verify() == []


async def test_more_processors_than_partitions(harness: EngineHarness) -> None:
    engines = [await harness.engine(f"engine {n}", ready=False) for n in range(PARTITIONS + 2)]

    async def spread() -> bool:
        counts = [len(engine.processor.owned) for engine in engines]
        return sum(counts) == PARTITIONS and max(counts) == 1

    await eventually(spread, within=60)
