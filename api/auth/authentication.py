"""Calls the application's `authenticate` with what it takes by name; keeps its results for a while if told to."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from threadlog.api.auth.caller import Caller, InvalidUser, caller_of
from threadlog.api.auth.errors import http_error
from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import buffered, buffered_json, header
from threadlog.engine.user_code.auth_section import AuthCache

logger = logging.getLogger(__name__)

Value = Callable[[web.Request], Any]


async def _starlette_request(request: web.Request) -> Any:
    from starlette.requests import Request

    body = b"".join(await buffered(request))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    peer = request.transport.get_extra_info("peername") if request.transport else None
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.raw_path.partition("?")[0].encode("ascii", "replace"),
        "root_path": "",
        "query_string": request.query_string.encode("utf-8", "surrogateescape"),
        "headers": list(_headers(request).items()),
        "client": tuple(peer[:2]) if isinstance(peer, tuple) else None,
        "path_params": dict(request.match_info),
    }
    return Request(scope, receive)


def _headers(request: web.Request) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in request.raw_headers}


_VALUES: dict[str, Value] = {
    "path": lambda request: request.path,
    "method": lambda request: request.method,
    "path_params": lambda request: dict(request.match_info),
    "query_params": lambda request: dict(request.query),
    "headers": _headers,
    "authorization": lambda request: header(request, "Authorization") or None,
    "user": lambda request: None,
    "scopes": lambda request: [],
}
_AWAITED: dict[str, Callable[[web.Request], Awaitable[Any]]] = {
    "request": _starlette_request,
    "body": buffered_json,
}
PARAMETERS = frozenset((*_VALUES, *_AWAITED))
"""What `authenticate` may take, by name."""


class Authenticator:
    """The application's `authenticate`. `cache`: which headers tell callers apart, and how long a result counts.

    Raises:
        ValueError: it takes a parameter that there is not.
    """

    def __init__(self, handler: Callable[..., Any], cache: AuthCache | None = None) -> None:
        self._handler = handler
        self._names = _parameters(handler)
        self._blocking = not inspect.iscoroutinefunction(handler)
        self._cache = cache
        self._known: OrderedDict[tuple[str | None, ...], tuple[float, Caller]] = OrderedDict()

    async def caller(self, request: web.Request) -> Caller:
        """Raises `ApiError` when the request is not authenticated."""
        if self._cache is None:
            return await self._ask(request)
        key = tuple(request.headers.get(name) for name in self._cache.cache_keys)
        known = self._known.get(key)
        if known is not None and known[0] > time.monotonic():
            self._known.move_to_end(key)
            return known[1]
        caller = await self._ask(request)
        if any(value is not None for value in key):
            self._known[key] = (time.monotonic() + self._cache.ttl_seconds, caller)
            self._known.move_to_end(key)
            if len(self._known) > self._cache.max_size:
                self._known.popitem(last=False)
        return caller

    async def _ask(self, request: web.Request) -> Caller:
        arguments = {name: _VALUES[name](request) for name in self._names if name in _VALUES}
        for name in self._names:
            if name in _AWAITED:
                arguments[name] = await _AWAITED[name](request)
        try:
            if self._blocking:
                returned = await asyncio.to_thread(self._handler, **arguments)
            else:
                returned = self._handler(**arguments)
            if inspect.isawaitable(returned):  # of a function that is not async, too: a partial, an object's __call__
                returned = await returned
        except Exception as error:
            raise http_error(error, "authenticate") from error
        try:
            return caller_of(returned)
        except InvalidUser as error:
            logger.warning("%s", error)
            raise ApiError(400, str(error)) from None


def _parameters(handler: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(handler).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    unknown = [p.name for p in parameters if p.name in names and p.name not in PARAMETERS and p.default is p.empty]
    if unknown:
        raise ValueError(f"authenticate takes {', '.join(unknown)}; it may take {', '.join(sorted(PARAMETERS))}")
    if "request" in names:
        try:
            import starlette.requests  # noqa: F401
        except ImportError:
            raise ValueError("authenticate takes `request`, which is Starlette's: pip install starlette") from None
    return [name for name in names if name in PARAMETERS]
