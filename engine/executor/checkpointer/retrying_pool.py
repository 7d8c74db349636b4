"""Reads of the read models that wait while the database is away: a run in flight outlives a restart of Postgres."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from threadlog.engine.backoff import Backoff
from threadlog.engine.postgres.connection import leave_as_it_is
from threadlog.engine.postgres.errors import PASSING

logger = logging.getLogger(__name__)

# The first wait is short: most failures are a connection that a restarted server has closed.
_BACKOFF_SECONDS = (0.02, 0.5)


class RetryingPool:
    """The part of `asyncpg.Pool` that attempts read through. Only for statements that may be repeated."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @staticmethod
    def of(dsn: str, *, size: int, connection_class: type[asyncpg.Connection] = asyncpg.Connection) -> RetryingPool:
        """To be opened before its first use. `connection_class`: see `RunQueue`."""
        pool = asyncpg.create_pool(
            dsn,
            min_size=0,  # a process that only waits needs none
            max_size=size,
            command_timeout=60,
            reset=leave_as_it_is,
            connection_class=connection_class,
            server_settings={"application_name": "threadlog-executor"},
        )
        return RetryingPool(pool)

    async def open(self) -> None:
        await self._pool

    async def fetch(self, query: str, *arguments: Any) -> Any:
        return await self._patiently(self._pool.fetch, query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        return await self._patiently(self._pool.fetchrow, query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await self._patiently(self._pool.fetchval, query, *arguments)

    async def with_connection(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """What `work` returns, called with a connection of its own."""

        async def run(_: str) -> Any:
            async with self._pool.acquire() as connection:
                return await work(connection)

        return await self._patiently(run, "")

    def close(self) -> None:
        self._pool.terminate()

    async def _patiently(self, read: Callable[..., Awaitable[Any]], query: str, *arguments: Any) -> Any:
        failures, backoff = 0, Backoff(*_BACKOFF_SECONDS)
        while True:
            try:
                return await read(query, *arguments)
            except PASSING as error:
                if failures == 2 or failures % 60 == 59:
                    logger.warning("waiting for the database: %s", error)
                await backoff.wait()
                failures += 1
