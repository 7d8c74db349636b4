"""What a request says: its JSON body, the ids in its path, the values of its query."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from api.errors import ApiError, describe
from api.known import as_uuid
from api.whole_numbers import refuse_long_integers

M = TypeVar("M", bound=BaseModel)


async def json_body(request: web.Request) -> Any:
    """The body, whatever content type it claims to have; NUL characters become U+FFFD, as Postgres can't hold them."""
    limit = request.client_max_size
    if (request.content_length or 0) > limit:  # said at once, without waiting for so many bytes
        raise too_large(limit)
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large(limit) from None
    refuse_long_integers(raw)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ApiError(422, "Invalid JSON in request body") from None
    try:
        return _without_nul(value) if b"\\u0000" in raw else value
    except RecursionError:
        raise ApiError(422, "The request body is nested too deeply") from None


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The request body is larger than the {limit} bytes that HTTP_MAX_REQUEST_BODY_BYTES allows")


async def body(request: web.Request, model: type[M]) -> M:
    """The body as this model; 422 names the fields that are wrong."""
    return checked(await json_body(request), model)


def checked(value: Any, model: type[M]) -> M:
    if not isinstance(value, dict):
        raise ApiError(422, "The request body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ApiError(422, describe(error)) from None


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value


def path_uuid(request: web.Request, name: str, what: str) -> str:
    """The canonical form of a UUID in the path, or 422."""
    found = as_uuid(request.match_info[name])
    if found is None:
        raise ApiError(422, f"Invalid {what} ID: must be a UUID")
    return found


def query_int(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    raw = request.query.get(name)
    if raw is None or raw == "":
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ApiError(400, f"{name}: must be an integer, not {raw!r}") from None
    if not low <= value <= high:
        raise ApiError(422, f"{name}: must be between {low} and {high}")
    return value


def query_flag(request: web.Request, name: str, default: bool = False) -> bool:
    raw = request.query.get(name)
    if raw is None or raw == "":
        return default
    lowered = raw.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ApiError(422, f"{name}: must be true or false, not {raw!r}")


def query_list(request: web.Request, *names: str) -> list[str]:
    """A list given by repeated keys, commas or a JSON list, or a mixture, under any of the names."""
    found: list[str] = []
    for name in names:
        for raw in request.query.getall(name, ()):
            if raw.startswith("["):
                try:
                    items = orjson.loads(raw)
                except orjson.JSONDecodeError:
                    raise ApiError(422, f"{name}: not a JSON list: {raw!r}") from None
                found += [str(item) for item in items]
            else:
                found += [part.strip() for part in raw.strip('"').split(",") if part.strip()]
    return found


def select_of(asked: list[str] | None, allowed: frozenset[str]) -> list[str] | None:
    """The fields asked for, in order, or None for all; an unknown one is 422."""
    if not asked:
        return None
    for name in asked:
        if name not in allowed:
            raise ApiError(422, f"select: {name!r} is not one of {', '.join(sorted(allowed))}")
    return asked
