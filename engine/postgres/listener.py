"""LISTEN that outlives outages, and proves now and then that what others NOTIFY arrives.

A connection can be up and deaf: a pooler that hands sessions around forgets its LISTEN, a server that was replaced
still answers while the others notify the new one, a connection whose other end is gone stays silent. What waits for a
notification then works by its slow poll, and nothing says so. Therefore every listener that has heard nothing for a
while has itself notified, from another connection, on a channel of its own. When that does not arrive it is deaf: it
says so in the log, counts in `deaf_listeners`, and listens on a new connection.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakSet

import asyncpg

from threadlog.engine.backoff import Backoff
from threadlog.engine.postgres.connection import CONNECT_SECONDS, PinnedConnection, Source
from threadlog.engine.postgres.errors import FAILED

log = logging.getLogger(__name__)

# How often a listener that hears nothing proves that it would. Each proof is one NOTIFY: ten processes cost one per
# second. What waits for notifications polls every second meanwhile, so that more often would gain little.
CHECK_SECONDS = 10.0
# What a notification, and an answer of the listening connection, get to arrive in. They take some milliseconds; a loop
# that user code holds takes some hundred, and takes in what has arrived before it looks at the time.
HEAR_SECONDS = 5.0

NOTIFY = "SELECT pg_notify($1, '')"

_DEAF = (
    "listener %s does not hear what is notified on %s: its reader works by polling. It listens on a new connection. "
    "If that does not help, DATABASE_URI leads to a pooler that shares sessions, or not to the server written to"
)

_listeners: WeakSet[Listener] = WeakSet()


def deaf_listeners() -> list[str]:
    """The names of this process' listeners that are connected and do not hear: a metric of the api."""
    return sorted(listener.name for listener in _listeners if listener.deaf)


class _Deaf(Exception):
    """The connection answers, and what others notify does not arrive on it."""


class Listener:
    """Keeps a connection that listens to `channel`. Connects anew until closed; `start`, then `aclose`."""

    def __init__(
        self,
        source: Source,
        channel: str,
        on_notify: Callable[[str], None],
        *,
        name: str,
        on_reconnect: Callable[[], None],
        on_lost: Callable[[], None] = lambda: None,
        notify: Callable[[str], Awaitable[object]] | None = None,
        prepare: Callable[[Any], Awaitable[None]] | None = None,
        check_every: float = CHECK_SECONDS,
        hear_within: float = HEAR_SECONDS,
    ) -> None:
        """One connection of `source` is kept. The callbacks run on the loop and must not block.

        `on_notify(payload)`; `on_reconnect()`: the connection listens, the first time or again, and what was notified
        before is lost: look for yourself. `on_lost()`: a connection that listened is gone. `notify(channel)`: sends a
        notification as others do, on another connection; needed if `source` is not a pool. `prepare(connection)`: for
        statements of the caller on it, see `connection`. `check_every`, `hear_within`: seconds.
        """
        self.name = name
        self.deaf = False
        self._channel, self._on_notify = channel, on_notify
        self._on_reconnect, self._on_lost = on_reconnect, on_lost
        self._source, self._prepare = source, prepare
        self._notify = notify or self._notify_on_another
        self._check_every, self._hear_within = check_every, hear_within
        self._own_channel = f"threadlog_hears_{uuid.uuid4().hex}"
        self._pinned = PinnedConnection(source, self._listen)
        self._lock = asyncio.Lock()  # one statement at a time
        self._listening = asyncio.Event()
        self._gone = asyncio.Event()
        self._connection: Any = None
        self._own_heard = asyncio.Event()
        self._any_heard = False  # since the last look
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listening when this returns, if the database is there."""
        _listeners.add(self)
        self._task = asyncio.create_task(self._run(), name=f"listener: {self.name}")
        await self._tried.wait()

    async def aclose(self) -> None:
        _listeners.discard(self)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """The listening connection for statements of the caller, waited for while there is none.

        After an error of the block, whatever it is, the listener connects anew.
        """
        while True:
            await self._listening.wait()
            async with self._lock:
                if not self._listening.is_set():
                    continue  # lost while another had it
                try:
                    yield self._connection
                except Exception:
                    self._listening.clear()
                    self._gone.set()
                    raise
                return

    async def _run(self) -> None:
        backoff, failing = Backoff(), False
        while True:
            self._gone = asyncio.Event()  # a new one: what is heard of an earlier connection does not concern this one
            listened = False
            try:
                self._connection = await self._pinned.get()
                listened = True
                backoff.reset()
                self._listening.set()
                self._tried.set()
                self._on_reconnect()
                await self._watch()
            except _Deaf:
                if not self.deaf:
                    log.warning(_DEAF, self.name, self._channel)
                self.deaf = True
            except FAILED as error:
                level = logging.DEBUG if failing else logging.WARNING  # once for an outage
                log.log(level, "listener %s has no connection to the database, connecting again: %r", self.name, error)
                failing = not listened
            except Exception:
                log.exception("listener %s failed, connecting again", self.name)
            finally:
                self._listening.clear()
                await self._pinned.drop()
            self._tried.set()
            if listened:
                self._on_lost()
            await backoff.wait()

    async def _listen(self, connection: Any) -> None:
        if self._prepare is not None:
            await self._prepare(connection)
        connection.add_termination_listener(lambda _, gone=self._gone: gone.set())
        await connection.add_listener(self._channel, self._heard)
        await connection.add_listener(self._own_channel, self._heard_itself)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._any_heard = True
        self._on_notify(str(payload))

    def _heard_itself(self, _connection: Any, _pid: int, _channel: str, _payload: object) -> None:
        self._any_heard = True
        self._own_heard.set()

    async def _watch(self) -> None:
        """Return never; raise when the connection is gone, or deaf."""
        watching = [asyncio.ensure_future(self._gone.wait()), asyncio.ensure_future(self._check())]
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
            if self._gone.is_set():
                raise ConnectionResetError("the listening connection is closed")
            await watching[1]
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _check(self) -> None:
        while True:
            self._any_heard = False
            await asyncio.sleep(self._check_every)
            if not self._any_heard and not await self._hears():
                raise _Deaf
            if self.deaf:
                self.deaf = False
                log.info("listener %s hears again", self.name)

    async def _hears(self) -> bool:
        """Whether a notification of another connection arrives. True as well when none can be sent."""
        self._own_heard.clear()
        sent = True
        try:
            await self._notify(self._own_channel)
        except FAILED as error:
            log.debug("listener %s can't be tried: %r", self.name, error)
            sent = False
        else:
            with suppress(TimeoutError):  # not `wait_for`: before Python 3.12 it can swallow a cancellation
                async with asyncio.timeout(self._hear_within):
                    await self._own_heard.wait()
        if not self._own_heard.is_set():
            # A statement under way delays what arrives; with the answer to the next one all has arrived. A connection
            # that does not answer is a lost one.
            async with self._lock:
                await self._connection.fetchval("SELECT 1", timeout=self._hear_within)
        return self._own_heard.is_set() or not sent

    async def _notify_on_another(self, channel: str) -> None:
        if not isinstance(self._source, asyncpg.Pool):
            raise TypeError(f"listener {self.name} has neither a pool nor a way to notify")
        async with self._source.acquire(timeout=CONNECT_SECONDS) as connection:
            await connection.execute(NOTIFY, channel)
