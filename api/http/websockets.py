"""WebSocket handshakes: what is one, and how it is refused so that a page learns why."""

from __future__ import annotations

from aiohttp import web

from threadlog.api.http.errors import ApiError

_MAX_REASON_BYTES = 123  # of a close frame


def is_handshake(request: web.Request) -> bool:
    """Whether the request opens a WebSocket."""
    try:
        return web.WebSocketResponse().can_prepare(request).ok
    except ValueError:  # which aiohttp lets through for a key that is not ASCII
        return False


class Refusal(web.WebSocketResponse):
    """A connection that is closed as soon as it is open."""


async def refuse(request: web.Request, error: ApiError) -> Refusal:
    """Close at once with 4000 and the status: browsers do not tell a page how a handshake has failed."""
    socket = Refusal()
    await socket.prepare(request)
    await socket.close(code=4000 + error.status, message=error.detail.encode()[:_MAX_REASON_BYTES])
    return socket
