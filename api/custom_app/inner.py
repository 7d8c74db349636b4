"""Our handlers as the innermost part of an ASGI application: what its middleware lets through gets here.

A handler writes to aiohttp's response; here that goes to the application's `send` instead of the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler
from multidict import CIMultiDict, CIMultiDictProxy

from threadlog.api.custom_app.asgi import OURS, Receive, RouteOfOurs, Scope, Send

if TYPE_CHECKING:
    from starlette.routing import BaseRoute, Match

Responder = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

_HOP_BY_HOP = frozenset(("connection", "transfer-encoding", "keep-alive", "date", "server"))


def route_to_ours(respond: Responder, others: Sequence[BaseRoute]) -> BaseRoute:
    """A route for Starlette's router that takes every request one of our handlers is for, before all `others`.

    `respond` calls a handler and makes a response of what it raises.
    """
    from starlette.routing import BaseRoute, Match, NoMatchFound

    class ToOurs(BaseRoute):
        def url_path_for(self, name: str, /, **path_params: Any) -> Any:
            raise NoMatchFound(name, path_params)  # the router asks the next route: none of ours has a name

        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            route: RouteOfOurs | None = scope.get(OURS)
            if route is None or (route.yields and any(_matches(other, scope) for other in others if other is not self)):
                return Match.NONE, {}
            return Match.FULL, {}

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            route: RouteOfOurs = scope[OURS]
            if scope["type"] == "websocket":
                route.response = await respond(route.request, route.handler)
            else:
                await _handle(route, respond, scope, receive, send)

    return ToOurs()


def _matches(route: BaseRoute, scope: Scope) -> bool:
    """Whether the route takes this path, with any method."""
    from starlette.routing import Match

    return route.matches(scope)[0] is not Match.NONE


async def _handle(route: RouteOfOurs, respond: Responder, scope: Scope, receive: Receive, send: Send) -> None:
    outer = route.request
    loop = asyncio.get_running_loop()
    body = StreamReader(outer.protocol, outer.client_max_size, loop=loop)  # never full: larger bodies are refused
    request = web.Request(
        outer._message._replace(**_changed_headers(outer, scope)),
        body,
        outer.protocol,
        _ToSend(send),
        outer.task,
        loop,
        client_max_size=outer.client_max_size,
        state=outer._state,
    )
    request._match_info = outer._match_info
    feeding = asyncio.create_task(_feed(receive, body), name="request body")
    try:
        response = await respond(request, route.handler)
        await response.prepare(request)
        await response.write_eof()
    finally:
        feeding.cancel()
        with suppress(asyncio.CancelledError):
            await feeding


def _changed_headers(request: web.Request, scope: Scope) -> dict[str, Any]:
    """The request's headers, if middleware has changed them."""
    raw = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
    if raw == tuple((name.lower(), value) for name, value in request.raw_headers):
        return {}
    headers = CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in raw)
    return {"headers": CIMultiDictProxy(headers), "raw_headers": raw}


async def _feed(receive: Receive, body: StreamReader) -> None:
    """Hand on the body as the application's middleware gives it."""
    try:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionResetError("the client has left")
            if message.get("body"):
                body.feed_data(message["body"])
            if not message.get("more_body"):
                body.feed_eof()
                return
    except asyncio.CancelledError:
        raise
    except Exception as error:
        body.set_exception(error)


class _ToSend(AbstractStreamWriter):
    """Writes a response as messages of ASGI."""

    def __init__(self, send: Send) -> None:
        self._to, self._ended = send, False

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        kept = [
            (name.lower().encode("latin-1"), value.encode("utf-8", "surrogateescape"))
            for name, value in headers.items()
            if name.lower() not in _HOP_BY_HOP
        ]
        await self._to({"type": "http.response.start", "status": int(status_line.split(" ")[1]), "headers": kept})

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self.output_size += len(chunk)
        if chunk:
            await self._to({"type": "http.response.body", "body": bytes(chunk), "more_body": True})

    async def write_eof(self, chunk: bytes = b"") -> None:
        if not self._ended:
            self._ended = True
            self.output_size += len(chunk)
            await self._to({"type": "http.response.body", "body": bytes(chunk), "more_body": False})

    async def drain(self) -> None:
        pass

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        raise NotImplementedError("no handler of ours compresses")

    def enable_chunking(self) -> None:
        pass
