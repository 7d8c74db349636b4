"""A JSON response that takes long: its headers and a newline every few seconds come before it, as in `runs/wait`.

Proxies end connections on which nothing is sent for a minute or so, and agents work longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from aiohttp import web

from threadlog.api.http.disconnects import abort_connection, client_gone
from threadlog.api.http.request_keys import ANSWER, RequestKey
from threadlog.api.http.responses import reply

_BEGUN: RequestKey[web.StreamResponse] = RequestKey("slow_reply", web.StreamResponse)


async def keep_alive(request: web.Request) -> None:
    """Send a newline before the response. Raises ConnectionResetError: the client has left."""
    response: web.StreamResponse | None = request.get(_BEGUN)
    if response is None:
        response = request[_BEGUN] = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
    await response.write(b"\n")


async def respond(request: web.Request, value: Any) -> web.StreamResponse:
    """The response, or the rest of one that has begun."""
    response: web.StreamResponse | None = request.get(_BEGUN)
    if response is None:
        return reply(value)
    body = request[ANSWER] = orjson.dumps(value)
    await response.write_eof(body)
    return response


@contextmanager
def aborted_on_failure(request: web.Request) -> Iterator[None]:
    """What is raised while a response is under way aborts the connection: its client must not take it for complete."""
    try:
        yield
    except Exception:
        if _BEGUN in request and not client_gone(request):
            abort_connection(request)
        raise
