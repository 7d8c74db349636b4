"""Webhooks of a thread's runs: when one is due, and what follows from an attempt to deliver it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threadlog.engine.domain.commands import JsonObject, ReportWebhook
from threadlog.engine.domain.events import (
    Event,
    ReportFenced,
    WebhookDead,
    WebhookDelivered,
    WebhookFailed,
    WebhookRequested,
)
from threadlog.engine.domain.events.webhook import WebhookStatus
from threadlog.engine.domain.thread import PendingWebhook, Slot, Thread, shortened
from threadlog.engine.domain.wire import is_time

PENDING = 100
"""Webhooks of one thread that wait for their delivery; the oldest is given up for the next. They are in the thread's
state, which is read and written with each of its commands."""

ATTEMPTS = 100
"""Attempts of one delivery, whatever its sender asks for."""

REASON_CHARACTERS = 1000
"""Of a reason, what is kept."""

THREAD_DELETED = "its thread was deleted"


def requested(s: Thread, slot: Slot, status: WebhookStatus, error: JsonObject | None = None) -> list[Event]:
    """What follows for the webhook of the run in the slot when the run has ended; nothing if it has none."""
    if slot.webhook is None:
        return []
    events: list[Event] = []
    if len(s.webhooks) >= PENDING:
        events.append(_dead(s, s.webhooks[0], f"more than {PENDING} webhooks of its thread wait"))
    events.append(
        WebhookRequested(
            thread_id=s.thread_id, run_id=slot.run_id, url=slot.webhook, status=status, error=shortened(error),
            started_at=slot.started if slot.started is not None and is_time(slot.started) else None,
        )
    )  # fmt: skip
    return events


def given_up(s: Thread, reason: str) -> list[Event]:
    """The end of every webhook that waits."""
    return [_dead(s, webhook, reason) for webhook in s.webhooks]


def _dead(s: Thread, webhook: PendingWebhook, reason: str) -> WebhookDead:
    return WebhookDead(thread_id=s.thread_id, run_id=webhook.run_id, attempt=webhook.attempt, reason=reason)


def waits(states: Mapping[str, Any], run_id: str, attempt: int) -> bool:
    """Whether this attempt is due, by what is kept under its thread's key."""
    thread: Thread | None = states.get("thread")
    return thread is not None and PendingWebhook(run_id, attempt) in thread.webhooks


def report_webhook(s: Thread, c: ReportWebhook, at: str) -> list[Event]:
    """A report of any other attempt than the one that is due changes nothing: another owner was first."""
    if PendingWebhook(c.run_id, c.attempt) not in s.webhooks:
        return [ReportFenced(run_id=c.run_id, attempt=c.attempt)]
    said: dict[str, Any] = {
        "thread_id": s.thread_id, "run_id": c.run_id, "attempt": c.attempt, "status": c.status,
    }  # fmt: skip
    if c.outcome == "delivered":
        return [WebhookDelivered(**said)]
    reason = None if c.reason is None else c.reason[:REASON_CHARACTERS]
    if c.outcome == "failed" and c.due_at is not None and c.attempt < ATTEMPTS:
        return [WebhookFailed(**said, reason=reason, due_at=c.due_at)]
    return [WebhookDead(**said, reason=reason)]
