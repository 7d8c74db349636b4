"""What the events of webhooks change in `webhooks` and `webhook_failures`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from threadlog.engine.domain.text import storable
from threadlog.projections.fold.batch import ProjectionBatch, WebhookFailureRow, WebhookRow, time_of

_RECEIVER_CHARACTERS = 300


def requested(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    started_at = event.get("started_at")
    rows.webhooks[event["run_id"]] = WebhookRow(
        thread_id=event["thread_id"],
        p=p,
        url=event["url"],
        receiver=receiver_of(event["url"]),
        status=event["status"],
        error=event.get("error"),
        started_at=None if started_at is None else time_of(started_at),
        ended_at=at,
        due_at=at,
        run=rows.runs.get(event["run_id"]),
    )


def failed(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    attempt, due_at = event["attempt"] + 1, time_of(event["due_at"])
    if (row := rows.webhooks.get(event["run_id"])) is not None:
        row.attempt, row.due_at = attempt, due_at
    else:
        rows.webhook_changes[event["run_id"]] = (attempt, due_at)
    _failure(rows, event, at, p, due_at)


def dead(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.webhook_changes.pop(event["run_id"], None)
    rows.webhooks_ended.add(event["run_id"])
    _failure(rows, event, at, p, None)


def delivered(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.webhooks.pop(event["run_id"], None)
    rows.webhook_changes.pop(event["run_id"], None)
    rows.webhook_failures.pop(event["run_id"], None)
    rows.webhooks_ended.add(event["run_id"])


def _failure(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int, due_at: datetime | None) -> None:
    reason = event.get("reason")
    rows.webhook_failures[event["run_id"]] = WebhookFailureRow(
        event["attempt"], event.get("status"), None if reason is None else storable(reason), at, due_at
    )
    rows.webhook_ages[p] = max(at, rows.webhook_ages.get(p, at))


def receiver_of(url: str) -> str:
    """Host and port of a URL, without its user; of a path, or of what is no URL, the empty text."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()[:_RECEIVER_CHARACTERS]
    except ValueError:
        return ""


HANDLERS = {
    "webhook.requested": requested,
    "webhook.failed": failed,
    "webhook.delivered": delivered,
    "webhook.dead": dead,
}
