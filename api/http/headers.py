"""Headers of requests and responses as /openapi.json has them: what each is, and which the handlers declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Header(NamedTuple):
    """Its JSON Schema, and what it is for."""

    schema: Mapping[str, Any]
    help: str


_TEXT: Mapping[str, Any] = {"type": "string"}
_NUMBER: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_PATH: Mapping[str, Any] = {"type": "string", "format": "uri-reference"}

IDEMPOTENCY_KEY = "Idempotency-Key"
ENCRYPTION_CONTEXT = "X-Encryption-Context"

TAKEN: Mapping[str, Header] = {
    IDEMPOTENCY_KEY: Header(
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+( +[!-~]+)*$"},
        "Sent again with the same key, the request is carried out once and answered as the first time.",
    ),
    "Last-Event-ID": Header(
        _TEXT, "The id of the last event that the client has: what follows it is sent; `-1` for all there is."
    ),
    "Prefer": Header(_TEXT, "`return=minimal`: the response is a 204, without a body."),
    "LangGraph-A2A-History-Scope": Header(
        {"type": "string", "enum": ["context", "task"]}, "Whose messages the history of a task has."
    ),
    "If-None-Match": Header(_TEXT, "The `ETag` of what the client has: the response is a 304 if that is what is here."),
    ENCRYPTION_CONTEXT: Header(_TEXT, "What encryption handlers are told of the request: base64 of a JSON object."),
}
"""Of requests. Those of any HTTP request, such as `Accept`, and of authentication are none of them."""

SENT: Mapping[str, Header] = {
    "X-Request-Id": Header(
        _TEXT, "The request's own `X-Request-Id`, or one that was made for it; in the server's log."
    ),
    "Location": Header(_PATH, "Where the run is resumed or joined, or where what is asked for is."),
    "Content-Location": Header(_PATH, "The run: `/threads/{thread_id}/runs/{run_id}`, or `/runs/{run_id}`."),
    "X-Pagination-Total": Header(
        _NUMBER, "How many there are as far as is known: one more than shown if there are more."
    ),
    "X-Pagination-Next": Header(_TEXT, "Where the next page begins, `offset` or `after`, if there are more."),
    "Retry-After": Header(_NUMBER, "Seconds after which the request may be tried again."),
    "Idempotent-Replayed": Header(
        {"type": "string", "const": "true"}, f"The response was given before, to a request with this {IDEMPOTENCY_KEY}."
    ),
    "ETag": Header(_TEXT, "Names the content of the file."),
    "Cache-Control": Header(_TEXT, "How long it may be kept."),
}
"""Of responses. Those of any HTTP response, such as `Content-Type`, and of cross-origin rules are none of them."""


def parameter(name: str) -> dict[str, Any]:
    """The header of a request as a parameter of an operation."""
    header = TAKEN[name]
    return {"name": name, "in": "header", "required": False, "schema": dict(header.schema), "description": header.help}


def components() -> dict[str, Any]:
    """All headers of responses, which responses refer to."""
    return {name: {"description": header.help, "schema": dict(header.schema)} for name, header in SENT.items()}


def references(names: tuple[str, ...]) -> dict[str, Any]:
    """The headers of a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
