"""The derived tables in Postgres: a batch of records is counted in one transaction with its positions, once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from threadlog.engine.postgres.connection import CONNECT_SECONDS, leave_as_it_is
from threadlog.projections.derived.prices import PriceTable
from threadlog.projections.derived.usage import TOKENS, Counts, RunFacts
from threadlog.projections.subscribers.accepted import AcceptedRecord

_SCHEMA = Path(__file__).with_name("tables.sql")
_SCHEMA_LOCK = 0x7468_6465  # "thde"
_STATEMENT_SECONDS = 60.0


class DerivedTables:
    """Counts records, with connections of its own. Methods raise what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool, prices: PriceTable, *, exports: bool = False) -> None:
        self.pool, self._prices, self._exports = pool, prices, exports

    @classmethod
    async def open(cls, dsn: str, prices: PriceTable, *, anew: bool = False, exports: bool = False) -> DerivedTables:
        """Creates the tables if they are absent. `anew`: after dropping them. `exports`: what ends and what changes is
        noted for `export.Exporter`."""
        pool = await asyncpg.create_pool(
            dsn, min_size=0, max_size=2, reset=leave_as_it_is, timeout=CONNECT_SECONDS,
            command_timeout=_STATEMENT_SECONDS, server_settings={"application_name": "threadlog-derive"},
        )  # fmt: skip
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)
                if anew:
                    await connection.execute("DROP SCHEMA IF EXISTS threadlog_derived CASCADE")
                await connection.execute(_SCHEMA.read_text())
        except BaseException:
            pool.terminate()
            raise
        return cls(pool, prices, exports=exports)

    async def aclose(self) -> None:
        await self.pool.close()

    async def count(self, records: Sequence[AcceptedRecord]) -> int:
        """Count these records, but those that were counted before; returns how many were new."""
        async with self.pool.acquire() as connection, connection.transaction():
            partitions = sorted({record.partition for record in records})
            # Rows of all, so that two workers that have a partition in turn wait for each other, in order.
            await connection.execute(
                "INSERT INTO threadlog_derived.positions SELECT unnest($1::int[]), 0 ON CONFLICT DO NOTHING", partitions
            )
            rows = await connection.fetch(
                "SELECT partition, next FROM threadlog_derived.positions WHERE partition = ANY ($1::int[]) "
                "ORDER BY partition FOR UPDATE",
                partitions,
            )
            at: dict[int, int] = {row["partition"]: row["next"] for row in rows}
            times: dict[int, datetime] = {}
            fresh: list[AcceptedRecord] = []
            for record in records:
                if record.offset >= at[record.partition]:
                    at[record.partition] = record.offset + 1
                    times[record.partition] = datetime.fromisoformat(record.at)
                    fresh.append(record)
            if not fresh:
                return 0
            counts = Counts(self._prices, await _runs_of(connection, fresh))
            ends: list[tuple[int, int, int, str]] = []
            for record in fresh:
                before = len(counts.ended)
                counts.add(record.events, at=record.at, actor=record.actor)
                place = (record.partition, record.offset)
                ends += [(*place, index, run_id) for index, run_id in enumerate(counts.ended[before:])]
            await _write(connection, counts)
            if self._exports:
                await _note(connection, counts, ends)
            await connection.execute(
                "UPDATE threadlog_derived.positions p SET next = n.next, at = greatest(p.at, n.at) "
                "FROM unnest($1::int[], $2::bigint[], $3::timestamptz[]) AS n (partition, next, at) "
                "WHERE p.partition = n.partition",
                list(at), list(at.values()), [times.get(partition) for partition in at],
            )  # fmt: skip
        return len(fresh)

    async def alive(self) -> None:
        """Note that a worker counts."""
        await self.pool.execute(
            "INSERT INTO threadlog_derived.worker (alive) VALUES (now()) ON CONFLICT (one) DO UPDATE SET alive = now()"
        )

    async def forget_runs(self, older_than: timedelta) -> None:
        """Forget runs that ended this long ago; windows stay."""
        await self.pool.execute("DELETE FROM threadlog_derived.runs WHERE ended_at < now() - $1::interval", older_than)


async def _runs_of(connection: Any, records: Iterable[AcceptedRecord]) -> dict[str, RunFacts]:
    """The runs that these records are about, created before them, and all in flight of threads they delete."""
    runs: set[str] = set()
    threads: set[str] = set()
    for record in records:
        for event in record.events:
            if event["type"] == "thread.deleted":
                threads.add(event["thread_id"])
            elif isinstance(event.get("run_id"), str):
                runs.add(event["run_id"])
    rows = await connection.fetch(
        "SELECT * FROM threadlog_derived.runs WHERE run_id = ANY ($1::text[]) "
        "UNION SELECT * FROM threadlog_derived.runs WHERE thread_id = ANY ($2::text[]) AND ended_at IS NULL",
        list(runs), list(threads),
    )  # fmt: skip
    return {row["run_id"]: RunFacts(**{**row, "usage": orjson.loads(row["usage"])}) for row in rows}


