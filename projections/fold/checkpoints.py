"""What the events of checkpoints change in `checkpoints`, `checkpoint_writes` and `channel_values`."""

from __future__ import annotations

from binascii import a2b_base64
from datetime import UTC, datetime
from typing import Any

from threadlog.engine.compression.codec import pack_value
from threadlog.engine.domain.text import storable, text_to_data
from threadlog.engine.stored.row_codec import PART_TYPE, compact
from threadlog.projections.fold.batch import CheckpointRow, ProjectionBatch, time_of
from threadlog.projections.fold.threads import state_moved


def saved(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    thread_id, ns, checkpoint_id = event["thread_id"], storable(event.get("ns", "")), event["checkpoint_id"]
    checkpoint, run_id = event.get("checkpoint", {}), event.get("run_id")
    created_at = _time(checkpoint, at)
    stored = compact(
        checkpoint_id, created_at, run_id, event.get("metadata", {}), checkpoint, event.get("channels", {})
    )
    row = CheckpointRow(
        parent_id=event.get("parent_id"),
        run_id=run_id,
        created_at=created_at,
        metadata=stored.metadata,
        checkpoint=stored.checkpoint,
        channels=stored.channels,
        parts=stored.parts,
    )
    for name, data in stored.needs.items():
        rows.values[thread_id, name] = (PART_TYPE, data)
    before = rows.checkpoints.get((thread_id, ns, checkpoint_id))
    if before is not None:
        row.tasks, row.out, row.shown = before.tasks, before.out, before.shown
    rows.checkpoints[thread_id, ns, checkpoint_id] = row
    rows.touched_threads.add(thread_id)
    if not ns:
        state_moved(rows, thread_id, checkpoint_id, at)
    _keep_values(rows, event, p)


def writes_saved(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    thread_id, run_id, task_path = event["thread_id"], event.get("run_id"), storable(event.get("task_path", ""))
    task = (thread_id, storable(event.get("ns", "")), event["checkpoint_id"], event["task_id"])
    for idx, channel, value in event.get("writes", ()):
        key = (*task, idx)
        if idx < 0 or key not in rows.writes:
            rows.writes[key] = (task_path, storable(channel), value, run_id)
    rows.touched_threads.add(thread_id)
    _keep_values(rows, event, p)


def tasks_planned(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    key = (event["thread_id"], storable(event.get("ns", "")), event["checkpoint_id"])
    tasks, out, shown = event.get("tasks", []), event.get("out"), event.get("shown")
    rows.touched_threads.add(key[0])
    row = rows.checkpoints.get(key)
    if row is not None:
        row.tasks = tasks
        row.out = row.out if out is None else out
        row.shown = row.shown if shown is None else shown
    else:
        _, out_before, shown_before = rows.plans.get(key, (None, None, None))
        rows.plans[key] = (tasks, out_before if out is None else out, shown_before if shown is None else shown)
    _keep_values(rows, event, p)


def runs_deleted(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.deleted_checkpoints.append((event["thread_id"], at, list(event.get("run_ids", []))))


def pruned(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.deleted_checkpoints.append((event["thread_id"], at, None))


def _keep_values(rows: ProjectionBatch, event: dict[str, Any], p: int) -> None:
    for blob in event.get("blobs", ()):
        key = (event["thread_id"], blob["h"])
        if key in rows.values:
            continue
        if "d" in blob:
            rows.values[key] = pack_value(blob["t"], text_to_data(blob["d"]))
        elif "b" in blob:
            rows.values[key] = (blob["t"], a2b_base64(blob["b"]))
        else:
            rows.deferred_values[key] = (blob["t"], p, blob["at"])


def _time(checkpoint: dict[str, Any], at: datetime) -> datetime:
    try:
        return time_of(checkpoint["ts"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return at


HANDLERS = {
    "checkpoint.saved": saved,
    "writes.saved": writes_saved,
    "tasks.planned": tasks_planned,
    "checkpoints.deleted": runs_deleted,
    "thread.pruned": pruned,
}
