"""What the events of requests with an idempotency key, and of the commands these have sent, change: the argument of
`project_keyed`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from threadlog.engine.domain.keyed_request import keyed_expiry
from threadlog.engine.domain.text import storable
from threadlog.engine.log.records import EventRecord
from threadlog.projections.fold.batch import ProjectionBatch, clean_text, time_of

PROJECT_KEYED = "SELECT project_keyed($1)"

_COLUMNS = (
    "ev_off", "kind", "id", "p", "at", "fingerprint", "begun_at", "expires_at", "status", "headers", "answer",
    "complete",
)  # fmt: skip


def _change(rows: ProjectionBatch, kind: str, id: str, p: int, at: datetime, **values: Any) -> None:
    change = {"ev_off": rows.offset, "kind": kind, "id": storable(id), "p": p, "at": at, **values}
    rows.keyed.append(tuple(change.get(column) for column in _COLUMNS))


def begun(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _change(
        rows, "begun", event["request_id"], p, at, fingerprint=storable(event["fingerprint"]),
        begun_at=time_of(event["begun_at"]), expires_at=time_of(event["expires_at"]),
    )  # fmt: skip


def answered(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    body = event.get("body")
    _change(
        rows, "answered", event["request_id"], p, at, status=event["status"],
        headers=clean_text(event.get("headers", {})), answer=None if body is None else clean_text(body),
        complete=event.get("complete", True),
    )  # fmt: skip


def sent(rows: ProjectionBatch, record: EventRecord, at: datetime, p: int) -> None:
    """A keyed request's command has changed something."""
    expires_at = keyed_expiry(record.cmd_id)
    if expires_at is not None:
        _change(rows, "command", record.cmd_id, p, at, expires_at=datetime.fromtimestamp(expires_at, UTC))


def in_order(changes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The changes in the order of their events, partition by partition: a rebuild folds them key by key."""
    return sorted(changes, key=lambda change: (change[3], change[0]))


HANDLERS = {"request.begun": begun, "request.answered": answered}
