"""Events of requests with an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.events.base import Event, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBegun(Event):
    """The key belongs to this request until `expires_at`; whoever carries the request out derives its ids alike."""

    type: ClassVar[str] = "request.begun"
    request_id: str
    fingerprint: str
    begun_at: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(Event):
    """What the request's client is answered, now and whenever it sends the request again."""

    type: ClassVar[str] = "request.answered"
    request_id: str
    status: int
    headers: JsonObject = field(default_factory=dict)
    body: str | None = None
    complete: bool = True


REQUEST_EVENTS: tuple[type[Event], ...] = (RequestBegun, RequestAnswered)
