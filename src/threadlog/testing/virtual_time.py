"""The clock of a test server: real time and what tests have moved it forward by, here and in its database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from threadlog.engine import clock

_PAUSE_SECONDS = 0.01

_MOVE = "UPDATE virtual_time.clock SET ahead = $1"
# When the next thing is due.
_NEXT = """
SELECT min(due_at) FROM (
    SELECT min(due_at) AS due_at FROM timers
    UNION ALL SELECT min(next_due_at) FROM crons
    UNION ALL SELECT min(due_at) FROM webhooks
    UNION ALL SELECT min(thread_expiry(ttl, updated_at, state_updated_at)) FROM threads WHERE ttl IS NOT NULL
    UNION ALL SELECT min(expires_at) FROM store_items
) AS things WHERE due_at > $1
"""
# What is due and has not happened, or has begun and not ended: name → count.
_UNSETTLED = """
SELECT what, n FROM (
    SELECT 'delayed runs' AS what, count(*) AS n FROM timers WHERE due_at <= now()
    UNION ALL SELECT 'crons', count(*) FROM crons WHERE next_due_at <= now()
    UNION ALL SELECT 'runs of crons', count(*) FROM cron_firings
    UNION ALL SELECT 'runs', count(*) FROM run_queue
    UNION ALL SELECT 'webhooks', count(*) FROM webhooks WHERE due_at <= now()
    UNION ALL SELECT 'expired threads', count(*) FROM threads
        WHERE ttl IS NOT NULL AND status <> 'busy' AND thread_expiry(ttl, updated_at, state_updated_at) <= now()
    UNION ALL SELECT 'expired items', count(*) FROM store_items WHERE expires_at <= now()
) AS things WHERE n > 0
"""


class VirtualTime:
    """Make it where the server's tasks are made: they inherit the clock. Then `drive`."""

    def __init__(self) -> None:
        self._offset = clock.ClockOffset()
        clock.CLOCK_OFFSET.set(self._offset)
        self._pool: asyncpg.Pool | None = None
        self._look: Callable[[], None] = lambda: None
        self._moving = asyncio.Lock()

    def drive(self, pool: asyncpg.Pool, look: Callable[[], None]) -> None:
        """`pool`: of the server's database; `look` makes the server look at what is due."""
        self._pool, self._look = pool, look

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset.ahead

    async def advance(self, by: timedelta, within_seconds: float) -> None:
        """See `LocalServer.advance`."""
        async with self._moving:
            until, deadline = self.now + by, time.monotonic() + within_seconds
            await self._settle(deadline)
            while (due := await self._next(self.now)) is not None and due <= until:
                await self._move_to(due)
                await self._settle(deadline)
            await self._move_to(until)
            await self._settle(deadline)

    async def _next(self, after: datetime) -> datetime | None:
        found: datetime | None = await self._fetchval(_NEXT, after)
        return found

    async def _move_to(self, moment: datetime) -> None:
        ahead = moment - self.now
        if ahead > timedelta(0):  # else real time has passed it
            self._offset.ahead += ahead
            await self._fetchval(_MOVE, self._offset.ahead)
        self._look()

    async def _settle(self, deadline: float) -> None:
        assert self._pool is not None
        while rows := await self._pool.fetch(_UNSETTLED):
            if time.monotonic() > deadline:
                going_on = ", ".join(f"{row['n']} {row['what']}" for row in rows)
                raise TimeoutError(f"still going on: {going_on}")
            self._look()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _fetchval(self, query: str, *args: Any) -> Any:
        assert self._pool is not None
        return await self._pool.fetchval(query, *args)
