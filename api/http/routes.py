"""Route table entry: one route as data, from which the application and its OpenAPI description are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Callable[..., Any])
Access = tuple[str, ...]
"""What the caller has to be allowed, as `resource.action` of contract 8; empty: nobody has to be authenticated."""

_ACCESS = "__access__"
_JOINS = "__joins__"
_TAKES = "__takes__"
_SENDS = "__sends__"
_READS = frozenset({"read", "get", "search", "list_namespaces"})


def requires(*access: str) -> Callable[[H], H]:
    """Declare what a handler's callers have to be allowed. The handler asks for each of these with
    `api.auth.gate.allowed`, before it responds; a handler that declares nothing is closed where there is `auth`."""

    def declare(handler: H) -> H:
        setattr(handler, _ACCESS, access)
        return handler

    return declare


def joins(handler: H) -> H:
    """Declare that the handler follows a run that its request creates: sent again with its idempotency key, the request
    follows the same run."""
    setattr(handler, _JOINS, True)
    return handler


def takes(*headers: str) -> Callable[[H], H]:
    """Declare which headers of its requests the handler reads, as `api.http.headers` has them."""

    def declare(handler: H) -> H:
        setattr(handler, _TAKES, headers)
        return handler

    return declare


def sends(*headers: str) -> Callable[[H], H]:
    """Declare which headers the handler's responses may have, if they are no errors."""

    def declare(handler: H) -> H:
        setattr(handler, _SENDS, headers)
        return handler

    return declare


public = requires()
"""Declares that anybody may call the handler, unauthenticated."""


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

    @property
    def access(self) -> Access | None:
        """What its handler declares with `requires` or `public`; None if it declares nothing."""
        return getattr(self.handler, _ACCESS, None)

    @property
    def writes(self) -> bool:
        """Whether it may change something, so that it takes an idempotency key."""
        if self.method == "GET":
            return False
        return self.joins or any(access.partition(".")[2] not in _READS for access in self.access or ())

    @property
    def takes(self) -> tuple[str, ...]:
        """What its handler declares with `takes`."""
        return getattr(self.handler, _TAKES, ())

    @property
    def sends(self) -> tuple[str, ...]:
        """What its handler declares with `sends`."""
        return getattr(self.handler, _SENDS, ())

    @property
    def joins(self) -> bool:
        """Whether its handler declares it with `joins`."""
        return getattr(self.handler, _JOINS, False)
