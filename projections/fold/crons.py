"""What the events of crons change in `crons` and `cron_firings`: the argument of `project_crons`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from threadlog.engine.domain.text import storable
from threadlog.projections.fold.batch import ProjectionBatch, clean_text, time_of

PROJECT_CRONS = "SELECT project_crons($1)"

_COLUMNS = (
    "kind", "at", "cron_id", "p", "assistant_id", "thread_id", "user_id", "schedule", "timezone", "end_time",
    "clears", "payload", "metadata", "on_run_completed", "enabled", "version", "moves", "next_due_at", "due_at",
    "run_id", "firing",
)  # fmt: skip


def _change(rows: ProjectionBatch, event: dict[str, Any], kind: str, at: datetime, p: int, **values: Any) -> None:
    change = {"kind": kind, "at": at, "cron_id": event["cron_id"], "p": p, **values}
    rows.crons.append(tuple(change.get(column) for column in _COLUMNS))


def without_times(change: tuple[Any, ...], p: int | None) -> tuple[Any, ...]:
    """The change of a cron that is not due, and if `p` is given of a firing that is that partition's."""
    changed = dict(zip(_COLUMNS, change, strict=True)) | {"next_due_at": None}
    return tuple((changed | ({} if p is None else {"p": p})).values())


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    """What creating and updating have in common."""
    return {
        "schedule": _clean(event.get("schedule")),
        "timezone": _clean(event.get("timezone")),
        "end_time": _time(event.get("end_time")),
        "on_run_completed": event.get("on_run_completed"),
        "next_due_at": _time(event.get("next_due_at")),
    }


def created(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _change(
        rows, event, "created", at, p, **_fields(event),
        assistant_id=event["assistant_id"], thread_id=event.get("thread_id"), user_id=_clean(event.get("user_id")),
        enabled=event.get("enabled", True), payload=clean_text(event.get("payload", {})),
        metadata=clean_text(event.get("metadata", {})),
    )  # fmt: skip


def updated(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    payload, metadata = event.get("payload"), event.get("metadata")
    _change(
        rows, event, "updated", at, p, **_fields(event),
        clears=event.get("clears", []), enabled=event.get("enabled"), version=event["version"],
        moves=event.get("reschedules", False), payload=None if payload is None else clean_text(payload),
        metadata=None if metadata is None else clean_text(metadata),
    )  # fmt: skip


def deleted(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _change(rows, event, "deleted", at, p)


def fired(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    error = event.get("schedule_error")
    firing = {
        "due_at": event["due_at"],
        "run_id": event["run_id"],
        "thread_id": event["thread_id"],
        "error": None if error is None else {"error": "ScheduleError", "message": error},
    }
    _change(
        rows, event, "fired", at, p, next_due_at=_time(event.get("next_due_at")), due_at=time_of(event["due_at"]),
        run_id=event["run_id"], thread_id=event["thread_id"], firing=clean_text(firing),
    )  # fmt: skip


def ended(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _change(rows, event, "ended", at, p)


def run_created(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _change(rows, event, "recorded", at, p, due_at=time_of(event["due_at"]))


def run_refused(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    firing = {"run_id": None, "error": event.get("error", {})}
    _change(rows, event, "recorded", at, p, due_at=time_of(event["due_at"]), firing=clean_text(firing))


def _clean(value: str | None) -> str | None:
    return None if value is None else storable(value)


def _time(value: str | None) -> datetime | None:
    return None if value is None else time_of(value)


HANDLERS = {
    "cron.created": created,
    "cron.updated": updated,
    "cron.deleted": deleted,
    "cron.fired": fired,
    "cron.ended": ended,
    "cron.run_created": run_created,
    "cron.run_refused": run_refused,
}
