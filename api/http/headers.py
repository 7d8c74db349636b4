"""Headers of requests and responses as /openapi.json has them: what each is, and which the handlers declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class DescribedHeader(NamedTuple):
    """Its JSON Schema, and what it is for."""

    schema: Mapping[str, Any]
    help: str


_TEXT: Mapping[str, Any] = {"type": "string"}
_NUMBER: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_PATH: Mapping[str, Any] = {"type": "string", "format": "uri-reference"}

IDEMPOTENCY_KEY = "Idempotency-Key"
ENCRYPTION_CONTEXT = "X-Encryption-Context"

TAKEN: Mapping[str, DescribedHeader] = {
    IDEMPOTENCY_KEY: DescribedHeader(
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+( +[!-~]+)*$"},
        "Sent again with the same key, the request is carried out once and answered as the first time.",
    ),
    "Last-Event-ID": DescribedHeader(
        _TEXT, "The id of the last event that the client has: what follows it is sent; `-1` for all there is."
    ),
    "Prefer": DescribedHeader(_TEXT, "`return=minimal`: the response is a 204, without a body."),
    "LangGraph-A2A-History-Scope": DescribedHeader(
        {"type": "string", "enum": ["context", "task"]}, "Whose messages the history of a task has."
    ),
    "If-None-Match": DescribedHeader(
        _TEXT, "The `ETag` of what the client has: the response is a 304 if that is what is here."
    ),
    ENCRYPTION_CONTEXT: DescribedHeader(
        _TEXT, "What encryption handlers are told of the request: base64 of a JSON object."
    ),
}
"""Of requests. Those of any HTTP request, such as `Accept`, and of authentication are none of them."""

SENT: Mapping[str, DescribedHeader] = {
    "X-Request-Id": DescribedHeader(
        _TEXT, "The request's own `X-Request-Id`, or one that was made for it; in the server's log."
    ),
    "Location": DescribedHeader(_PATH, "Where the run is resumed or joined, or where what is asked for is."),
    "Content-Location": DescribedHeader(_PATH, "The run: `/threads/{thread_id}/runs/{run_id}`, or `/runs/{run_id}`."),
    "X-Pagination-Total": DescribedHeader(
        _NUMBER, "How many there are as far as is known: one more than shown if there are more."
    ),
    "X-Pagination-Next": DescribedHeader(_TEXT, "Where the next page begins, `offset` or `after`, if there are more."),
    "Retry-After": DescribedHeader(_NUMBER, "Seconds after which the request may be tried again."),
    "Idempotent-Replayed": DescribedHeader(
        {"type": "string", "const": "true"}, f"The response was given before, to a request with this {IDEMPOTENCY_KEY}."
    ),
    "ETag": DescribedHeader(_TEXT, "Names the content of the file."),
    "Cache-Control": DescribedHeader(_TEXT, "How long it may be kept."),
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
