"""Leases of partitions, and the guard of every projection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.projections.run_script import RunScript, T, no_values
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.processor.ports import Batch, Fenced, Position
from threadlog.projections.commit.coordination import PostgresCoordinationStore

ALL = 16


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await asyncpg.create_pool(database, min_size=0, max_size=4)
    yield pool
    await pool.close()


@pytest.fixture
def coordination(pool: asyncpg.Pool) -> PostgresCoordinationStore:
    return PostgresCoordinationStore(pool, no_values)


def numbers(positions: list[Position]) -> list[int]:
    return [position.partition for position in positions]


async def test_each_take_begins_a_new_epoch(coordination: PostgresCoordinationStore) -> None:
    assert numbers(await coordination.acquire("me", 60, 3, [])) == [0, 1, 2]
    again = await coordination.reacquire("me", 60, [1, 2])
    assert [(p.partition, p.epoch) for p in again] == [(1, 2), (2, 2)]


async def test_what_another_holds_is_not_taken_before_its_lease_ends(coordination: PostgresCoordinationStore) -> None:
    await coordination.acquire("other", 60, 10, [])
    await coordination.acquire("gone", 0, 2, [])
    assert numbers(await coordination.acquire("me", 60, ALL, [])) == [10, 11, 12, 13, 14, 15]
    assert await coordination.reacquire("me", 60, [0, 1]) == []


async def test_a_successor_of_the_same_name_takes_its_own_at_once(coordination: PostgresCoordinationStore) -> None:
    await coordination.acquire("me", 3600, ALL, [])
    assert len(await coordination.acquire("me", 3600, ALL, [])) == ALL
    assert numbers(await coordination.acquire("me", 3600, ALL, [0, 1, 2])) == list(range(3, ALL))


async def test_a_beat_renews_and_counts_who_is_alive(
    coordination: PostgresCoordinationStore, pool: asyncpg.Pool
) -> None:
    await coordination.acquire("me", 1, 2, [])
    await coordination.renew_lease("other", 60)
    await coordination.renew_lease("dead", 0)
    membership = await coordination.renew_lease("me", 3600)
    assert (dict(membership.held), membership.processors) == ({0: 1, 1: 1}, 2)
    left = await pool.fetch("SELECT owner FROM processors WHERE lease_until > now() + interval '30 minutes'")
    assert [row["owner"] for row in left] == ["me"]
    assert (await coordination.renew_lease("nobody's", 60)).held == {}


async def test_a_beat_waits_for_no_partition(coordination: PostgresCoordinationStore, pool: asyncpg.Pool) -> None:
    await coordination.acquire("me", 60, ALL, [])
    async with pool.acquire() as busy, busy.transaction():
        await busy.execute("SELECT FROM partitions FOR UPDATE")
        async with asyncio.timeout(10):
            assert len((await coordination.renew_lease("me", 60)).held) == ALL


async def test_a_beat_keeps_all_partitions_and_without_one_all_are_free(
    coordination: PostgresCoordinationStore,
) -> None:
    await coordination.acquire("me", 0, ALL, [])
    await coordination.renew_lease("me", 60)
    assert await coordination.acquire("other", 60, ALL, []) == []
    await coordination.renew_lease("me", 0)
    assert len(await coordination.acquire("other", 60, ALL, [])) == ALL
    assert (await coordination.renew_lease("me", 60)).held == {}


async def test_what_is_given_back_is_free(coordination: PostgresCoordinationStore) -> None:
    await coordination.acquire("me", 3600, ALL, [])
    await coordination.release("me", [4, 5])
    assert numbers(await coordination.acquire("other", 60, ALL, [])) == [4, 5]
    await coordination.release("other", [0])  # not its own: nothing happens
    await coordination.leave("me")
    assert len(await coordination.acquire("other", 60, ALL, [4, 5])) == ALL - 2


def batch(p: int, epoch: int, ev_off: int) -> Batch:
    created = RunScript().then({"type": "thread.created", "thread_id": T}).accepted
    return Batch(p, epoch, created, ev_off=ev_off, cmd_off=0, log_epoch=epoch, length=1)


async def test_the_guard_names_the_partitions_and_applies_nothing(
    coordination: PostgresCoordinationStore, pool: asyncpg.Pool
) -> None:
    await coordination.acquire("me", 60, 3, [])
    await coordination.acquire("thief", 60, 0, [])
    await pool.execute("UPDATE partitions SET epoch = epoch + 1 WHERE p IN (1, 2)")
    with pytest.raises(Fenced) as fenced:
        await coordination.project([batch(0, 1, 5), batch(1, 1, 5), batch(2, 1, 5)])
    assert fenced.value.partitions == (1, 2)
    assert await pool.fetchval("SELECT count(*) FROM threads") == 0
    assert await pool.fetchval("SELECT max(ev_off) FROM partitions") == -1


async def test_nothing_is_projected_twice(coordination: PostgresCoordinationStore, pool: asyncpg.Pool) -> None:
    await coordination.acquire("me", 60, 1, [])
    await coordination.project([batch(0, 1, 5)])
    with pytest.raises(Fenced):
        await coordination.project([batch(0, 1, 5)])
    assert await pool.fetchval("SELECT ev_off FROM partitions WHERE p = 0") == 5


async def test_a_database_that_is_away_is_said_so(coordination: PostgresCoordinationStore, pool: asyncpg.Pool) -> None:
    await pool.close()
    with pytest.raises(LogUnavailable):
        await coordination.renew_lease("me", 60)
