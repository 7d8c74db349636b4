"""What a thread answers to what becomes of its attempts: reports of executors, and lost leases. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from threadlog.engine.domain.cancelling import USER_INTERRUPT, is_interrupt, stopped
from threadlog.engine.domain.commands import (
    ExpireLease,
    JsonObject,
    ReportRun,
)
from threadlog.engine.domain.events import (
    CheckpointSaved,
    CheckpointsDeleted,
    Event,
    ReportFenced,
    RunFailed,
    RunInterrupted,
    RunLeaseExpired,
    RunReleased,
    RunScheduled,
    RunStarted,
    RunStopped,
    RunSucceeded,
    RunTimedOut,
    StateMigrated,
    StateUpdated,
    StateUpdateFailed,
    TasksPlanned,
    ThreadPruned,
    WritesSaved,
)
from threadlog.engine.domain.limits import INDEXED_BYTES
from threadlog.engine.domain.thread import Slot, Thread, attempt_of, scheduled, settle, shortened
from threadlog.engine.domain.usage import usage_of
from threadlog.engine.domain.webhooks import requested
from threadlog.engine.domain.wire import check_fields


def report_run(s: Thread, c: ReportRun, at: str) -> list[Event]:
    slot = s.slot
    if slot is None or slot.run_id != c.run_id or slot.attempt != c.attempt:
        return [ReportFenced(run_id=c.run_id, attempt=c.attempt)]
    events: list[Event] = []
    if c.started is not None and slot.kind == "run" and slot.stopping is None:
        events.append(
            RunStarted(
                thread_id=s.thread_id,
                run_id=c.run_id,
                attempt=c.attempt,
                executor=str(c.started.get("executor", "")),
                at=c.started.get("at"),
            )
        )
        if slot.webhook is not None and isinstance(started := c.started.get("at"), str):
            slot = slot._replace(started=started)
    if slot.stopping in (None, "interrupt"):
        try:
            saved = events_of_items(s, c.run_id if slot.kind == "run" else None, c.items)
        except (ValueError, TypeError, KeyError, AttributeError) as invalid:
            # Its executor has said all it has to say, and nobody else would end the run.
            return [*events, *_ended(s, slot, _invalid(str(invalid)))]
        if saved:
            events.extend(saved)
            s, slot = _with_progress(s, slot, saved)
    if c.outcome is not None:
        events.extend(_ended(s, slot, c.outcome))
    return events


def end_of(s: Thread, report: Mapping[str, Any], reason: str) -> list[Event] | None:
    """The end of the attempt in flight whose report can't be taken; None when it is not this report's."""
    slot = s.slot
    if slot is None or slot.run_id != report.get("run_id") or slot.attempt != report.get("attempt"):
        return None
    return _ended(s, slot, _invalid(reason))


def _invalid(reason: str) -> JsonObject:
    return {"status": "error", "error": {"error": "InvalidReport", "message": reason}, "frames": 0}


def _with_progress(s: Thread, slot: Slot, saved: list[Event]) -> tuple[Thread, Slot]:
    """State and slot as this report's own items leave them, for what is decided about its outcome."""
    planned = slot.planned
    for event in saved:
        if isinstance(event, TasksPlanned) and not event.ns:
            planned = bool(event.tasks)
    if not s.checkpoints and any(isinstance(event, CheckpointSaved) for event in saved):
        s = s._replace(checkpoints=True)
    return s, slot if planned is slot.planned else slot._replace(planned=planned)


_ITEMS: dict[str, tuple[type[CheckpointSaved | WritesSaved | TasksPlanned | StateMigrated], tuple[str, ...]]] = {
    "checkpoint": (
        CheckpointSaved, ("ns", "checkpoint_id", "parent_id", "metadata", "checkpoint", "channels", "blobs")
    ),
    "writes": (WritesSaved, ("ns", "checkpoint_id", "task_id", "task_path", "writes", "blobs")),
    "tasks": (TasksPlanned, ("ns", "checkpoint_id", "tasks", "out", "shown", "blobs")),
    "migrated": (StateMigrated, ("ns", "checkpoint_id", "graph_id", "from_version", "to_version")),
}  # fmt: skip


