"""Handlers of the event-streaming protocol: /threads/{id}/commands and /threads/{id}/stream/events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api, api_of
from threadlog.api.events.commands import OPAQUE, Commands, is_command, malformed
from threadlog.api.events.filters import EventFilter, InvalidFilter, filter_of
from threadlog.api.events.models import CommandFailedResponse, CommandRequest, CommandSucceededResponse, FilterRequest
from threadlog.api.events.stream import follow
from threadlog.api.events.websocket import Socket
from threadlog.api.http.cors import CorsPolicy
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import ErrorResponse
from threadlog.api.http.requests import header, json_body, path_uuid
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Route, joins, requires, takes
from threadlog.api.http.websockets import is_handshake, refuse
from threadlog.api.threads.lookup import require_thread
from threadlog.projections.queries import threads
from threadlog.projections.queries.metadata_filter import MetadataFilter


@joins
@requires("threads.read")
async def command(request: web.Request) -> web.Response:
    """Carry out one command of the protocol.

    POST /threads/{thread_id}/commands (contract 1.2, 2.7).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    value = await _json(request, OPAQUE)
    if not is_command(value):
        return reply(malformed(value), 400)
    only = await allowed(request, "threads.read", {"thread_id": thread_id})
    return reply(await Commands(request, api, thread_id, only).respond(value))


@requires("threads.read")
@takes("Last-Event-ID")
async def events(request: web.Request) -> web.StreamResponse:
    """Stream the thread's events as server-sent events.

    POST /threads/{thread_id}/stream/events (contract 1.2, 2.7).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    value = await _json(request)
    if not isinstance(value, dict):
        raise ApiError(400, "The request body must be a JSON object")
    event_filter = _filter(value, header(request, "Last-Event-ID"))
    only = await _readable(request, api, thread_id)
    return await follow(request, api, thread_id, event_filter, only)


@requires("threads.read")
async def socket(request: web.Request) -> web.StreamResponse:
    """Serve commands and events over a WebSocket.

    GET /threads/{thread_id}/stream/events (contract 1.2, 2.7).
    """
    api = api_of(request)
    if not is_handshake(request):
        raise ApiError(426, "Open a WebSocket here, or POST for server-sent events", {"Upgrade": "websocket"})
    origin = header(request, "Origin")
    if origin and not CorsPolicy(api.settings.cors).allows(origin):  # browsers do not ask first
        raise ApiError(403, "Disallowed CORS origin", code="origin_not_allowed")
    try:
        thread_id = path_uuid(request, "thread_id", "thread")
        only = await _readable(request, api, thread_id)
    except ApiError as error:
        return await refuse(request, error)
    return await Socket(request, api, thread_id, only).serve()


async def _readable(request: web.Request, api: Api, thread_id: str) -> MetadataFilter | None:
    """Ask for `threads.read`. A thread that does not exist yet may be followed, by whom it will be visible to."""
    only = await allowed(request, "threads.read", {"thread_id": thread_id})
    if only is not None and await threads.exists(api.pool, thread_id):
        await require_thread(api, thread_id, only)
    return only


async def _json(request: web.Request, opaque: Sequence[str] = ()) -> Any:
    """The body; one that is not JSON is a 400 in this protocol."""
    try:
        return await json_body(request, opaque)
    except ApiError as error:
        if error.code == "invalid_json":
            raise ApiError(400, error.detail, code="invalid_json") from None
        raise


def _filter(value: dict[str, Any], last_event_id: str) -> EventFilter:
    if value.get("since") is None and last_event_id.isdecimal() and len(last_event_id) <= 18:
        value = {**value, "since": int(last_event_id)}
    try:
        return filter_of(value)
    except InvalidFilter as error:
        raise ApiError(400, str(error)) from None


routes = [
    Route("POST", "/threads/{thread_id}/commands", command, "Carry out a command of the event-streaming protocol",
          CommandRequest, returns=CommandSucceededResponse | CommandFailedResponse,
          also={400: CommandFailedResponse | ErrorResponse}),
    Route("POST", "/threads/{thread_id}/stream/events", events, "Follow a thread's events", FilterRequest, stream=True,
          errors=(400, 404)),
    Route("GET", "/threads/{thread_id}/stream/events", socket, "Commands and events over a WebSocket", stream=True,
          errors=(403, 426)),
]  # fmt: skip
