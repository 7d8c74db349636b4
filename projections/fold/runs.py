"""What the events of runs and state updates change in `runs`, `run_queue` and `timers`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from threadlog.engine.domain.cancelling import TASK_CANCELLED
from threadlog.engine.domain.priority import DEFAULT_GROUP
from threadlog.engine.stored.value_refs import text_reference
from threadlog.projections.fold.batch import FINAL, ProjectionBatch, QueueRow, RunRow, text, time_of
from threadlog.projections.fold.threads import leave_on_thread


def created(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    run_id, thread_id, run = event["run_id"], event["thread_id"], event["run"]
    rows.thread_change(thread_id).updated_at = at
    leave_on_thread(rows, event)
    rows.runs[run_id] = RunRow(
        thread_id=thread_id,
        assistant_id=run.get("assistant_id"),
        graph_id=event["graph_id"],
        created_at=at,
        updated_at=at,
        metadata=run.get("metadata", {}),
        kwargs=run.get("kwargs", {}),
        multitask_strategy=event.get("multitask_strategy", "enqueue"),
        temporary=event.get("temporary", False),
        stream_from=event.get("stream_from", 0),
    )
    if due_at := event.get("due_at"):
        body = text({"thread_id": thread_id, "run_id": run_id})
        rows.timers[f"due:{run_id}"] = (p, time_of(due_at), thread_id, "run.due", body)


def ready(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _remove_timer(rows, event["run_id"])


def scheduled(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    run_id, thread_id = event["run_id"], event["thread_id"]
    kind = event.get("kind", "run")
    rows.touched_threads.add(thread_id)
    before = rows.queued.get(run_id)
    graph_id = payload = None
    if before is not None:  # the job of a state update, requested in this batch, or an attempt that failed in it
        graph_id, payload = before.graph_id, before.payload
    elif run_id in rows.runs:
        graph_id = rows.runs[run_id].graph_id
    rows.queued[run_id] = QueueRow(
        thread_id=thread_id,
        p=p,
        kind=kind,
        graph_id=graph_id,
        attempt=event["attempt"],
        scheduled_at=at,
        fresh=event.get("fresh", False),
        payload=payload,
        priority=event.get("priority", 0),
        fairness_group=event.get("fairness_group", DEFAULT_GROUP),
    )
    rows.cancels.pop(run_id, None)
    rows.unqueued.discard(run_id)
    rows.timers.pop(f"due:{run_id}", None)
    if kind == "run":
        run = rows.run_change(run_id, thread_id)
        run.attempt = event["attempt"]


def started(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _set_status(rows, event, at, "running")


def succeeded(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _end(rows, event, at, "success")


def failed(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _end(rows, event, at, "error")
    _set_task_errors(rows, event)


def timed_out(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _end(rows, event, at, "timeout")


def interrupted(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    run_id = event["run_id"]
    _set_status(rows, event, at, "interrupted")
    _set_task_errors(rows, event)
    if event.get("stopping"):
        _cancel(rows, run_id, "interrupt", event.get("cancel_reason"))
    else:  # it was waiting, so it has emitted no frame
        rows.run_change(run_id, event["thread_id"]).frames = 0
        _unqueue(rows, run_id)
        _remove_timer(rows, run_id)


def rolled_back(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _remove(rows, event, at, "rollback")


def deleted(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _remove(rows, event, at, "delete")


def stopped(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.ends.append((event["run_id"], event["thread_id"], None, text_reference(TASK_CANCELLED), True))
    rows.run_change(event["run_id"], event["thread_id"]).frames = event.get("frames", 0)
    _unqueue(rows, event["run_id"])


def released(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _set_status(rows, event, at, "pending")


def lease_expired(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _set_status(rows, event, at, "pending")
    rows.stops[event["run_id"]] = None  # an executor that is alive after all learns that it lost the run


def update_requested(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    thread_id = event["thread_id"]
    rows.touched_threads.add(thread_id)
    payload = {
        "supersteps": event["supersteps"],
        "checkpoint": event.get("checkpoint"),
        "config": event.get("config", {}),
        "metadata": event.get("metadata", {}),
    }
    # `run.scheduled` of the same record makes it claimable.
    rows.queued[event["job_id"]] = QueueRow(
        thread_id=thread_id,
        p=p,
        kind="state_update",
        graph_id=event["graph_id"],
        attempt=0,
        scheduled_at=at,
        fresh=False,
        payload=payload,
    )


def update_ended(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.thread_change(event["thread_id"]).updated_at = at
    _unqueue(rows, event["job_id"])


def _set_task_errors(rows: ProjectionBatch, event: dict[str, Any]) -> None:
    reason, error = event.get("cancel_reason"), event.get("tasks_error")
    if reason is not None or error is not None:
        reference = None if error is None else text_reference(error)
        rows.ends.append((event["run_id"], event["thread_id"], reason, reference, None))


def _set_status(rows: ProjectionBatch, event: dict[str, Any], at: datetime, status: str) -> None:
    run = rows.run_change(event["run_id"], event["thread_id"])
    if run.status not in FINAL:
        run.status = status
        run.updated_at = at


def _end(rows: ProjectionBatch, event: dict[str, Any], at: datetime, status: str) -> None:
    _set_status(rows, event, at, status)
    run = rows.run_change(event["run_id"], event["thread_id"])
    if run.status == status:
        run.error = event.get("error")
    run.frames = event.get("frames", 0)
    _unqueue(rows, event["run_id"])


def _remove(rows: ProjectionBatch, event: dict[str, Any], at: datetime, stop: str) -> None:
    run_id, thread_id = event["run_id"], event["thread_id"]
    stopping = stop if event.get("stopping") else None
    rows.deleted_runs[run_id] = (thread_id, at, stopping)
    if stopping:
        rows.stops[run_id] = (stop, None)


def _cancel(rows: ProjectionBatch, run_id: str, action: str, reason: str | None) -> None:
    if (queued := rows.queued.get(run_id)) is not None:
        queued.cancel = action
    else:
        rows.cancels[run_id] = action
    rows.stops[run_id] = (action, reason)


def _unqueue(rows: ProjectionBatch, run_id: str) -> None:
    rows.queued.pop(run_id, None)
    rows.cancels.pop(run_id, None)
    rows.unqueued.add(run_id)


def _remove_timer(rows: ProjectionBatch, run_id: str) -> None:
    rows.timers.pop(f"due:{run_id}", None)
    rows.removed_timers.add(f"due:{run_id}")


# Their effect depends on the rows that are in the tables.
ENDS = frozenset({"run.interrupted", "run.stopped", "run.failed"})


def changes_tasks(event: dict[str, Any]) -> bool:
    """Whether one of `ENDS` does more than set the run's status: `project_ends` then writes the tasks' errors."""
    return event["type"] == "run.stopped" or "cancel_reason" in event or "tasks_error" in event


# Runs or checkpoints of a thread are deleted: what the batch did to that thread before must be in the tables first.
DELETIONS = frozenset({"run.rolled_back", "run.deleted", "checkpoints.deleted", "thread.pruned"})

HANDLERS = {
    "run.created": created,
    "run.ready": ready,
    "run.scheduled": scheduled,
    "run.started": started,
    "run.succeeded": succeeded,
    "run.failed": failed,
    "run.timed_out": timed_out,
    "run.interrupted": interrupted,
    "run.rolled_back": rolled_back,
    "run.deleted": deleted,
    "run.stopped": stopped,
    "run.released": released,
    "run.lease_expired": lease_expired,
    "state.update_requested": update_requested,
    "state.updated": update_ended,
    "state.update_failed": update_ended,
}
