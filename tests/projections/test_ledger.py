"""Leases after an outage: who could not renew its own because the database was away is not taken for dead."""

from __future__ import annotations

import time
import uuid
from typing import Any

import asyncpg
import pytest

from engine.log.port import LogUnavailable
from engine.log.records import partition_of
from projections import ledger as module
from projections.ledger import PostgresLedger


async def no_values(partition: int, offset: int) -> bytes:
    raise AssertionError("nothing is read here")


@pytest.mark.parametrize("outage_seconds", [0.0, 3600.0])
async def test_after_an_outage_leases_count_only_when_executors_could_renew_them(
    database: str, outage_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`outage_seconds`: what counts as one. A connection that is merely lost delays nothing."""
    monkeypatch.setattr(module, "OUTAGE_SECONDS", outage_seconds)
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    away = False

    async def connect(*args: Any, **more: Any) -> asyncpg.Connection:
        if away:
            raise ConnectionRefusedError
        return await asyncpg.connect(*args, **more)

    pool = await asyncpg.create_pool(database, min_size=0, max_size=2, connect=connect)
    ledger = PostgresLedger(pool, no_values)
    run_id, thread_id = str(uuid.uuid4()), str(uuid.uuid4())
    partitions = list(range(await pool.fetchval("SELECT count(*) FROM partitions")))
    await pool.execute("INSERT INTO executors VALUES ('late', now() - interval '1 second', 1)")
    await pool.execute(
        "INSERT INTO run_queue (run_id, thread_id, p, kind, graph_id, attempt, scheduled_at, fresh, owner) "
        "VALUES ($1, $2, $3, 'run', 'g', 1, now(), true, 'late')",
        run_id,
        thread_id,
        partition_of(thread_id, len(partitions)),
    )
    assert [lost.run_id for lost in await ledger.lost_attempts(partitions)] == [run_id]
    away = True
    await pool.expire_connections()
    with pytest.raises(LogUnavailable):
        await ledger.lost_attempts(partitions)
    away = False
    back = await ledger.lost_attempts(partitions)
    assert [lost.run_id for lost in back] == ([] if outage_seconds == 0.0 else [run_id])
    deadline = time.monotonic() + 20
    while not (back := await ledger.lost_attempts(partitions)):
        assert time.monotonic() < deadline
    assert [lost.run_id for lost in back] == [run_id]
    await pool.close()
