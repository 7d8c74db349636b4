"""What a new run inherits from its thread, read for all runs that are being created at the same moment with one query.

Creating runs is the hottest path there is, and taking a connection out of the pool and putting it back costs several
times the query: so this keeps one, and whoever comes while it is in use shares the next query.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from projections.queries import threads


@dataclass(frozen=True, slots=True)
class Inherited:
    """Not to be changed by the caller: it may be shared."""

    metadata: dict[str, Any]
    config: dict[str, Any]


_Waiting = dict[str, list["asyncio.Future[Inherited | None]"]]


class ThreadLookup:
    """One query at a time, each for all threads asked for since the last one began."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._connection: Any = None
        self._waiting: _Waiting = {}
        self._reading: asyncio.Task[None] | None = None

    async def get(self, thread_id: str) -> Inherited | None:
        """None: there is no such thread. Raises what asyncpg raises."""
        future: asyncio.Future[Inherited | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(thread_id, []).append(future)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await future

    async def aclose(self) -> None:
        """Give the connection back."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        await self._release()

    async def _read(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                try:
                    found = await self._fetch(list(waiting))
                except Exception as error:
                    await self._release()
                    _settle(waiting, error)
                except asyncio.CancelledError:
                    _settle(waiting, asyncpg.InterfaceError("the lookup is closed"))
                    raise
                else:
                    for thread_id, futures in waiting.items():
                        for future in futures:
                            if not future.done():
                                future.set_result(found.get(thread_id))
        finally:
            self._reading = None
            _settle(self._waiting, asyncpg.InterfaceError("the lookup is closed"))

    async def _fetch(self, thread_ids: list[str]) -> dict[str, Inherited]:
        if self._connection is None or self._connection.is_closed():
            await self._release()
            self._connection = await self._pool.acquire()
        rows = await threads.for_runs(self._connection, thread_ids)
        return {
            str(row["thread_id"]): Inherited(orjson.loads(row["metadata"]), orjson.loads(row["config"])) for row in rows
        }

    async def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # a broken connection can't be given back in order
                await self._pool.release(connection)


def _settle(waiting: _Waiting, error: Exception) -> None:
    for futures in waiting.values():
        for future in futures:
            if not future.done():
                future.set_exception(error)
