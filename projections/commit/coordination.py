"""Coordination store in Postgres: partition leases, decider states, timers, lost attempts, guarded projection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.postgres.connection import CONNECT_SECONDS
from threadlog.engine.postgres.errors import PASSING
from threadlog.engine.processor.ports import (
    AttemptsLook,
    Batch,
    ExpiredItems,
    ExpiredThread,
    Fenced,
    LostAttempt,
    Membership,
    Position,
    Timer,
)
from threadlog.projections.fold.batch import ReadValue
from threadlog.projections.fold.project import (
    fold,
    holds_large,
    one_statement,
    project_singly,
    statements,
    unprojectable,
    write,
)

STATEMENT_SECONDS = 30.0
VALUE_SECONDS = 2.0

_MOVE = "SELECT move_partitions($1)"

# Every statement locks rows in the order of their partition, so that processors never deadlock. Locking is a statement
# of its own, because an UPDATE that has to wait may pass over a row that was changed meanwhile.
_LOCK_MINE = "SELECT p FROM partitions WHERE owner = $1 ORDER BY p FOR NO KEY UPDATE"
_LOCK_THESE = "SELECT p FROM partitions WHERE owner = $1 AND p = ANY ($2::int[]) ORDER BY p FOR NO KEY UPDATE"
# Another processor is acquiring the rows it has locked, or renews them: this one leaves them out.
_LOCK_FREE = """
SELECT p FROM partitions WHERE CASE WHEN owner = $1 THEN NOT p = ANY ($2::int[]) ELSE owner IS NULL
    OR NOT EXISTS (SELECT FROM processors o WHERE o.owner = partitions.owner AND o.lease_until >= now()) END
ORDER BY p LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
"""
# An owner has one lease for all its partitions: renewing it costs the same however many there are, and waits for none.
_RENEW_LEASE = """
WITH me AS (
    INSERT INTO processors VALUES ($1, now() + make_interval(secs => $2))
    ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until
), dead AS (
    DELETE FROM processors WHERE lease_until < now() - interval '1 minute' AND owner <> $1
)
SELECT (SELECT count(*) FROM processors WHERE owner <> $1 AND lease_until > now()) + 1 AS processors,
    array_agg(p) AS partitions, array_agg(epoch) AS epochs FROM partitions WHERE owner = $1
"""
_ACQUIRE = """
WITH me AS (
    INSERT INTO processors VALUES ($1, now() + make_interval(secs => $2))
    ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until
)
UPDATE partitions SET epoch = epoch + 1, owner = $1
WHERE p = ANY ($3::int[]) RETURNING p, epoch, log_epoch, ev_off, cmd_off
"""
_RELEASE = "UPDATE partitions SET owner = NULL WHERE p = ANY ($1::int[])"
_LEAVE = "DELETE FROM processors WHERE owner = $1"
LOAD = "SELECT key, state FROM aggregates WHERE key = ANY ($1::text[])"
_CARRIED_OUT = "SELECT id FROM keyed_commands WHERE id = ANY ($1::text[])"
_TIMERS = """
SELECT id, p, key, type, body, extract(epoch FROM due_at - now())::float8 AS in_seconds FROM timers
WHERE p = ANY ($1::int[]) AND due_at <= now() + make_interval(secs => $2) ORDER BY due_at LIMIT 1000
"""
# After an outage of more than OUTAGE_SECONDS no lease counts as expired for GRACE_SECONDS: leases ran out though their
# executors are alive. An executor tries again after at most a third of a second, and then needs a connection.
OUTAGE_SECONDS = 1.0
GRACE_SECONDS = 3.0

# $2: whether leases count. First those that were stopped and not claimed: no executor can claim them any more, so there
# is none to wait for. A row without a partition says that there are attempts.
_ATTEMPTS = """
(SELECT p, thread_id::text, run_id::text, attempt, '' AS owner FROM run_queue
WHERE owner IS NULL AND cancel IS NOT NULL AND p = ANY ($1::int[])
LIMIT 1000)
UNION ALL
(SELECT q.p, q.thread_id::text, q.run_id::text, q.attempt, q.owner FROM run_queue q
WHERE $2 AND q.owner IN (
    SELECT o.owner FROM (SELECT DISTINCT owner FROM run_queue WHERE owner IS NOT NULL) o
    LEFT JOIN executors e ON e.executor_id = o.owner WHERE e.lease_until IS NULL OR e.lease_until < now()
) AND q.p = ANY ($1::int[])
LIMIT 1000)
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL WHERE EXISTS (SELECT FROM run_queue)
"""
# By the index of what expires: what is not due is not read.
_EXPIRED_ITEMS = """
SELECT namespace, max(expires_at) AS before FROM (
    SELECT namespace, expires_at FROM store_items WHERE p = ANY ($1::int[]) AND expires_at <= now() LIMIT 100000
) due GROUP BY namespace LIMIT $2
"""
# Through the index of `thread_expiry`. What an engine that is not this one owns is left to it.
EXPIRED = """
SELECT t.thread_id, thread_expiry(t.ttl, t.updated_at, t.state_updated_at) AS over_at
FROM threads t JOIN aggregates a ON a.key = t.thread_id::text
WHERE t.ttl IS NOT NULL AND t.status <> 'busy' AND a.p = ANY ($1::int[])
    AND thread_expiry(t.ttl, t.updated_at, t.state_updated_at) <= now()
    AND (thread_expiry(t.ttl, t.updated_at, t.state_updated_at), t.thread_id)
        > (coalesce($3::timestamptz, '-infinity'), coalesce($4::uuid, '00000000-0000-0000-0000-000000000000'))
