"""Request parsing: its JSON body, the ids in its path, the values of its query, its headers.

All text of a request comes through here: what UTF-8 or Postgres can't hold becomes U+FFFD, whichever part it is in.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import ValidationError

from threadlog.api.http import json_text
from threadlog.api.http.bodies import Body, moment
from threadlog.api.http.connections import received, too_large
from threadlog.api.http.errors import ApiError, invalid
from threadlog.api.http.limits import shown
from threadlog.api.http.request_keys import RequestKey
from threadlog.api.settings import SETTINGS
from threadlog.engine.domain.text import storable
from threadlog.engine.ids import as_uuid
from threadlog.engine.offload.process import LARGE_BYTES, OffloadFailed, call
from threadlog.engine.user_code.http_section import HeaderRule

M = TypeVar("M", bound=Body)

logger = logging.getLogger(__name__)

_BUFFERED: RequestKey[list[bytes]] = RequestKey("body", list)
_READ_LARGE = "threadlog.api.http.json_text:read_carved"


async def json_body(request: web.Request, opaque: Sequence[str] = ()) -> Any:
    """The body, whatever content type it claims to have; NUL characters become U+FFFD, as Postgres can't hold them.

    A large one is read by a process of its own, and what of it is `opaque` (see `json_text.payloads`) stays JSON text.
    """
    parts = request.get(_BUFFERED)
    return await json_of(await _received(request) if parts is None else parts, opaque)


async def _received(request: web.Request) -> list[bytes]:
    encoding = header(request, "Content-Encoding").lower()
    if encoding not in ("", "identity"):
        raise ApiError(415, "The request body must not be compressed: leave Content-Encoding out")
    limit = request.client_max_size
    if (request.content_length or 0) > limit:  # said at once, without waiting for so many bytes
        raise too_large(limit)
    return await received(request, limit, request.app[SETTINGS].read_timeout_seconds)


async def buffered(request: web.Request) -> list[bytes]:
    """The body in pieces, read before the handler reads it."""
    parts = request.get(_BUFFERED)
    if parts is None:
        parts = request[_BUFFERED] = await _received(request) if request.can_read_body else []
    return parts


async def buffered_json(request: web.Request) -> Any:
    """The body's JSON, read before the handler reads it; None when there is no body, or none of JSON."""
    parts = await buffered(request)
    try:
        return await json_of(parts) if any(parts) else None
    except ApiError as error:
        if error.status == 422:
            return None
        raise


async def json_of(parts: Sequence[bytes], opaque: Sequence[str] = ()) -> Any:
    """The value of what has been received as a body, or as a message."""
    if sum(map(len, parts)) > LARGE_BYTES:
        return await _large(parts, opaque)
    return _decoded(parts[0] if len(parts) == 1 else b"".join(parts))


async def _large(parts: Sequence[bytes], opaque: Sequence[str]) -> Any:
    try:
        result = await call(_READ_LARGE, parts, *opaque)
    except OffloadFailed as error:
        logger.warning("a large request body can't be read: %s", error)
        raise ApiError(
            503, "There is not enough memory to read so large a body. Try again.", {"Retry-After": "5"}
        ) from None
    if "refused" in result:
        detail, code = result["refused"]
        raise ApiError(422, detail, code=code)
    return result["body"]


def _decoded(raw: bytes) -> Any:
    try:
        return json_text.read(raw)
    except json_text.Unreadable as error:
        raise ApiError(422, str(error), code=error.code) from None


async def body(request: web.Request, model: type[M]) -> M:
    """The body as this model; 422 names the fields that are wrong."""
    return checked(await json_body(request, model.OPAQUE), model)


