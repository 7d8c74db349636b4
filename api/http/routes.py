"""Route table entry: one route as data, from which the application and its OpenAPI description are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter: its JSON schema type, and what it is for."""

    name: str
    type: str = "string"
    help: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """`body`: model of the request's JSON, optional with `body_optional`. `returns`: type of the response's JSON, for
    `status`; `text`: content types of responses that are not JSON. `also`: type of the JSON of further statuses, which
    are not errors or have a form of their own; None for those without a body. `errors`: besides 422, 503."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[BaseModel] | None = None
    list_body: bool = False
    body_optional: bool = False
    query: tuple[Query, ...] = ()
    returns: Any = None
    text: tuple[str, ...] = ()
    status: int = 200
    stream: bool = False
    errors: tuple[int, ...] = ()
    also: Mapping[int, Any] = field(default_factory=dict)
