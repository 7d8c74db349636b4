"""Error mapping: exceptions as clients receive them, a status and `{"detail": "<sentence>", "code": "<what it is>"}`.

`detail` is for people, `code` for programs: docs/reference/errors.md has a row for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import asyncpg
from pydantic import ValidationError

from threadlog.api.http.limits import LimitExceeded
from threadlog.engine.log.port import LogUnavailable


def is_unavailable(error: BaseException) -> bool:
    """Whether the log or Postgres can't be reached right now, rather than something being wrong with the request."""
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg uses this class for a closed connection or pool, and for wrong arguments, which would be our mistake.
        return not isinstance(error, ValueError) and "clos" in str(error)
    return isinstance(
        error,
        (
            LogUnavailable,
            asyncpg.InternalClientError,  # of an idle connection that the server had ended
            asyncpg.PostgresConnectionError,
            asyncpg.exceptions.OperatorInterventionError,
            asyncpg.exceptions.InsufficientResourcesError,
            OSError,
            TimeoutError,
        ),
    )


ErrorCode = Literal[
    "assistant_not_found", "body_too_large", "conflict", "cron_not_found",
    "encryption_context_invalid", "encryption_failed", "forbidden", "graph_not_found",
    "idempotency_key_invalid", "idempotency_key_reused", "internal_error",
    "invalid_json", "invalid_request", "limit_exceeded", "method_not_allowed", "no_executor", "not_found",
    "origin_not_allowed", "request_timeout", "run_not_found", "thread_not_found", "unauthenticated", "unavailable",
    "unsupported_media_type", "update_failed", "upgrade_required",
    "usage_not_counted",
]  # fmt: skip
"""What an error is. Codes are stable, the texts of `detail` are not."""

_USUAL: Mapping[int, ErrorCode] = {
    400: "invalid_request", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "request_timeout", 409: "conflict", 413: "body_too_large", 415: "unsupported_media_type",
    422: "invalid_request", 426: "upgrade_required", 500: "internal_error", 503: "unavailable",
}  # fmt: skip


class ApiError(Exception):
    """Ends the request with this status and detail. `code`: unless it is the usual one of the status."""

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, *, code: ErrorCode | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers
        self.code: ErrorCode = code or usual_code(status)


def usual_code(status: int) -> ErrorCode:
    """The code of an error of which no more is known than its status."""
    return _USUAL.get(status, "invalid_request" if status < 500 else "internal_error")


def error_body(detail: str, code: ErrorCode) -> dict[str, str]:
    """The body of every error response."""
    return {"detail": detail, "code": code}


class ServerStopping(ApiError):
    """The process is being stopped: the client should try again, at another one."""

    def __init__(self) -> None:
        super().__init__(503, "The server is stopping. Try again.", {"Retry-After": "1"})


def invalid(error: ValidationError) -> ApiError:
    """The response to a body that is not as its model says: one sentence per bad field, beginning with its name."""
    sentences: dict[str, str] = {}
    items = error.errors(include_url=False, include_input=False)
    for item in items:
        path = ".".join(str(part) for part in item["loc"] if not _internal(part))
        message = item["msg"].removeprefix("Value error, ")
        sentences.setdefault(path, f"{path}: {message}" if path else message)
    beyond = all(isinstance(item.get("ctx", {}).get("error"), LimitExceeded) for item in items)
    return ApiError(422, "; ".join(sentences.values()), code="limit_exceeded" if beyond else None)


def _internal(part: Any) -> bool:
    """Pydantic names the branches of a union and validators in the location; a client knows neither."""
    return isinstance(part, str) and ("[" in part or "(" in part or part in ("str", "int", "float", "bool", "dict"))
