"""Serves an ASGI application on aiohttp: one request becomes a scope and messages, its messages become the response.

The protocol: https://asgi.readthedocs.io/en/latest/specs/www.html, HTTP and WebSocket. Packages that do this serve an
application beside aiohttp's routes; here its middleware is around them, too (`inner`), which they have no way to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler

from threadlog.api.auth.caller import Caller
from threadlog.api.auth.gate import caller_of
from threadlog.api.http.connections import too_large
from threadlog.api.http.disconnects import Disconnects
from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import header

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OURS = "threadlog.route"
"""Key of a scope: the `Route` the router has found, None where it has none."""

_VERSION = {"version": "3.0", "spec_version": "2.4"}
_CLOSED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
_ABNORMAL = 1006
_FAILED = 1011


class RouteOfOurs:
    """A request that one of our handlers is for; `response` once that has answered by itself (a WebSocket). `yields`:
    to the application's own route of that path, if it has one."""

    def __init__(self, request: web.Request, handler: Handler, *, yields: bool = False) -> None:
        self.request, self.handler, self.yields = request, handler, yields
        self.response: web.StreamResponse | None = None


class AsgiServer:
    """Sends requests through an application. `state`: what its lifespan has left for them."""

    def __init__(
        self, app: AsgiApp, disconnects: Disconnects, *, state: MutableMapping[str, Any], root_path: str,
        read_timeout_seconds: float,
    ) -> None:  # fmt: skip
        self._app, self._disconnects = app, disconnects
        self._state, self._root_path, self._read_timeout = state, root_path, read_timeout_seconds
        self._working: set[asyncio.Task[None]] = set()

    async def serve(self, request: web.Request, ours: RouteOfOurs | None) -> web.StreamResponse:
        """The application's response, which has been sent when this returns. Raises what the application raises before
        it has responded."""
        scope = self._scope(request, ours)
        if is_websocket(request):
            socket = _Socket(request, ours)
            try:
                await self._app({**scope, "type": "websocket", **socket.scope}, socket.receive, socket.send)
            except Exception as error:
                left = socket.closed
                if not await socket.fail():
                    raise
                level = logging.DEBUG if left else logging.ERROR  # a handler need not expect that its client leaves
                logger.log(level, "%s %s failed", request.method, request.path, exc_info=error)
            return socket.result()
        exchange = _Exchange(request, self._read_timeout)
        with self._disconnects.watch(request, exchange.left):
            await self._until_answered({**scope, "type": "http", "method": request.method}, exchange, request)
        return await exchange.result()

    async def _until_answered(self, scope: Scope, exchange: _Exchange, request: web.Request) -> None:
        """Returns once the response is complete: background tasks, which come after it, must not hold up the next
        request of the connection. Raises what the application raises before it has responded."""
        work: asyncio.Task[None] = asyncio.create_task(_called(self._app, scope, exchange), name="request to http.app")
        work.add_done_callback(lambda _: exchange.complete.set())
        try:
            await exchange.complete.wait()
        except BaseException:  # the server stops, or gives the request up
            work.cancel()
            raise
        finally:
            if not work.done():
                self._working.add(work)
                work.add_done_callback(self._working.discard)
                work.add_done_callback(lambda done: _log_failure(done, request))
        if not work.done():
            return
        try:
            work.result()
        except Exception:
            if exchange.refused is not None:
                raise exchange.refused from None
            if exchange.response is None:
                raise
            _log_failure(work, request)

    async def finish(self, seconds: float) -> None:
        """Let background tasks end, or cancel them after so many seconds."""
        if self._working:
            _, late = await asyncio.wait(set(self._working), timeout=seconds)
            for work in late:
                work.cancel()
            if late:
                logger.warning("%d background tasks of http.app were cancelled as the server stopped", len(late))
                await asyncio.wait(late, timeout=1)

    def _scope(self, request: web.Request, ours: RouteOfOurs | None) -> Scope:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        here = request.transport.get_extra_info("sockname") if request.transport is not None else None
        caller = caller_of(request)
        return {
            **({} if caller is None else _who(caller)),
            "asgi": _VERSION,
            "http_version": f"{request.version.major}.{request.version.minor}",
            "scheme": request.scheme,
            "path": request.path,
            "raw_path": request.raw_path.partition("?")[0].encode(),
            "query_string": request.rel_url.raw_query_string.encode(),
            "root_path": self._root_path,
            "headers": [(name.lower(), value) for name, value in request.raw_headers],
            "client": tuple(peer[:2]) if isinstance(peer, tuple) else None,
            "server": tuple(here[:2]) if isinstance(here, tuple) else None,
            "state": dict(self._state),
            OURS: ours,
        }


async def _called(app: AsgiApp, scope: Scope, exchange: _Exchange) -> None:
    await app(scope, exchange.receive, exchange.send)


def _log_failure(work: asyncio.Task[None], request: web.Request) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        logger.error("%s %s failed after its response", request.method, request.path, exc_info=error)


def _who(caller: Caller) -> Scope:
    """Where Starlette's `request.user` and `request.auth` look; it need not be there."""
    try:
        from starlette.authentication import AuthCredentials, UnauthenticatedUser
    except ImportError:
        return {"user": caller.user}
    user = UnauthenticatedUser() if caller.trusted else caller.user
    return {"user": user, "auth": AuthCredentials(list(caller.permissions))}


def is_websocket(request: web.Request) -> bool:
    """Whether the request asks for a WebSocket."""
    return request.method == "GET" and header(request, "Upgrade").lower() == "websocket"