# A row of an index in Postgres has 2704 bytes at most, of which 100 are needed otherwise, and a character has up to 4.
_KEY_BYTES = INDEXED_BYTES
_HASH = 64  # characters; those of `engine.stored.value_refs` have 22


def events_of_items(s: Thread, run_id: str | None, items: list[JsonObject]) -> list[Event]:
    """The events of a report's items; `run_id` is None for what no run wrote (a state update, a copy)."""
    events: list[Event] = []
    for item in items:
        kind = item.get("kind")
        known = _ITEMS.get(kind) if isinstance(kind, str) else None
        event: Event
        if known is not None:
            kept: dict[str, Any] = {name: item[name] for name in known[1] if name in item}
            check_fields(known[0], kept)
            if sum(len(kept.get(name, "")) * 4 for name in ("ns", "task_id", "checkpoint_id")) > _KEY_BYTES:
                raise ValueError(f"run.report: a subgraph's namespace is longer than {_KEY_BYTES // 4} characters")
            _check_values(kept)
            event = known[0](thread_id=s.thread_id, run_id=run_id, **kept)
        elif kind == "delete" and item.get("what") == "run":
            check_fields(CheckpointsDeleted, {"run_ids": item["run_ids"]})
            event = CheckpointsDeleted(thread_id=s.thread_id, run_ids=item["run_ids"])
        elif kind == "delete" and item.get("what") == "prune":
            event = ThreadPruned(thread_id=s.thread_id)
        else:
            raise ValueError(f"run.report: an item of unknown kind {kind!r}")
        events.append(event)
    return events


def _check_values(item: JsonObject) -> None:
    """Raise ValueError when a new value of an item, or a write, is not what the read models can store."""
    for blob in item.get("blobs", ()):
        name, stored = blob["h"], blob.get("d", blob.get("b", blob.get("at")))
        if type(name) is not str or len(name) > _HASH or type(blob["t"]) is not str or type(stored) not in (str, int):
            raise ValueError("run.report: a value of an item has no name, type or data")
    for idx, channel, _ in item.get("writes", ()):
        if type(idx) is not int or not -(2**31) <= idx < 2**31 or type(channel) is not str:
            raise ValueError("run.report: a write has no number or channel")


def _ended(s: Thread, slot: Slot, outcome: JsonObject) -> list[Event]:
    """The events of an attempt's outcome, and what follows on the thread."""
    status = outcome.get("status")
    if status not in ("success", "error", "timeout", "interrupted", "released"):
        raise ValueError(f"run.report: an outcome of unknown status {status!r}")
    if slot.kind == "state_update":
        return _update_ended(s, slot, outcome)
    run: dict[str, Any] = {"thread_id": s.thread_id, "run_id": slot.run_id}
    attempt: dict[str, Any] = {**run, "attempt": slot.attempt, "frames": _frames(outcome), "usage": usage_of(outcome)}
    next_, interrupts = _left(outcome)
    if slot.stopping is not None:
        let_go = RunStopped(**attempt)
        return [let_go, *_webhook_of_stopped(s, slot), *stopped(s, slot, bool(next_ or interrupts), interrupts)]
    if status == "released":
        return [RunReleased(**attempt), _again(s, slot)]
    settled: Literal["idle", "interrupted", "error"] = "interrupted" if next_ or interrupts else "idle"
    error: JsonObject | None = None
    events: list[Event]
    if status == "success":
        events = [RunSucceeded(**attempt, next=next_, interrupts=interrupts)]
    elif status == "interrupted":
        # The executor stopped for a reason of its own: what it says is final all the same.
        events = [RunInterrupted(**run, stopping=True), RunStopped(**attempt)]
    else:
        settled, error = "error", _error(outcome)
        kind = RunFailed if status == "error" else RunTimedOut
        events = [kind(**attempt, error=error)]
    events += requested(s, slot, status, error)
    if status == "error" and outcome.get("refused") is True:
        return [*events, *settle(s, s.queue, status=s.status, interrupts=None, error=s.error, temporary=slot.temporary)]
    follow = settle(s, s.queue, status=settled, interrupts=interrupts, error=shortened(error), temporary=slot.temporary)
    return [*events, *follow]


