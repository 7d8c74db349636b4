"""Route table entry: one route as data, from which the application and its OpenAPI description are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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
    """`returns`: name of the schema in the description, `[Name]` for a list of it; `errors`: besides 422, 503."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[BaseModel] | None = None
    list_body: bool = False
    query: tuple[Query, ...] = ()
    returns: str | None = None
    status: int = 200
    stream: bool = False
    errors: tuple[int, ...] = ()
    extra: dict[str, Any] | None = None
