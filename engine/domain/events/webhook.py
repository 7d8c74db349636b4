"""Events of webhooks: the POST of a run's end to the URL that the run was created with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from threadlog.engine.domain.events.base import Event, JsonObject

WebhookStatus = Literal["success", "error", "timeout", "interrupted", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequested(Event):
    """A run that has a webhook has ended: it is due at once. What clients see of the run is copied from its row."""

    type: ClassVar[str] = "webhook.requested"
    thread_id: str
    run_id: str
    url: str
    status: WebhookStatus
    error: JsonObject | None = None
    started_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivered(Event):
    """The receiver took it. It is never sent again."""

    type: ClassVar[str] = "webhook.delivered"
    thread_id: str
    run_id: str
    attempt: int
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFailed(Event):
    """This attempt failed, the next follows at `due_at`."""

    type: ClassVar[str] = "webhook.failed"
    thread_id: str
    run_id: str
    attempt: int
    due_at: str
    status: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDead(Event):
    """Given up: after the last attempt, for a reason that no attempt would change, or with its thread."""

    type: ClassVar[str] = "webhook.dead"
    thread_id: str
    run_id: str
    attempt: int
    status: int | None = None
    reason: str | None = None


WEBHOOK_EVENTS: tuple[type[Event], ...] = (WebhookRequested, WebhookDelivered, WebhookFailed, WebhookDead)