def checked(value: Any, model: type[M]) -> M:
    if not isinstance(value, dict):
        raise ApiError(422, "The request body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


def path_of(request: web.Request) -> str:
    """The path as clients know it: without the prefix that everything is below, which is part of their base URL."""
    return request.path.removeprefix(request.app[SETTINGS].mount_prefix)


def configurable_headers(request: web.Request) -> dict[str, str]:
    """The headers that runs find in `configurable` (`http.configurable_headers`)."""
    chosen = request.app[SETTINGS].configurable_headers.chosen(request.headers)
    return {name: storable(value) for name, value in chosen.items()}


def header(request: web.Request, name: str) -> str:
    """The header, stripped; "" when there is none."""
    return storable(request.headers.get(name, "")).strip()


def chosen_headers(request: web.Request, rule: HeaderRule) -> dict[str, str]:
    """The headers that the rule lets through, by name."""
    return {name: storable(value) for name, value in rule.chosen(request.headers).items()}


def path_text(request: web.Request, name: str) -> str:
    """A part of the path; "" when the route has none of that name."""
    return storable(request.match_info.get(name, ""))


def query_text(request: web.Request, name: str) -> str | None:
    """A value of the query, None when it is not given or empty."""
    return storable(request.query.get(name, "")) or None


def path_uuid(request: web.Request, name: str, what: str) -> str:
    """The canonical form of a UUID in the path, or 422."""
    canonical = as_uuid(path_text(request, name))
    if canonical is None:
        raise ApiError(422, f"Invalid {what} ID: must be a UUID")
    return canonical


def thread_id_or_none(request: web.Request) -> str | None:
    """The thread's id; None on a route without one."""
    return path_uuid(request, "thread_id", "thread") if "thread_id" in request.match_info else None


def query_int(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    raw = query_text(request, name)
    if raw is None:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ApiError(400, f"{name}: must be an integer, not {shown(raw)}") from None
    if not low <= value <= high:
        raise ApiError(422, f"{name}: must be between {low} and {high}")
    return value


def query_moment(request: web.Request, name: str) -> datetime | None:
    """A time of ISO-8601, in UTC unless it has an offset."""
    text = query_text(request, name)
    if text is None:
        return None
    try:
        return moment(text.replace(" ", "+"))  # a `+` that was not encoded
    except ValueError as error:
        raise ApiError(422, f"{name}: {error}") from None


def place_after(text: str) -> tuple[datetime, str]:
    """Where a page of rows in the order of a time and their ids ended: `<time>/<id>`."""
    at, _, id = text.partition("/")
    canonical = as_uuid(id)
    try:
        if canonical is not None:
            return moment(at.replace(" ", "+")), canonical
    except ValueError:
        pass
    raise ApiError(422, f"after: is not the X-Pagination-Next of a page: {shown(text)}")


def query_flag(request: web.Request, name: str, default: bool = False) -> bool:
    raw = query_text(request, name)
    if raw is None:
        return default
    lowered = raw.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ApiError(422, f"{name}: must be true or false, not {shown(raw)}")


def query_list(request: web.Request, *names: str) -> list[str]:
    """A list given by repeated keys, commas or a JSON list, or a mixture, under any of the names."""
    values: list[str] = []
    for name in names:
        for raw in map(storable, request.query.getall(name, ())):
            if raw.startswith("["):
                try:
                    items = orjson.loads(raw)
                except orjson.JSONDecodeError:
                    raise ApiError(422, f"{name}: not a JSON list: {shown(raw)}") from None
                values += [str(item) for item in items]
            else:
                values += [part.strip() for part in raw.strip('"').split(",") if part.strip()]
    return values


def query_namespaces(request: web.Request) -> set[str] | None:
    """The graphs of a run that a client wants to hear of, "" for the root; None when the query has no `namespace`.

    Given by repeated keys or a JSON list: commas are part of names.
    """
    if "namespace" not in request.query:
        return None
    namespaces = set[str]()
    for raw in map(storable, request.query.getall("namespace")):
        try:
            listed = orjson.loads(raw) if raw.startswith("[") else [raw]
        except orjson.JSONDecodeError:
            listed = None
        if not isinstance(listed, list) or not all(isinstance(namespace, str) for namespace in listed):
            raise ApiError(422, f"namespace: not a JSON list of namespaces: {shown(raw)}")
        namespaces.update(map(storable, listed))
    return namespaces


def select_of(fields: list[str] | None, allowed: frozenset[str]) -> list[str] | None:
    """The fields requested, in order, or None for all; an unknown one is 422."""
    if not fields:
        return None
    for name in fields:
        if name not in allowed:
            raise ApiError(422, f"select: {shown(name)} is not one of {', '.join(sorted(allowed))}")
    return fields


def place_in_log(text: str | None) -> tuple[int, int] | None:
    """The parameter `after` of the log: `offset-index` of an event, or `offset` of a record that is done."""
    if not text:
        return None
    offset, _, index = text.partition("-")
    numbers = (offset, index or str(2**31))
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise ApiError(422, f"after: not the id of an event: {shown(text)}")
    return int(offset), int(numbers[1])
