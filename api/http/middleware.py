"""Middleware of every request: request id, CORS, errors as JSON, metrics, traces."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from uuid import uuid4

import asyncpg
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from threadlog.api.http.connections import has_left
from threadlog.api.http.cors import CorsPolicy
from threadlog.api.http.disconnects import abort_connection
from threadlog.api.http.errors import ApiError, error_body, is_unavailable, usual_code
from threadlog.api.http.metrics import HttpMetrics
from threadlog.api.http.request_keys import REQUEST_ID
from threadlog.api.http.requests import chosen_headers, header, path_text
from threadlog.api.http.responses import reply
from threadlog.api.settings import SETTINGS
from threadlog.engine.domain.text import storable
from threadlog.engine.encryption.handlers import HandlerFailed
from threadlog.engine.logging_context import fields, set_fields
from threadlog.engine.metrics import METRICS
from threadlog.engine.tracing import active as tracing

logger = logging.getLogger(__name__)

_ID = "X-Request-Id"
_MAX_ID = 200
_IDS = ("thread_id", "run_id", "assistant_id")
_OF_CONNECTION = (ConnectionError, web.RequestPayloadError, ClientError, HttpProcessingError)


def make_middleware(cors: CorsPolicy, metrics: HttpMetrics, *, around_others: bool = False) -> Middleware:
    """`around_others`: exceptions of aiohttp's come from the application's own handlers and middleware, which mean them
    as responses."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        request[REQUEST_ID] = request_id = header(request, _ID)[:_MAX_ID] or uuid4().hex
        of_request = {"request_id": request_id, "method": request.method, "path": storable(request.path)}
        chosen = chosen_headers(request, request.app[SETTINGS].logging_headers)
        set_fields({**of_request, "headers": chosen} if chosen else of_request)
        resource = request.match_info.route.resource
        path = "unknown" if resource is None else resource.canonical
        span = None
        if (spans := tracing.active()) is not None:
            from threadlog.api.http.spans import RequestSpan

            span = RequestSpan.begin(spans, request, path, request_id)
        response: web.StreamResponse | None = None
        try:
            response = cors.preflight(request) or await respond(request, handler, as_it_is=around_others)
            return response
        finally:
            # No response: the handler was cancelled, or the connection was lost while it wrote.
            status = 499 if response is None else response.status
            metrics.observe(request.method, path, status, (perf_counter() - started) * 1000)
            if span is not None:
                span.end(status)

    return handle


async def respond(request: web.Request, handler: Handler, *, as_it_is: bool = False) -> web.StreamResponse:
    """The handler's response, or the one that says what it has raised. `as_it_is`: a response that it has raised is
    that, unless the router has."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if not as_it_is or error is request.match_info.http_exception:
            return await _refusal(request, error)
        response = web.Response(status=error.status, reason=error.reason, text=error.text, headers=error.headers)
        response._cookies = error._cookies
        return response
    except Exception as error:
        return _error_response(request, error)


async def _refusal(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return reply(error_body(error.reason, usual_code(405)), error.status, {"Allow": await _allowed(request)})
    return reply(error_body(error.reason, usual_code(error.status)), error.status)


def make_response_hook(cors: CorsPolicy) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler that completes the headers of every response, streams included."""

    async def mark(request: web.Request, response: web.StreamResponse) -> None:
        response.headers[_ID] = request.get(REQUEST_ID, "")
        cors.mark(request, response.headers)

    return mark


async def _allowed(request: web.Request) -> str:
    """The methods of the path that the router takes it for, not those of other paths that match as well."""
    path: str | None = None
    methods: set[str] = set()
    for resource in request.app.router.resources():
        if path in (None, resource.canonical):
            _, allowed = await resource.resolve(request)
            if allowed:
                path = resource.canonical
                methods |= allowed
    return ",".join(sorted(methods))


def _fields(request: web.Request) -> dict[str, object]:
    """What names the request, and what it is about, in lines of the process's log."""
    ids = {name: text for name in _IDS if (text := path_text(request, name))}
    return {**fields(), **ids}


def _error_response(request: web.Request, error: Exception) -> web.StreamResponse:
    if isinstance(error, ApiError):
        response = reply(error_body(error.detail, error.code), error.status, error.headers)
        if error.status == 408:
            response.force_close()  # the rest of the body is not waited for
        return response
    if isinstance(error, HandlerFailed):  # which has logged its reason
        return reply(error_body(str(error), "encryption_failed"), error.status)
    if isinstance(error, asyncpg.CharacterNotInRepertoireError | asyncpg.UntranslatableCharacterError):
        return reply(error_body("A NUL character can't be part of an id, a name or a filter", usual_code(422)), 422)
    if has_left(request) and isinstance(error, _OF_CONNECTION):
        logger.debug("%s %s: the client has left", request.method, storable(request.path))
        return web.Response(status=499)  # which aiohttp drops
    if is_unavailable(error):
        logger.warning(
            "%s %s: %s: %s", request.method, storable(request.path), type(error).__name__, error, extra=_fields(request)
        )
        METRICS.count("pg_pool_requests_errors")
        return reply(
            error_body("The log or the database can't be reached at the moment. Try again.", usual_code(503)),
            503,
            {"Retry-After": "1"},
        )
    request_id = request[REQUEST_ID]
    logger.error(
        "%s %s failed (request %s)", request.method, storable(request.path), request_id,
        exc_info=error, extra=_fields(request),
    )  # fmt: skip
    if request.writer.output_size:  # a response has begun, or a WebSocket is open: another one would be part of it
        abort_connection(request)
        return web.Response(status=499)
    return reply(error_body(f"Internal server error (request {request_id})", usual_code(500)), 500)
