"""Disconnect watcher: notices that a client has gone while nothing is being written to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from threadlog.api.http.errors import is_unavailable
from threadlog.api.http.request_keys import RequestKey

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 0.2
_ENDED = RequestKey("ended_by_server", bool)

CREATOR_LEFT = "client disconnected from the run stream (on_disconnect=cancel)"
JOINER_LEFT = "client disconnected from the run stream (cancel_on_disconnect=true)"


class Disconnects:
    """Watches the connections of all open streams with one timer: a task per stream would cost more than the stream."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[web.Request, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._cancelling: dict[str, int] = {}
        self._later: set[asyncio.Task[None]] = set()

    @contextmanager
    def watch(self, request: web.Request, on_disconnect: Callable[[], None]) -> Iterator[None]:
        """Call `on_disconnect` once, within 0.2 s (`_EVERY_SECONDS`), if the client closes the connection meanwhile."""
        key = id(request)
        self._watched[key] = (request, on_disconnect)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_SECONDS, self._look)
        try:
            yield
        finally:
            self._watched.pop(key, None)

    @contextmanager
    def cancels(self, run_id: str) -> Iterator[Callable[[], bool]]:
        """Count a client that cancels the run when it leaves; the function returns whether it is the last such one."""
        self._cancelling[run_id] = self._cancelling.get(run_id, 0) + 1
        try:
            yield lambda: self._cancelling.get(run_id) == 1
        finally:
            remaining = self._cancelling[run_id] - 1
            if remaining:
                self._cancelling[run_id] = remaining
            else:
                del self._cancelling[run_id]

    def later(self, seconds: float, call: Callable[[], Awaitable[None]]) -> None:
        """Call `call` after so many seconds, unless the server stops before."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            try:
                await call()
            except Exception as error:
                if not is_unavailable(error):
                    raise
                logger.warning("what was to follow a client's leaving has not been done: %s", error)

        task = asyncio.create_task(wait(), name="after a client has left")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def close(self) -> None:
        for task in self._later:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watched.clear()

    def _look(self) -> None:
        self._timer = None
        for key, (request, on_disconnect) in list(self._watched.items()):
            if client_gone(request):
                del self._watched[key]
                on_disconnect()
        if self._watched:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_SECONDS, self._look)


def client_gone(request: web.Request) -> bool:
    """Whether the client closed the connection before the server had ended its response, or aborted it."""
    transport = request.transport
    return _ENDED not in request and (transport is None or transport.is_closing())


async def end_stream(request: web.Request, response: web.StreamResponse) -> None:
    """End a streamed response: a client that leaves from now on has not left before its end."""
    await response.write_eof()
    request[_ENDED] = True


def abort_connection(request: web.Request) -> None:
    """Abort the connection mid-response, so that the client sees an incomplete response and resumes."""
    transport = request.transport
    if transport is not None and not transport.is_closing():
        request[_ENDED] = True
        transport.abort()
