"""In-process cache of what a new run inherits from its thread: folded from events, or read for all runs that
are created at the same moment with one query.

Creating runs is the hottest path there is, and taking a connection out of the pool and putting it back costs several
times the query: so this keeps one, and callers that arrive while it is in use share the next query.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from threadlog.engine.encryption.field_cipher import has_field_token
from threadlog.projections.fold.threads import left_on_thread, merged
from threadlog.projections.queries import threads


@dataclass(frozen=True, slots=True)
class ThreadDefaults:
    """Metadata and config of a thread, and whether it has a priority. Shared: callers must not change them."""

    metadata: dict[str, Any]
    config: dict[str, Any]
    prioritized: bool = False

    def after(self, event: dict[str, Any]) -> ThreadDefaults:
        """What they are after this event of the thread, as its row has them."""
        metadata, config = left_on_thread(event)
        prioritized = self.prioritized or (event["type"] == "run.created" and "priority" in event)
        if not metadata and config is None and prioritized is self.prioritized:
            return self
        return ThreadDefaults(
            merged(self.metadata, metadata) if metadata else self.metadata,
            self.config if config is None else config,
            prioritized,
        )


def _has_encrypted(event: dict[str, Any]) -> bool:
    fields = ("metadata", "config", "thread_metadata", "thread_config")
    return has_field_token(orjson.dumps([event.get(field) for field in fields]))


_MAX_THREADS = 4096
_Waiting = dict[str, list["asyncio.Future[ThreadDefaults | None]"]]


class ThreadDefaultsCache:
    """Runs one query at a time, each for all threads requested since the previous one began.

    Where `changed` receives every projected event (`ApiDeps.single_process`), threads with recent events need no query.
    """

    def __init__(self, pool: asyncpg.Pool, *, with_priority: bool = False, with_encrypted: bool = False) -> None:
        """`with_priority`: whether the application sets priorities; else no thread is looked at for its own.
        `with_encrypted`: fields of events may be encrypted, which the pool decrypts and this does not."""
        self._pool, self._with_priority, self._with_encrypted = pool, with_priority, with_encrypted
        self._cached: OrderedDict[str, ThreadDefaults] = OrderedDict()
        self._connection: Any = None
        self._waiting: _Waiting = {}
        self._reading: asyncio.Task[None] | None = None

    async def get(self, thread_id: str) -> ThreadDefaults | None:
        """Returns None when the thread does not exist. Raises what asyncpg raises."""
        if (defaults := self._cached.get(thread_id)) is not None:
            return defaults
        future: asyncio.Future[ThreadDefaults | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(thread_id, []).append(future)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await future

    def changed(self, thread_id: str, events: list[dict[str, Any]]) -> None:
        """Fold these projected events of a thread."""
        if self._with_encrypted and any(map(_has_encrypted, events)):
            self._cached.pop(thread_id, None)
            return
        defaults = before = self._cached.get(thread_id)
        for event in events:
            match event["type"]:
                case "thread.created":
                    defaults = ThreadDefaults(event.get("metadata", {}), event.get("config", {}))
                case "thread.deleted":
                    defaults = None
                case _ if defaults is not None:
                    defaults = defaults.after(event)
        if defaults is None:
            self._cached.pop(thread_id, None)
        elif defaults is not before:
            self._cached[thread_id] = defaults
            self._cached.move_to_end(thread_id)
            if len(self._cached) > _MAX_THREADS:
                self._cached.popitem(last=False)

    async def aclose(self) -> None:
        """Release the connection; calls of `get` under way raise `InterfaceError`."""
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
                    defaults = await self._fetch(list(waiting))
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
                                future.set_result(defaults.get(thread_id))
        finally:
            self._reading = None
            _settle(self._waiting, asyncpg.InterfaceError("the lookup is closed"))

    async def _fetch(self, thread_ids: list[str]) -> dict[str, ThreadDefaults]:
        if self._connection is None or self._connection.is_closed():
            await self._release()
            self._connection = await self._pool.acquire()
        rows = await threads.for_runs(self._connection, thread_ids, with_priority=self._with_priority)
        return {
            str(row["thread_id"]): ThreadDefaults(
                orjson.loads(row["metadata"]), orjson.loads(row["config"]), row["prioritized"]
            )
            for row in rows
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
