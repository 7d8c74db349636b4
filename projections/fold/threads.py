"""What the events of a thread change in `threads` (and, when it is deleted, to everything it has)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from threadlog.projections.fold.batch import ProjectionBatch, ThreadRow


def created(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    thread_id = event["thread_id"]
    rows.touched_threads.add(thread_id)
    rows.threads[thread_id] = ThreadRow(
        created_at=at,
        updated_at=at,
        state_updated_at=at,
        metadata=event.get("metadata", {}),
        config=event.get("config", {}),
        status=event.get("status", "idle"),
        error=event.get("error"),
        interrupts=event.get("interrupts", {}),
        ttl=event.get("ttl"),
    )


def updated(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    row = rows.thread_change(event["thread_id"])
    row.updated_at = at
    leave_on_thread(rows, event)
    if (ttl := event.get("ttl")) is not None:
        row.ttl = ttl


def status_changed(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    row = rows.thread_change(event["thread_id"])
    row.updated_at = at
    row.status = event["status"]
    row.error = event.get("error")
    if (interrupts := event.get("interrupts")) is not None:
        row.interrupts = interrupts
    if not isinstance(row, ThreadRow):
        row.sets_error = True


def expired(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    """Of a thread that stays: its clock stands until something happens on it (`thread_expiry`)."""
    rows.thread_change(event["thread_id"]).ttl = {**event["ttl"], "swept": at.isoformat()}


def deleted(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.forget_thread(event["thread_id"])
    rows.deleted_threads.add(event["thread_id"])


def left_on_thread(event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What an event changes of what a thread's runs inherit: see `merged`; and the config that replaces the thread's,
    None if it stays."""
    match event["type"]:
        case "thread.updated":
            return event.get("metadata") or {}, None
        case "run.created":
            return event.get("thread_metadata") or {}, event.get("thread_config")
        case _:
            return {}, None


def merged(metadata: dict[str, Any] | None, change: dict[str, Any]) -> dict[str, Any]:
    """Metadata merged at the top level, as `jsonb ||` does."""
    return {**metadata, **change} if metadata else change


def leave_on_thread(rows: ProjectionBatch, event: dict[str, Any]) -> None:
    metadata, config = left_on_thread(event)
    row = rows.thread_change(event["thread_id"])
    if metadata:
        row.metadata = merged(row.metadata, metadata)
    if config is not None:
        row.config = config


def state_moved(rows: ProjectionBatch, thread_id: str, checkpoint_id: str, at: datetime) -> None:
    """A checkpoint of the root namespace exists; the newest one is the thread's state."""
    row = rows.thread_change(thread_id)
    if row.checkpoint_id is None or checkpoint_id > row.checkpoint_id:
        row.checkpoint_id = checkpoint_id
        row.state_updated_at = at


HANDLERS = {
    "thread.created": created,
    "thread.updated": updated,
    "thread.status_changed": status_changed,
    "thread.expired": expired,
    "thread.deleted": deleted,
}
