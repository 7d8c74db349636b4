"""Door in front of handlers that write: recognises a request by its `Idempotency-Key`, gives the first answer again.

A key counts for its caller only, `idempotency_ttl_seconds` long. Only answers of requests that have sent a command are
kept, and none of 5xx: what was refused at once, or failed, is tried anew when it is sent again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import asyncpg
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from threadlog.api.auth.caller import ACTOR
from threadlog.api.auth.gate import all_needless
from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError, error_body
from threadlog.api.http.request_keys import ANSWER
from threadlog.api.http.requests import buffered
from threadlog.api.http.responses import no_content, reply, time_text
from threadlog.api.idempotency.keyed import KEYED, KeyedAttempt, Overtaken, reused
from threadlog.engine.clock import now
from threadlog.engine.domain.commands import AnswerRequest
from threadlog.engine.domain.events import RequestAnswered
from threadlog.engine.domain.limits import ANSWER_CHARACTERS
from threadlog.engine.encryption.content import is_token
from threadlog.engine.log.port import LogUnavailable
from threadlog.projections.queries import keyed_requests as queries

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
"""Header of an answer that was given before, "true"."""
KEY_CHARACTERS = 255
_KEY = re.compile(rf"[\x20-\x7e]{{1,{KEY_CHARACTERS}}}")
_KEPT = ("Content-Type", "Content-Location", "Location")
_TRIES = 20
_LOOK_SECONDS = 0.05
_LONGEST_LOOK_SECONDS = 0.5


def guarded(handler: Handler, *, joins: bool) -> Handler:
    """The handler of a write, with idempotency keys. `joins`: one that is sent again while the first is under way does
    not wait for its answer, it follows the same run."""

    async def enter(request: web.Request) -> web.StreamResponse:
        if HEADER not in request.headers:
            return await handler(request)
        return await _carry_out(request, handler, joins)

    return enter


async def _carry_out(request: web.Request, handler: Handler, joins: bool) -> web.StreamResponse:
    api = api_of(request)
    request_id = _request_id(request)
    fingerprint = await _fingerprint(request)
    for _ in range(_TRIES):
        row = await queries.get(api.pool, request_id)
        if row is not None:
            if row["fingerprint"] != fingerprint:
                raise reused()
            if row["status"] is None and not joins:
                row = await _answered(api, request_id, row)
                if row is None or row["fingerprint"] != fingerprint:
                    continue
            if (replayed := _replayed(request, row)) is not None:
                return replayed
            keyed = KeyedAttempt(request_id, fingerprint, row["begun_at"], row["expires_at"], resumed=True)
        else:
            begun_at = now().astimezone(UTC)
            expires_at = begun_at + timedelta(seconds=api.settings.idempotency_ttl_seconds)
            keyed = KeyedAttempt(request_id, fingerprint, begun_at, expires_at, resumed=False)
        try:
            return await _attempt(request, api, handler, keyed, answered=row is not None and row["status"] is not None)
        except Overtaken:
            continue
    raise ApiError(409, "This request is being carried out already. Try again.", {"Retry-After": "1"})


async def _attempt(
    request: web.Request, api: Api, handler: Handler, keyed: KeyedAttempt, *, answered: bool
) -> web.StreamResponse:
    token = KEYED.set(keyed)
    try:
        response = await handler(request)
    except ApiError as error:
        if error.status >= 500 or error.code == "encryption_failed" or not keyed.claimed:
            raise
        if error.status == 404 and request.method == "DELETE" and await keyed.has_done_something(api):
            all_needless(request)
            response = no_content()  # the attempt before this one has deleted it
        else:
            response = reply(error_body(error.detail, error.code), error.status, error.headers)
    finally:
        KEYED.reset(token)
    if not keyed.claimed or answered or response.status >= 500:
        return response
    return await _keep(request, api, keyed, response)


async def _keep(
    request: web.Request, api: Api, keyed: KeyedAttempt, response: web.StreamResponse
) -> web.StreamResponse:
    """Record the answer; returns the one that counts. A stream is not recorded: its run is joined again."""
    sent = not isinstance(response, web.Response)
    if isinstance(response, web.Response):
        body: Any = response.body
    else:
        body = request.get(ANSWER)
        if body is None:
            return response
    headers = {name: response.headers[name] for name in _KEPT if name in response.headers}
    thread_id, other_content = keyed.subject
    keeps = isinstance(body, bytes | bytearray) and len(body) <= ANSWER_CHARACTERS // 2
    text = body.decode() if keeps else None
    answer = AnswerRequest(
        request_id=keyed.request_id,
        fingerprint=keyed.fingerprint,
        begun_at=time_text(keyed.begun_at),
        status=response.status,
        headers=headers,
        body=text,
        complete=text is not None or body is None,
        thread_id=None if text is None else thread_id,
        other_content=other_content,
    )
    try:
        decided = await api.gateway.submit(answer, actor=ACTOR.get())
    except LogUnavailable as error:
        if not sent:
            raise
        logger.warning("the answer of a request with an idempotency key is not kept: %s", error)
        return response
    if not sent and not any(event["type"] == RequestAnswered.type for event in decided.events):
        row = await queries.get(api.pool, keyed.request_id)  # another attempt was answered first
        if row is not None and (replayed := _replayed(request, row)) is not None:
            return replayed
    return response


async def _answered(api: Api, request_id: str, row: asyncpg.Record) -> asyncpg.Record | None:
    """The row once it has an answer, or as it is when the api that works on it has had its time: it may have died."""
    pause = _LOOK_SECONDS
    since = min(row["begun_at"], datetime.now(UTC))
    until = since + timedelta(seconds=api.settings.idempotency_wait_seconds)
    current: asyncpg.Record | None = row
    while current is not None and current["status"] is None and datetime.now(UTC) < until:
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_LOOK_SECONDS)
        current = await queries.get(api.pool, request_id)
    return current


def _replayed(request: web.Request, row: asyncpg.Record) -> web.Response | None:
    """The recorded answer; None if there is none, or its thread was deleted and the key that it was encrypted with."""
    if row["status"] is None or not row["complete"]:
        return None
    body = None
    if row["answer"] is not None:
        text: str = orjson.loads(row["answer"])
        if is_token(text):
            return None
        body = text.encode()
    all_needless(request)
    headers = {**orjson.loads(row["headers"] or b"{}"), REPLAYED: "true"}
    return web.Response(body=body, status=row["status"], headers={name: str(value) for name, value in headers.items()})


def _request_id(request: web.Request) -> str:
    keys = request.headers.getall(HEADER)
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise ApiError(
            422, f"{HEADER}: must be 1 to {KEY_CHARACTERS} printable ASCII characters", code="idempotency_key_invalid"
        )
    return blake2b(orjson.dumps([ACTOR.get(), keys[0]]), digest_size=16).hexdigest()


async def _fingerprint(request: web.Request) -> str:
    """Digest of what the client asks: method, path with its query, and body, byte by byte."""
    digest = blake2b(f"{request.method} {request.raw_path}\n".encode("utf-8", "surrogateescape"), digest_size=16)
    for part in await buffered(request):
        digest.update(part)
    return digest.hexdigest()
