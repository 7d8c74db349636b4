"""A connection kept for one purpose: opened when it is needed, thrown away when its state is in doubt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from threadlog.engine.postgres.errors import FAILED

# Waiting for a connection, of a pool or of the server. A healthy server opens one in milliseconds; the api answers 503
# well before its own time limit of 10 s (`engine.gateway`).
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0

Open = Callable[[], Awaitable[asyncpg.Connection]]
Source = asyncpg.Pool | Open
"""Where connections come from: a pool, or a function that opens one of the caller's own."""


async def leave_as_it_is(connection: object) -> None:
    """For pools none of whose users changes the session: the round trip that resets it after every use is saved."""


class PinnedConnection:
    """One connection of `source`, kept until it fails; the next use then opens another.

    Not for concurrent use: a connection of Postgres runs one statement at a time.
    """

    def __init__(self, source: Source, prepare: Callable[[Any], Awaitable[None]] | None = None) -> None:
        """`prepare`: called with every new connection, for session settings and prepared statements."""
        self._source, self._prepare = source, prepare
        self._connection: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that nothing is known to have ended."""
        try:
            return self._connection is not None and not self._connection.is_closed()
        except asyncpg.InterfaceError:  # the pool has noticed first, and taken it back
            return False

    async def get(self) -> Any:
        """The connection. Raises `FAILED` when none can be opened; the caller drops it after an error of its own."""
        if not self.is_open:
            await self.drop()
            try:
                if isinstance(self._source, asyncpg.Pool):
                    self._connection = await self._source.acquire(timeout=CONNECT_SECONDS)
                else:
                    self._connection = await self._source()
                if self._prepare is not None:
                    await self._prepare(self._connection)
            except BaseException:
                await self.drop()
                raise
        return self._connection

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        """The connection for the block; dropped when the block raises one of `FAILED`."""
        connection = await self.get()
        try:
            yield connection
        except FAILED:
            await self.drop()
            raise

    async def drop(self) -> None:
        """Terminate the connection, without waiting for the server, and give its place in the pool back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAILED):  # a lost one went back to the pool by itself
                connection.terminate()
                if isinstance(self._source, asyncpg.Pool):
                    await self._source.release(connection)

    async def aclose(self) -> None:
        """Say goodbye to the server, if there is a connection and it is the caller's own; else as `drop`."""
        if self.is_open and not isinstance(self._source, asyncpg.Pool):
            with suppress(*FAILED):
                await self._connection.close(timeout=CLOSE_SECONDS)
        await self.drop()
