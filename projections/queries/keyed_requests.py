"""Reads of requests with an idempotency key, and of the commands they have sent."""

from __future__ import annotations

import asyncpg

from threadlog.projections.queries.connection import Reader

_GET = """
SELECT fingerprint, begun_at, expires_at, status, headers, answer, complete FROM keyed_requests
WHERE id = $1 AND expires_at > now()
"""


async def get(db: Reader, request_id: str) -> asyncpg.Record | None:
    """The request that the key belongs to, None if it belongs to none. `status` is null until it is answered; `answer`
    is the body as a JSON string."""
    return await db.fetchrow(_GET, request_id)


async def command(db: Reader, command_id: str) -> asyncpg.Record | None:
    """`(p, ev_off, at)` of the event record of a keyed request's command, None if it has not changed anything."""
    return await db.fetchrow("SELECT p, ev_off, at FROM keyed_commands WHERE id = $1", command_id)


async def has_commands(db: Reader, prefix: str) -> bool:
    """Whether a command whose id begins like this has changed something."""
    return bool(await db.fetchval("SELECT EXISTS (SELECT FROM keyed_commands WHERE starts_with(id, $1))", prefix))
