"""Response builders: JSON responses, pages, and the values that the resources' JSON is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import orjson
from aiohttp import web

from threadlog.engine.offload.process import LARGE_BYTES
from threadlog.engine.stored import long_integers

_JSON = "application/json"


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response; `orjson.Fragment`s in `value` are passed on as they are."""
    return raw_reply(orjson.dumps(value), status, headers)


def raw_reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response of this text."""
    all_headers = {"Content-Type": _JSON}
    if headers:
        all_headers.update(headers)
    # A large one leaves in pieces: aiohttp copies what it is given at once.
    return web.Response(body=body if len(body) <= LARGE_BYTES else BytesIO(body), status=status, headers=all_headers)


def no_content() -> web.Response:
    return web.Response(status=204)


def page(rows: Sequence[Mapping[str, Any]], limit: int, offset: int, more: bool) -> web.Response:
    """A page of a search; its total is what is known to exist so far, `X-Pagination-Next` only if there is more."""
    headers = {"X-Pagination-Total": str(offset + len(rows) + (1 if more else 0))}
    if more:
        headers["X-Pagination-Next"] = str(offset + limit)
    return reply(rows, headers=headers)


def time_text(at: datetime) -> str:
    """ISO-8601 with microseconds and `+00:00`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def normalize_timestamp(at: str) -> str:
    """The time of an event in the form that `time_text` gives the row it is projected to."""
    return time_text(datetime.fromisoformat(at))


def raw(text: str | None) -> Any:
    """A JSON column, passed on without decoding it."""
    return None if text is None else orjson.Fragment(text)


def decoded(value: Any) -> Any:
    """Rendered values as plain objects, when they have to be looked into."""
    return exactly(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else value


def exactly(text: bytes) -> Any:
    """The value of JSON text; integers beyond 64 bits stay text (`orjson.Fragment`)."""
    return long_integers.loads(text, lambda digits: orjson.Fragment(digits.encode()))


def select_fields(item: Mapping[str, Any], select: Iterable[str] | None) -> Mapping[str, Any]:
    return item if select is None else {name: item[name] for name in select}
