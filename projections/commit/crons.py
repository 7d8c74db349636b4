"""The Postgres side of firing crons: what is due, what has fired and has no run yet, what a run is merged from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson

from threadlog.engine.crons.ports import DueCron, Firing, FiringContext, FiringCron
from threadlog.engine.encryption.cipher import has_token
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.postgres.connection import CONNECT_SECONDS
from threadlog.engine.postgres.errors import PASSING
from threadlog.engine.run_builder import AssistantDefaults
from threadlog.engine.schedules import iso
from threadlog.projections.commit.coordination import STATEMENT_SECONDS

_MOST = 10_000

_DUE = """
SELECT cron_id::text, next_due_at, extract(epoch FROM next_due_at - now())::float8 AS in_seconds, schedule, timezone,
    end_time, thread_id::text FROM crons
WHERE p = ANY ($1::int[]) AND next_due_at <= now() + make_interval(secs => $2) ORDER BY next_due_at LIMIT $3
"""
_FIRINGS = """
SELECT cron_id::text, due_at, run_id::text, thread_id::text FROM cron_firings
WHERE p = ANY ($1::int[]) ORDER BY due_at LIMIT $2
"""
_CONTEXTS = """
SELECT c.cron_id::text, c.thread_id IS NOT NULL AS of_thread, c.assistant_id::text, c.payload, c.metadata,
    c.on_run_completed, a.graph_id, a.config, a.context, a.metadata AS assistant_metadata,
    t.metadata AS thread_metadata, t.config AS thread_config
FROM crons c LEFT JOIN assistants a USING (assistant_id) LEFT JOIN threads t ON t.thread_id = c.thread_id
WHERE c.cron_id = ANY ($1::uuid[])
"""
_ORPHANS = """
SELECT cron_id::text FROM crons c WHERE p = ANY ($1::int[]) AND (
    c.thread_id IS NOT NULL AND NOT EXISTS (SELECT FROM threads t WHERE t.thread_id = c.thread_id)
    OR NOT EXISTS (SELECT FROM assistants a WHERE a.assistant_id = c.assistant_id))
LIMIT 100
"""


class PostgresCronStore:
    """`engine.crons.ports.CronStore` on a pool, of which one connection is used at a time."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def due(self, partitions: Sequence[int], within_seconds: float) -> list[DueCron]:
        return [
            DueCron(
                cron_id=row["cron_id"],
                due_at=iso(row["next_due_at"]),
                in_seconds=row["in_seconds"],
                schedule=row["schedule"],
                timezone=row["timezone"],
                end_time=None if row["end_time"] is None else iso(row["end_time"]),
                thread_id=row["thread_id"],
            )
            for row in await self._fetch(_DUE, list(partitions), within_seconds, _MOST)
        ]

    async def firings(self, partitions: Sequence[int]) -> list[Firing]:
        rows = await self._fetch(_FIRINGS, list(partitions), _MOST)
        return [Firing(row["cron_id"], iso(row["due_at"]), row["run_id"], row["thread_id"]) for row in rows]

    async def contexts(self, firings: Sequence[Firing]) -> list[FiringContext]:
        rows = await self._fetch(_CONTEXTS, [firing.cron_id for firing in firings])
        # Encrypted still: the cron was deleted while this was read, and its key with it.
        contexts = {row["cron_id"]: _context(row) for row in rows if not has_token(row["payload"].encode())}
        return [contexts.get(firing.cron_id, FiringContext(None, None, None)) for firing in firings]

    async def orphans(self, partitions: Sequence[int]) -> list[str]:
        return [row["cron_id"] for row in await self._fetch(_ORPHANS, list(partitions))]

    async def _fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with self._connection() as conn:
            return list(await conn.fetch(query, *args, timeout=STATEMENT_SECONDS))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as conn:
                yield conn
        except PASSING as error:
            raise LogUnavailable(f"the database is away: {error!r}") from error


def _context(row: asyncpg.Record) -> FiringContext:
    cron = FiringCron(
        of_thread=row["of_thread"],
        assistant_id=row["assistant_id"],
        payload=orjson.loads(row["payload"]),
        metadata=orjson.loads(row["metadata"]),
        on_run_completed=row["on_run_completed"],
    )
    assistant = thread = None
    if row["graph_id"] is not None:
        assistant = AssistantDefaults(
            assistant_id=row["assistant_id"],
            graph_id=row["graph_id"],
            config=orjson.loads(row["config"]),
            context=orjson.loads(row["context"]),
            metadata=orjson.loads(row["assistant_metadata"]),
        )
    if row["thread_metadata"] is not None:
        thread = (orjson.loads(row["thread_metadata"]), orjson.loads(row["thread_config"]))
    return FiringContext(cron, assistant, thread)