def _webhook_of_stopped(s: Thread, slot: Slot) -> list[Event]:
    """A run that was cancelled has ended for its webhook when its values are final; one rolled back has none left."""
    if slot.stopping != "interrupt":
        return []
    error = s.error if is_interrupt(s.error) else {"error": USER_INTERRUPT, "message": ""}
    return requested(s, slot, "interrupted", error)


def _update_ended(s: Thread, slot: Slot, outcome: JsonObject) -> list[Event]:
    status = outcome["status"]
    if status == "released":
        released = RunReleased(thread_id=s.thread_id, run_id=slot.run_id, attempt=slot.attempt)
        return [released, _again(s, slot)]
    if status != "success":
        return _update_failed(s, slot, _error(outcome))
    next_, interrupts = _left(outcome)
    result = outcome.get("result") or {}
    check_fields(StateUpdated, {"result": result})
    updated = StateUpdated(thread_id=s.thread_id, job_id=slot.run_id, result=result)
    settled: Literal["idle", "interrupted"] = "interrupted" if next_ or interrupts else "idle"
    return [updated, *settle(s, s.queue, status=settled, interrupts=interrupts, error=None, temporary=False)]


def _update_failed(s: Thread, slot: Slot, error: JsonObject) -> list[Event]:
    """A failed state update leaves the thread as it was; only the next in the queue is to be scheduled."""
    failed = StateUpdateFailed(thread_id=s.thread_id, job_id=slot.run_id, error=error)
    following = next((w for w in s.queue if w.ready), None)
    return [failed] if following is None else [failed, scheduled(s, following)]


def expire_lease(s: Thread, c: ExpireLease, at: str) -> list[Event]:
    slot = s.slot
    if slot is None or slot.run_id != c.run_id or slot.attempt != c.attempt:
        return [ReportFenced(run_id=c.run_id, attempt=c.attempt)]
    if slot.stopping is not None:
        let_go = RunStopped(thread_id=s.thread_id, run_id=slot.run_id, attempt=slot.attempt)
        return [let_go, *_webhook_of_stopped(s, slot), *stopped(s, slot, slot.planned, {})]
    lost = RunLeaseExpired(thread_id=s.thread_id, run_id=slot.run_id, attempt=slot.attempt, executor=c.executor)
    if slot.failures + 1 < c.max_attempts:
        return [lost, _again(s, slot)]
    error = {
        "error": "RunAttemptsExhausted",
        "message": f"The executor was lost in each of {slot.failures + 1} attempts; the run is not tried again.",
    }
    if slot.kind == "state_update":
        return [lost, *_update_failed(s, slot, error)]
    failed = RunFailed(
        thread_id=s.thread_id, run_id=slot.run_id, attempt=slot.attempt, error=error,
        tasks_error=f"{error['error']}()",
    )  # fmt: skip
    told = requested(s, slot, "error", error)
    after = settle(s, s.queue, status="error", interrupts=None, error=error, temporary=slot.temporary)
    return [lost, failed, *told, *after]


def _again(s: Thread, slot: Slot) -> RunScheduled:
    return attempt_of(s, slot, slot.attempt + 1)


def _error(outcome: JsonObject) -> JsonObject:
    error = outcome.get("error")
    if not isinstance(error, dict):
        return {"error": "Error", "message": "" if error is None else str(error)}
    return error


def _left(outcome: JsonObject) -> tuple[list[str], JsonObject]:
    """What the attempt left to do: `next` and `interrupts`."""
    next_: list[str] = outcome.get("next") or []
    interrupts: JsonObject = outcome.get("interrupts") or {}
    check_fields(RunSucceeded, {"next": next_, "interrupts": interrupts})
    return next_, interrupts


def _frames(outcome: JsonObject) -> int:
    frames: int = outcome.get("frames") or 0
    check_fields(RunSucceeded, {"frames": frames})
    return frames
