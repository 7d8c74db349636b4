"""Commands for requests with an idempotency key; key: "request:" + request_id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.commands.base import Command, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginRequest(Command):
    """Claim a key for a request, before the first command of the request is sent.

    `request_id`: digest of caller and key. `fingerprint`: digest of the request's method, path and body. `begun_at`:
    what the ids that the request makes are derived from, with the key; ISO-8601 in UTC. After `expires_at` the key is
    free again.
    """

    type: ClassVar[str] = "request.begin"
    request_id: str
    fingerprint: str
    begun_at: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest(Command):
    """Record the response of a request: the first one counts. `begun_at`: of the use of the key that it answers, as the
    key may have expired and begun anew. `body`: its text; None: there is none, or it is too large to be kept
    (`complete` False), and is made anew. `thread_id`: the thread whose content it may show;
    `other_content`: it may show more than that, which no one key encrypts."""

    type: ClassVar[str] = "request.answer"
    request_id: str
    fingerprint: str
    begun_at: str
    status: int
    headers: JsonObject = field(default_factory=dict)
    body: str | None = None
    complete: bool = True
    thread_id: str | None = None
    other_content: bool = False


REQUEST_COMMANDS: tuple[type[Command], ...] = (BeginRequest, AnswerRequest)