ORDER BY thread_expiry(t.ttl, t.updated_at, t.state_updated_at), t.thread_id LIMIT $2
"""


def fenced_by(error: asyncpg.PostgresError) -> Fenced | None:
    """The `Fenced` that an error of `move_partitions` stands for; None for another error."""
    if error.sqlstate != "TL001":
        return None
    return Fenced([int(p) for p in (error.detail or "").split(",") if p])


class PostgresCoordinationStore:
    """`engine.processor.ports.CoordinationStore` on a pool.

    The pool's connections use asyncpg's own codecs; three of them may be in use at once. `read_value` reads a record's
    value from the `values` topic, for events that point at one.
    """

    def __init__(self, pool: asyncpg.Pool, read_value: ReadValue, *, notify_applied: bool = True) -> None:
        """`notify_applied`: other processes wait for what this one projects."""
        self._pool = pool
        self._read_value = read_value
        self._notify_applied = notify_applied
        self._away_since: float | None = None  # by the monotonic clock, as the next
        self._leases_count_from = 0.0

    async def renew_lease(self, owner: str, lease_seconds: float) -> Membership:
        async with self._connection() as conn:
            row = await conn.fetchrow(_RENEW_LEASE, owner, lease_seconds, timeout=STATEMENT_SECONDS)
        held = zip(row["partitions"] or (), row["epochs"] or (), strict=True)
        return Membership(dict(held), row["processors"])

    async def acquire(self, owner: str, lease_seconds: float, limit: int, held: Sequence[int]) -> list[Position]:
        async with self._locked(_LOCK_FREE, owner, list(held), limit) as (conn, free):
            return await self._acquire(conn, owner, lease_seconds, free)

    async def reacquire(self, owner: str, lease_seconds: float, partitions: Sequence[int]) -> list[Position]:
        async with self._locked(_LOCK_THESE, owner, list(partitions)) as (conn, mine):
            return await self._acquire(conn, owner, lease_seconds, mine)

    async def _acquire(self, conn: Any, owner: str, lease_seconds: float, partitions: list[int]) -> list[Position]:
        rows = await conn.fetch(_ACQUIRE, owner, lease_seconds, partitions, timeout=STATEMENT_SECONDS)
        return [Position(*row) for row in sorted(rows, key=lambda row: row["p"])]

    async def release(self, owner: str, partitions: Sequence[int]) -> None:
        async with self._locked(_LOCK_THESE, owner, list(partitions)) as (conn, mine):
            await conn.execute(_RELEASE, mine, timeout=STATEMENT_SECONDS)

    async def leave(self, owner: str) -> None:
        async with self._locked(_LOCK_MINE, owner) as (conn, mine):
            await conn.execute(_RELEASE, mine, timeout=STATEMENT_SECONDS)
            await conn.execute(_LEAVE, owner, timeout=STATEMENT_SECONDS)

    async def load(self, keys: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        async with self._connection() as conn:
            return states_of(await conn.fetch(LOAD, list(keys), timeout=STATEMENT_SECONDS))

    async def carried_out(self, ids: Sequence[str]) -> set[str]:
        async with self._connection() as conn:
            rows = await conn.fetch(_CARRIED_OUT, list(ids), timeout=STATEMENT_SECONDS)
        return {row["id"] for row in rows}

    async def timers(self, partitions: Sequence[int], within_seconds: float) -> list[Timer]:
        async with self._connection() as conn:
            rows = await conn.fetch(_TIMERS, list(partitions), within_seconds, timeout=STATEMENT_SECONDS)
        return [
            Timer(row["id"], row["p"], row["key"], row["type"], orjson.loads(row["body"]), row["in_seconds"])
            for row in rows
        ]

    async def look_at_attempts(self, partitions: Sequence[int]) -> AttemptsLook:
        async with self._connection() as conn:
            leases_count = time.monotonic() >= self._leases_count_from  # the connection may tell of an outage
            rows = await conn.fetch(_ATTEMPTS, list(partitions), leases_count, timeout=STATEMENT_SECONDS)
        return AttemptsLook([LostAttempt(*row) for row in rows if row["p"] is not None], bool(rows))

    async def expired_items(self, partitions: Sequence[int], limit: int) -> list[ExpiredItems]:
        async with self._connection() as conn:
            rows = await conn.fetch(_EXPIRED_ITEMS, list(partitions), limit, timeout=STATEMENT_SECONDS)
        return [ExpiredItems(row["namespace"], row["before"].isoformat(timespec="microseconds")) for row in rows]

    async def expired_threads(
        self, partitions: Sequence[int], limit: int, after: ExpiredThread | None
    ) -> list[ExpiredThread]:
        behind = (None, None) if after is None else (datetime.fromisoformat(after.over_at), after.thread_id)
        async with self._connection() as conn:
            rows = await conn.fetch(EXPIRED, list(partitions), limit, *behind, timeout=STATEMENT_SECONDS)
        return [ExpiredThread(str(row["thread_id"]), row["over_at"].isoformat()) for row in rows]

    async def project(self, batches: Sequence[Batch]) -> None:
        async with self._connection() as conn:
            try:
                await move_and_project(conn, batches, self._read_value, notify_applied=self._notify_applied)
            except asyncpg.PostgresError as error:
                if (fenced := fenced_by(error)) is not None:
                    raise fenced from error
                raise

    async def project_singly(self, batch: Batch) -> None:
        read_value = patient(self._read_value)
        async with self._connection() as conn:
            try:
                async with conn.transaction():
                    await conn.execute(_MOVE, moves([batch]))
                    for item in batch.records:
                        await project_singly(conn, batch.partition, item, read_value)
                    if self._notify_applied:
                        await conn.execute("SELECT pg_notify('threadlog_applied', $1)", applied_payload([batch]))
            except asyncpg.PostgresError as error:
                if (fenced := fenced_by(error)) is not None:
                    raise fenced from error
                raise

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as conn:
                self._is_back()
                yield conn
        except PASSING as error:
            if self._away_since is None:
                self._away_since = time.monotonic()
            raise LogUnavailable(f"the database is away: {error!r}") from error

    @asynccontextmanager
    async def _locked(self, query: str, *args: Any) -> AsyncIterator[tuple[Any, list[int]]]:
        """A transaction that has locked the rows this query names."""
        async with self._connection() as conn, conn.transaction():
            yield conn, [row["p"] for row in await conn.fetch(query, *args, timeout=STATEMENT_SECONDS)]

    def _is_back(self) -> None:
        if self._away_since is not None:
            now = time.monotonic()
            if now - self._away_since >= OUTAGE_SECONDS:
                self._leases_count_from = now + GRACE_SECONDS
            self._away_since = None


def states_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Of what `LOAD` returns: the states by key."""
    return {row["key"]: orjson.loads(row["state"]) for row in rows}


