"""Error mapping: exceptions as clients receive them, a status and `{"detail": "<sentence>"}`."""

from __future__ import annotations

from typing import Any

import asyncpg
from pydantic import ValidationError

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


class ApiError(Exception):
    """Ends the request with this status and detail."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class ServerStopping(ApiError):
    """The process is being stopped: the client should try again, at another one."""

    def __init__(self) -> None:
        super().__init__(503, "The server is stopping. Try again.", {"Retry-After": "1"})


def describe(error: ValidationError) -> str:
    """One sentence per bad field, each beginning with the field's name."""
    sentences: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join(str(part) for part in item["loc"] if not _internal(part))
        message = item["msg"].removeprefix("Value error, ")
        sentences.setdefault(path, f"{path}: {message}" if path else message)
    return "; ".join(sentences.values())


def _internal(part: Any) -> bool:
    """Pydantic names the branches of a union and validators in the location; a client knows neither."""
    return isinstance(part, str) and ("[" in part or "(" in part or part in ("str", "int", "float", "bool", "dict"))
