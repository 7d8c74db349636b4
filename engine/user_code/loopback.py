"""Loopback client: `get_client()` and `get_sync_client()` without a url, in user code, reach this server's own api.

The SDK expects to share a process with an ASGI application, and reads its answers whole. User code runs in processes of
its own here, so its clients get a transport that speaks HTTP to the api, and streams.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from threadlog.engine.encryption_context import CONTEXT, HEADER, header_of
from threadlog.engine.tracing import active as tracing
from threadlog.engine.user_code.auth_section import TOKEN_HEADER

logger = logging.getLogger(__name__)

_MODULES = ("langgraph_sdk", "langgraph_sdk.client", "langgraph_sdk._async.client", "langgraph_sdk._sync.client")
_DEFER = "__LANGGRAPH_DEFER_LOOPBACK_TRANSPORT"  # with it the SDK does not look for the reference server's application
_RETRIES = 5  # of connecting, as the SDK's own transport does
_MOST_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20)  # nodes wait for runs that wait


_token: str | None = None


def authorize(token: str) -> None:
    """From now on these clients are the server's own: where callers have to authenticate, they need not."""
    global _token
    _token = token


def install(api_url: str) -> None:
    """From now on clients made without a url talk to `api_url`. To be called before user code is imported."""
    os.environ[_DEFER] = "true"
    os.environ.setdefault("LANGGRAPH_API_URL", api_url)
    import langgraph_sdk.client

    transport = functools.partial(LoopbackTransport, api_url)
    modules = [sys.modules[name] for name in _MODULES if name in sys.modules]
    if not _put(modules, "get_asgi_transport", lambda: transport):
        logger.warning("get_client() needs a url: this version of langgraph-sdk is not known")
    _put(modules, "_registered_transports", _Unkept())
    _put(modules, "get_sync_client", _sync_client_of(langgraph_sdk.client.get_sync_client, api_url))


def _put(modules: list[ModuleType], name: str, value: Any) -> bool:
    """Replace the name wherever it is bound. Whether it was anywhere."""
    holders = [module for module in modules if hasattr(module, name)]
    for module in holders:
        setattr(module, name, value)
    return bool(holders)


def _sync_client_of(original: Any, api_url: str) -> Any:
    original = getattr(original, "__wrapped__", original)

    @functools.wraps(original)
    def get_sync_client(*, url: str | None = None, **options: Any) -> Any:
        if url is not None:
            return original(url=url, **options)
        if _token is not None:
            options["headers"] = {**(options.get("headers") or {}), TOKEN_HEADER: _token}
        client = original(url=api_url, **options)
        client.http.client.event_hooks["request"].append(_continue)
        return client

    return get_sync_client


def _continue(request: httpx.Request) -> None:
    """What a node asks for is asked in its encryption context and, where traces are made, below its span."""
    if (context := CONTEXT.get()) and HEADER not in request.headers:
        request.headers[HEADER] = header_of(context)
    if (spans := tracing.active()) is not None:
        for name, value in spans.headers().items():
            request.headers.setdefault(name, value)


class _Unkept(list[Any]):
    """Where the SDK notes transports that wait for an application: ours do not, and live as long as their client."""

    def append(self, transport: Any) -> None:
        pass


class LoopbackTransport(httpx.AsyncBaseTransport):
    """Sends a client's requests to the api. All of a loop share connections; a client may be used on several loops."""

    def __init__(self, api_url: str, app: Any = None, root_path: str = "") -> None:
        self._api = httpx.URL(api_url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path
        request.url = self._api.copy_with(raw_path=self._api.raw_path.rstrip(b"/") + path)
        request.headers["host"] = self._api.netloc.decode("ascii")
        if _token is not None:
            request.headers[TOKEN_HEADER] = _token
        _continue(request)
        try:
            return await _connections().handle_async_request(request)
        except httpx.ConnectError as error:
            raise httpx.ConnectError(
                f"get_client() without a url talks to this server's api, and that can't be reached at {self._api} "
                f"({error}). Set THREADLOG_API_URL of the executors to where the api listens.",
                request=request,
            ) from error

    async def aclose(self) -> None:
        """The connections are not this client's alone."""


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncHTTPTransport] = WeakKeyDictionary()


def _connections() -> httpx.AsyncHTTPTransport:
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = httpx.AsyncHTTPTransport(retries=_RETRIES, limits=_MOST_CONNECTIONS)
    return pool