def patient(read_value: ReadValue) -> ReadValue:
    """Retry a value that is not found, for VALUE_SECONDS: after a change of a partition's leader in Kafka, the new one
    may need a moment until it serves all it has."""
    deadline = time.monotonic() + VALUE_SECONDS

    async def read(p: int, offset: int) -> bytes:
        while True:
            try:
                return await read_value(p, offset)
            except LookupError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(VALUE_SECONDS / 20)

    return read


async def move_and_project(conn: Any, batches: Sequence[Batch], read_value: ReadValue, *, notify_applied: bool) -> None:
    """Move the partitions, guarded by their epochs, and write the rows, in one transaction: one statement if the
    batches fold to one set of rows."""
    applied = applied_payload(batches) if notify_applied else None
    with unprojectable():
        folds = fold((batch.partition, batch.records) for batch in batches)
        for rows in folds:
            if rows.deferred_values:
                await rows.fetch(read_value)
        written = statements(folds[0], applied)
        if len(folds) == 1 and not holds_large(written):
            statement = one_statement(_MOVE, 1, (sql for sql, _ in written))
            arguments = (argument for _, arguments in written for argument in arguments)
            await conn.execute(statement, moves(batches), *arguments, timeout=STATEMENT_SECONDS)
            return
    async with conn.transaction():
        await conn.execute(_MOVE, moves(batches))
        await write(conn, folds, read_value, applied=applied)


def moves(batches: Sequence[Batch]) -> list[tuple[int, int, int, int, int]]:
    """The argument of `move_partitions`."""
    return [(batch.partition, batch.epoch, batch.log_epoch, batch.ev_off, batch.cmd_off) for batch in batches]


def applied_payload(batches: Sequence[Batch]) -> str:
    """The notification of `threadlog_applied`: `p:ev_off`, comma-joined."""
    return ",".join(f"{batch.partition}:{batch.ev_off}" for batch in batches)