class _Exchange:
    """One HTTP request and its response."""

    def __init__(self, request: web.Request, read_timeout_seconds: float) -> None:
        self._request, self._read_timeout = request, read_timeout_seconds
        self._gone = asyncio.Event()
        self._received = 0
        self._read = self._ended = False
        self._start: Message | None = None
        self.response: web.StreamResponse | None = None
        self.complete = asyncio.Event()
        """Set when the response has been sent, or will not be."""
        self.refused: ApiError | None = None
        """Why the request's body is not read to its end: the response, whatever the application makes of it."""

    def left(self) -> None:
        """The client has left."""
        self._gone.set()

    async def receive(self) -> Message:
        if self._read or self._ended:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        content = self._request.content
        try:
            async with asyncio.timeout(self._read_timeout):
                chunk = await content.readany()
        except TimeoutError:
            self.refused = ApiError(408, "The request body did not arrive in time")
            raise self.refused from None
        self._received += len(chunk)
        if self._received > self._request.client_max_size:
            self.refused = too_large(self._request.client_max_size)
            raise self.refused
        self._read = content.at_eof()
        return {"type": "http.request", "body": chunk, "more_body": not self._read}

    async def send(self, message: Message) -> None:
        if self.refused is not None and self.response is None:
            return
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            await self._send_body(bytes(message.get("body", b"")), bool(message.get("more_body", False)))

    async def _send_body(self, body: bytes, more: bool) -> None:
        if self._start is None:
            raise RuntimeError("http.response.body was sent before http.response.start")
        if self._ended:
            raise RuntimeError("http.response.body was sent after the response's end")
        self._ended = not more
        if self.response is None:
            self.response = web.StreamResponse(status=self._start["status"])
            for name, value in self._start.get("headers", ()):
                self.response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
            if not more and "Content-Length" not in self.response.headers:
                self.response.content_length = len(body)
            await self.response.prepare(self._request)
        if body and self._request.method != "HEAD":
            await self.response.write(body)
        if not more:
            await self.response.write_eof()
            self._gone.set()  # as the application is told after its response
            self.complete.set()

    async def result(self) -> web.StreamResponse:
        if self.refused is not None and self.response is None:
            raise self.refused
        if self._start is None:
            raise RuntimeError("the application has returned without a response")
        if self.response is None:
            await self._send_body(b"", False)
        assert self.response is not None
        if not self._ended:
            self.response.force_close()
        return self.response


class _Socket:
    """One WebSocket, or its refusal."""

    def __init__(self, request: web.Request, ours: RouteOfOurs | None) -> None:
        self._request, self._ours = request, ours
        self._connected = False
        self._socket: web.WebSocketResponse | None = None
        self._refusal: web.Response | None = None

    @property
    def scope(self) -> dict[str, Any]:
        given = header(self._request, "Sec-WebSocket-Protocol")
        return {
            "scheme": "wss" if self._request.secure else "ws",
            "subprotocols": [name.strip() for name in given.split(",") if name.strip()],
            "extensions": {"websocket.http.response": {}},
        }

    async def receive(self) -> Message:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        if self._socket is None:
            raise RuntimeError("a message was asked for before websocket.accept")
        message = await self._socket.receive()
        if message.type in _CLOSED:
            return {"type": "websocket.disconnect", "code": self._socket.close_code or _ABNORMAL, "reason": ""}
        if message.type is WSMsgType.TEXT:
            return {"type": "websocket.receive", "text": message.data}
        return {"type": "websocket.receive", "bytes": message.data}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            await self._accept(message)
        elif kind == "websocket.http.response.start":
            self._refusal = web.Response(status=message["status"])
            for name, value in message.get("headers", ()):
                if name.lower() != b"content-length":
                    self._refusal.headers.add(name.decode("latin-1"), value.decode("latin-1"))
        elif kind == "websocket.http.response.body" and self._refusal is not None:
            before = self._refusal.body if isinstance(self._refusal.body, bytes) else b""
            self._refusal.body = before + message.get("body", b"")
        elif self._socket is not None and kind == "websocket.send":
            with suppress(ConnectionError):  # the next receive tells of it
                await self._send(self._socket, message)
        elif kind == "websocket.close":
            if self._socket is None:
                self._refusal = web.Response(status=403)
            else:
                await self._socket.close(code=message.get("code", 1000), message=(message.get("reason") or "").encode())

    async def _accept(self, message: Message) -> None:
        chosen = message.get("subprotocol")
        self._socket = web.WebSocketResponse(protocols=(chosen,) if chosen else ())
        for name, value in message.get("headers", ()):
            self._socket.headers.add(name.decode("latin-1"), value.decode("latin-1"))
        await self._socket.prepare(self._request)

    @staticmethod
    async def _send(socket: web.WebSocketResponse, message: Message) -> None:
        if message.get("text") is not None:
            await socket.send_str(message["text"])
        else:
            await socket.send_bytes(message["bytes"])

    @property
    def closed(self) -> bool:
        return self._socket is not None and self._socket.closed

    async def fail(self) -> bool:
        """Close the connection as one whose handler has failed; False where it was not open."""
        if self._socket is None:
            return False
        with suppress(ConnectionError):
            await self._socket.close(code=_FAILED, message=b"Internal server error")
        return True

    def result(self) -> web.StreamResponse:
        if self._ours is not None and self._ours.response is not None:
            return self._ours.response
        response = self._socket if self._socket is not None else self._refusal
        if response is None:
            raise RuntimeError("the application has neither accepted nor refused the WebSocket")
        return response