async def _write(connection: Any, counts: Counts) -> None:
    # In the order of their keys everywhere: two workers that count the same windows can't deadlock.
    runs = [counts.runs[run_id] for run_id in sorted(counts.changed)]
    if runs:
        await connection.executemany(
            _PUT_RUN,
            [
                (
                    run.run_id, run.thread_id, run.graph_id, run.assistant_id, run.actor, run.tags, run.created_at,
                    run.started_at, run.ended_at, run.status, run.attempts, orjson.dumps(run.usage).decode(), run.cost,
                )
                for run in runs
            ],
        )  # fmt: skip
    if counts.of_runs:
        await connection.executemany(
            _ADD_RUNS,
            [
                (start, dimension, value, *(sums[name] for name in (*_RUN_SUMS, *_RUN_MAXIMA)))
                for (start, dimension, value), sums in sorted(counts.of_runs.items())
            ],
        )
    if counts.durations:
        await connection.executemany(
            _ADD_DURATIONS,
            [(*key, kind, bucket, runs) for (key, kind, bucket), runs in sorted(counts.durations.items())],
        )
    if counts.of_usage:
        await connection.executemany(
            _ADD_USAGE,
            [
                (*key, model, *(sums[name] for name in _USAGE_SUMS), counts.costs[key, model])
                for (key, model), sums in sorted(counts.of_usage.items())
            ],
        )


async def _note(connection: Any, counts: Counts, ends: Sequence[tuple[int, int, int, str]]) -> None:
    """What the exporter has to write: runs that ended, windows that changed."""
    lines = [line_of(counts.runs[run_id], *place) for *place, run_id in ends]
    await connection.executemany(
        'INSERT INTO threadlog_derived.ended_runs (partition, "offset", idx, line) VALUES ($1, $2, $3, $4)',
        [(*place, line) for (*place, _), line in zip(ends, lines, strict=True)],
    )
    starts = sorted({key[0] for key in counts.of_runs} | {key[0] for key, _ in counts.of_usage})
    await connection.execute(
        # Updated, so that it is locked: the exporter takes it and reads the window only after this transaction.
        "INSERT INTO threadlog_derived.changed_windows SELECT unnest($1::timestamptz[]) "
        "ON CONFLICT (start) DO UPDATE SET start = excluded.start",
        starts,
    )


def line_of(run: RunFacts, partition: int, offset: int, index: int) -> str:
    """A finished run as a line of an export; `partition`, `offset` and `index` are its own for ever."""
    line = {"partition": partition, "offset": offset, "index": index, **asdict(run), "cost": float(run.cost)}
    return orjson.dumps(line, option=orjson.OPT_UTC_Z).decode()


_RUN_SUMS = ("runs", "succeeded", "failed", "timed_out", "interrupted", "attempts", "wait_seconds", "run_seconds")
_RUN_MAXIMA = ("wait_max", "run_max")
_USAGE_SUMS = ("calls", *TOKENS, "unpriced_calls")

_PUT_RUN = """
INSERT INTO threadlog_derived.runs (
    run_id, thread_id, graph_id, assistant_id, actor, tags, created_at, started_at, ended_at, status, attempts, usage,
    cost
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (run_id) DO UPDATE SET started_at = excluded.started_at, ended_at = excluded.ended_at,
    status = excluded.status, attempts = excluded.attempts, usage = excluded.usage, cost = excluded.cost
"""


def _adding(table: str, key: Sequence[str], sums: Sequence[str], maxima: Sequence[str] = ()) -> str:
    columns = [*key, *sums, *maxima]
    values = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    changes = [f"{name} = w.{name} + excluded.{name}" for name in sums]
    changes += [f"{name} = greatest(w.{name}, excluded.{name})" for name in maxima]
    added = ", ".join(changes)
    return (
        f"INSERT INTO threadlog_derived.{table} AS w ({', '.join(columns)}) VALUES ({values}) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {added}"
    )


_ADD_RUNS = _adding("run_windows", ("start", "dimension", "value"), _RUN_SUMS, _RUN_MAXIMA)
_ADD_DURATIONS = _adding("duration_windows", ("start", "dimension", "value", "kind", "bucket"), ("runs",))
_ADD_USAGE = _adding("usage_windows", ("start", "dimension", "value", "model"), (*_USAGE_SUMS, "cost"))
