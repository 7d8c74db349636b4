"""The sweep of expired threads, with real tables, over each log."""

from __future__ import annotations

import asyncpg
import pytest

from tests.engine.engine_harness import EngineHarness, create_run, new_id
from tests.waiting import eventually
from threadlog.engine.domain.commands import CreateThread, UpdateThread
from threadlog.engine.log.records import CommandEnvelope
from threadlog.engine.processor.expiry import ExpirySweep, SweepOptions
from threadlog.projections.commit.coordination import PostgresCoordinationStore
from threadlog.projections.rebuild.rebuild import reader_of_values

SOON = {"strategy": "delete", "ttl": 0.001}
ALWAYS = SweepOptions(interval_seconds=0.05)


def coordination(harness: EngineHarness) -> PostgresCoordinationStore:
    return PostgresCoordinationStore(harness.pool, reader_of_values(harness.log))


async def threads(harness: EngineHarness) -> set[str]:
    return {str(row[0]) for row in await harness.rows("SELECT thread_id FROM threads")}


async def test_expired_threads_are_swept_busy_and_young_ones_are_not(harness: EngineHarness) -> None:
    one = await harness.engine(sweep=ALWAYS)
    expired, busy, young, for_ever = (new_id() for _ in range(4))
    await one.submit(create_run(busy, thread_ttl=SOON))
    await one.submit(CreateThread(thread_id=young, ttl={**SOON, "ttl": 60}))
    await one.submit(CreateThread(thread_id=for_ever))
    await one.submit(CreateThread(thread_id=expired, ttl=SOON))

    await eventually(one.heard.events, lambda events: "thread.deleted" in events)
    assert await threads(harness) == {busy, young, for_ever}
    assert [e for e in one.heard.events() if e in ("thread.expired", "thread.deleted")] == [
        "thread.expired", "thread.deleted",
    ]  # fmt: skip
    assert await harness.verify() == []


async def test_a_thread_that_is_kept_is_pruned_once_per_idle_time(harness: EngineHarness) -> None:
    one = await harness.engine(sweep=ALWAYS)
    thread_id = new_id()
    await one.submit(CreateThread(thread_id=thread_id, ttl={**SOON, "strategy": "keep_latest"}))
    await eventually(lambda: one.heard.events().count("thread.pruned") == 1)
    over = await harness.rows("SELECT thread_expiry(ttl, updated_at, state_updated_at) FROM threads")
    assert over[0][0] is None, "it would be found again"
    await one.submit(UpdateThread(thread_id=thread_id, metadata={"a": 1}))
    await eventually(lambda: one.heard.events().count("thread.pruned") == 2)
    assert await threads(harness) == {thread_id}
    assert await harness.verify() == []


async def test_a_sweep_is_bounded_and_the_next_goes_on_behind_it(harness: EngineHarness) -> None:
    """Also behind threads that can't be expired, whatever the reason: nobody acts on what is sent here."""
    one = await harness.engine()
    ids = [new_id() for _ in range(5)]
    for thread_id in ids:
        await one.submit(CreateThread(thread_id=thread_id, ttl=SOON))
    await all_expired(harness, 5)
    told: list[str] = []

    async def send(envelope: CommandEnvelope) -> None:
        told.append(envelope.key)

    sweep = ExpirySweep(coordination(harness), send, lambda: one.processor.owned, SweepOptions(limit=2))
    assert [await sweep.sweep() for _ in range(4)] == [2, 2, 1, 2]
    assert sorted(told[:5]) == sorted(ids) and told[5:] == told[:2]


async def test_each_engine_sweeps_its_own_partitions(harness: EngineHarness) -> None:
    one = await harness.engine()
    ids = {new_id() for _ in range(20)}
    for thread_id in ids:
        await one.submit(CreateThread(thread_id=thread_id, ttl=SOON))
    await all_expired(harness, len(ids))
    store = coordination(harness)
    mine, others = [
        {thread.thread_id for thread in await store.expired_threads(partitions, 100, None)}
        for partitions in (range(8), range(8, 16))
    ]
    assert mine | others == ids and not mine & others


@pytest.mark.parametrize("ttl", ['{"ttl": "x"}', "{}", '{"ttl": 1e300}', '"x"', "null", '{"ttl": null}'])
async def test_no_ttl_that_a_log_may_hold_stops_the_projection(database: str, ttl: str) -> None:
    conn = await asyncpg.connect(database)
    over = await conn.fetchval("SELECT thread_expiry($1::json, now(), now())", ttl)
    assert over is None or over.year > 2100
    await conn.close()


async def all_expired(harness: EngineHarness, count: int) -> None:
    await harness.until(
        "SELECT count(*) = $1 FROM threads WHERE thread_expiry(ttl, updated_at, state_updated_at) <= now()", count
    )
