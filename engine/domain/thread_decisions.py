"""What a thread answers to each command: state and command in, events out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from threadlog.engine.domain.attempt_decisions import events_of_items, expire_lease, report_run
from threadlog.engine.domain.cancelling import is_interrupt, reason_of, stopping
from threadlog.engine.domain.commands import (
    CancelRun,
    Command,
    CreateRun,
    CreateThread,
    DeleteRun,
    DeleteThread,
    ExpireLease,
    ExpireThread,
    ImportCheckpoints,
    PruneThread,
    ReportRun,
    ReportWebhook,
    RunDue,
    UpdateState,
    UpdateThread,
)
from threadlog.engine.domain.events import (
    CheckpointSaved,
    CommandRejected,
    CommandRepeated,
    Event,
    RunCreated,
    RunDeleted,
    RunInterrupted,
    RunReady,
    RunRefused,
    RunRolledBack,
    StateUpdateRequested,
    ThreadCreated,
    ThreadDeleted,
    ThreadExpired,
    ThreadPruned,
    ThreadStatusChanged,
    ThreadUpdated,
)
from threadlog.engine.domain.expiry import is_over
from threadlog.engine.domain.priority import priority_of
from threadlog.engine.domain.thread import QueuedRun, Thread, scheduled, settle, shortened
from threadlog.engine.domain.webhooks import THREAD_DELETED, given_up, report_webhook
from threadlog.engine.domain.wire import check_fields

BUSY = "Thread is already running a task. Wait for it to finish or choose a different multitask strategy."
BUSY_UPDATE = "Thread is already running a task. Wait for it to finish or cancel it first."


def decide(s: Thread, command: Command, *, cmd_id: str, at: str) -> list[Event]:
    """The events of one command. `at`: the command's time, ISO-8601 UTC.

    Raises ValueError or KeyError when a report's items are malformed.
    """
    if cmd_id in s.recent:
        return [CommandRepeated()]
    return _DECISIONS[type(command)](s, command, at)


def _rejected(code: Literal["not_found", "conflict", "invalid"], detail: str) -> list[Event]:
    return [CommandRejected(code=code, detail=detail)]


def _thread_unknown(s: Thread) -> list[Event]:
    return _rejected("not_found", f"Thread with ID {s.thread_id} not found")


# --- threads ---------------------------------------------------------------------------------------------------------


def _create_thread(s: Thread, c: CreateThread, at: str) -> list[Event]:
    if s.exists:
        if c.if_exists == "do_nothing":
            return []
        return _rejected("conflict", f"Thread with ID {s.thread_id} already exists")
    return [
        ThreadCreated(
            thread_id=s.thread_id,
            metadata=c.metadata,
            ttl=c.ttl,
            copied_from=c.copied_from,
            status=c.status,
            interrupts=c.interrupts,
            config=c.config,
            error=shortened(c.error) if c.status == "error" or is_interrupt(c.error) else None,
        )
    ]


def _update_thread(s: Thread, c: UpdateThread, at: str) -> list[Event]:
    if not s.exists:
        return _thread_unknown(s)
    return [ThreadUpdated(thread_id=s.thread_id, metadata=c.metadata, ttl=c.ttl)]


def _delete_thread(s: Thread, c: DeleteThread, at: str) -> list[Event]:
    if not s.exists:
        return _thread_unknown(s)
    return [*given_up(s, THREAD_DELETED), ThreadDeleted(thread_id=s.thread_id)]


def _prune_thread(s: Thread, c: PruneThread, at: str) -> list[Event]:
    if not s.exists:
        return _thread_unknown(s)
    if s.slot is not None or s.queue:
        return _rejected("conflict", BUSY_UPDATE)
    return [ThreadPruned(thread_id=s.thread_id)]


def _expire_thread(s: Thread, c: ExpireThread, at: str) -> list[Event]:
    if not s.exists:
        return _thread_unknown(s)
    if s.slot is not None or s.queue:
        return _rejected("conflict", BUSY_UPDATE)
    if s.ttl is None or s.idle_since is None or not is_over(s.ttl, s.idle_since, at):
        return _rejected("conflict", f"Thread with ID {s.thread_id} has not expired")
    expired = ThreadExpired(thread_id=s.thread_id, ttl=s.ttl.wire)
    if s.ttl.strategy == "delete":
        return [expired, ThreadDeleted(thread_id=s.thread_id)]
    return [ThreadPruned(thread_id=s.thread_id), expired]


def _import_checkpoints(s: Thread, c: ImportCheckpoints, at: str) -> list[Event]:
    if not s.exists:
        return _thread_unknown(s)
    if s.slot is not None:
        return _rejected("conflict", BUSY_UPDATE)
    return [_with_its_run(event) for event in events_of_items(s, None, c.items)]


def _with_its_run(event: Event) -> Event:
    """An imported checkpoint is of the run its metadata names."""
    if not isinstance(event, CheckpointSaved) or not isinstance(run_id := event.metadata.get("run_id"), str):
        return event
    try:
        check_fields(CheckpointSaved, {"run_id": run_id})
    except ValueError:
        return event
    return replace(event, run_id=run_id)


# --- runs: asked for -------------------------------------------------------------------------------------------------


def _create_run(s: Thread, c: CreateRun, at: str) -> list[Event]:
    if c.run_id in s.runs or s.waiting(c.run_id) or (s.slot is not None and s.slot.run_id == c.run_id):
        return [CommandRepeated()]
    if (run := s.cron_run(c.cron_id, c.cron_due_at)) is not None:
        if run.refusal is None or run.due_at != c.cron_due_at:
            return [CommandRepeated()]
        return [CommandRejected(code=run.refusal[0], detail=run.refusal[1])]  # type: ignore[arg-type]
    events: list[Event] = []
    if not s.exists:
        if c.create_thread is None:
            return _run_rejected(c, "not_found", "Thread or assistant not found.")
        events.append(ThreadCreated(thread_id=s.thread_id, metadata=c.create_thread, ttl=c.thread_ttl))
    elif c.new_thread:
        return _run_rejected(c, "not_found", "Thread or assistant not found.")
    if s.busy:
        if c.multitask_strategy == "reject":
            return _run_rejected(c, "conflict", BUSY)
        if c.multitask_strategy != "enqueue":
            events.extend(_superseded(s, c.multitask_strategy, by=c.run_id))
    priority = c.priority if s.priority is None else None
    events.append(
        RunCreated(
            thread_id=s.thread_id,
            run_id=c.run_id,
            graph_id=c.graph_id,
            run=c.run,
            multitask_strategy=c.multitask_strategy,
            due_at=c.due_at,
            thread_metadata=c.thread_metadata,
            thread_config=c.thread_config,
            temporary=c.temporary,
            stream_from=c.stream_from,
            priority=priority,
            cron_id=c.cron_id,
            cron_due_at=c.cron_due_at,
        )
    )
    # A free slot means that nothing else is ready: what is left in the queue waits for its time.
    if s.slot is None and c.due_at is None:
        s_then = s if priority is None else s._replace(priority=priority_of(priority))
        events.append(scheduled(s_then, QueuedRun(run_id=c.run_id, due=at, cron=c.cron_id is not None)))
    if not s.busy:
        events.append(ThreadStatusChanged(thread_id=s.thread_id, status="busy", error=s.error))
    return events


def _run_rejected(c: CreateRun, code: Literal["not_found", "conflict"], detail: str) -> list[Event]:
    """A rejection; of a cron's run it is remembered, as its sender repeats itself until it knows what became of it."""
    if c.cron_id is None or c.cron_due_at is None:
        return _rejected(code, detail)
    return [
        RunRefused(
            thread_id=c.thread_id, run_id=c.run_id, cron_id=c.cron_id, cron_due_at=c.cron_due_at, code=code,
            detail=detail,
        )
    ]  # fmt: skip


def _superseded(s: Thread, strategy: Literal["interrupt", "rollback"], *, by: str) -> list[Event]:
    """The end of every run in flight. A stopping one has had it, and the job of a state update is left to finish."""
    why = f"superseded by run {by} (multitask_strategy={strategy})"
    events: list[Event] = []
    slot = s.run_in_slot
    if slot is not None and slot.stopping is None:
        events.extend(stopping(s, slot.run_id, strategy, "superseded", why))
    kind = RunInterrupted if strategy == "interrupt" else RunRolledBack
    for w in s.queue:
        if w.kind == "run":
            events.append(kind(thread_id=s.thread_id, run_id=w.run_id, reason="superseded", cancel_reason=why))
    return events


def _run_due(s: Thread, c: RunDue, at: str) -> list[Event]:
    w = s.waiting(c.run_id)
    if w is None or w.ready:
        return []  # cancelled, deleted, superseded, or due already
    if s.slot is None:
        return [scheduled(s, w)]
    return [RunReady(thread_id=s.thread_id, run_id=c.run_id)]


def _cancel_run(s: Thread, c: CancelRun, at: str) -> list[Event]:
    why = reason_of(c)
    slot = s.run_in_slot
    if slot is not None and slot.run_id == c.run_id and slot.stopping is None:
        return stopping(s, c.run_id, c.action, "cancelled", why)
    w = s.waiting(c.run_id)
    if w is not None and w.kind == "run":
        kind = RunInterrupted if c.action == "interrupt" else RunRolledBack
        return [kind(thread_id=s.thread_id, run_id=c.run_id, cancel_reason=why), *_without(s, w)]
    return _rejected("not_found", "No matching runs to cancel: the run has ended or does not exist.")


def _delete_run(s: Thread, c: DeleteRun, at: str) -> list[Event]:
    if not s.exists:
        return _thread_unknown(s)
    slot = s.run_in_slot
    if slot is not None and slot.run_id == c.run_id:
        return [RunDeleted(thread_id=s.thread_id, run_id=c.run_id, stopping=True)]
    w = s.waiting(c.run_id)
    events: list[Event] = [RunDeleted(thread_id=s.thread_id, run_id=c.run_id)]
    return events if w is None or w.kind != "run" else [*events, *_without(s, w)]


def _without(s: Thread, w: QueuedRun) -> list[Event]:
    """What follows when a run is gone that never had the slot: the thread is what it was before, if nothing is left."""
    rest = [q for q in s.queue if q is not w]
    if s.slot is not None or rest:
        # Without a run left, a state update in the slot does not show: the thread is not busy any more.
        if s.run_in_slot is None and not any(q.kind == "run" for q in rest):
            return [ThreadStatusChanged(thread_id=s.thread_id, status=s.status, error=s.error)]
        return []
    return settle(s, rest, status=s.status, interrupts=None, error=s.error, temporary=w.temporary)


def _update_state(s: Thread, c: UpdateState, at: str) -> list[Event]:
    if c.job_id in s.runs or s.waiting(c.job_id):
        return [CommandRepeated()]
    if not s.exists:
        return _thread_unknown(s)
    slot = s.run_in_slot
    # A run that has been cancelled is no reason to refuse: the update waits until its executor has let go.
    if (slot is not None and slot.stopping is None) or any(w.kind == "run" for w in s.queue):
        return _rejected("conflict", BUSY_UPDATE)
    events: list[Event] = [
        StateUpdateRequested(
            thread_id=s.thread_id,
            job_id=c.job_id,
            graph_id=c.graph_id,
            supersteps=c.supersteps,
            checkpoint=c.checkpoint,
            config=c.config,
            metadata=c.metadata,
        )
    ]
    if s.slot is None:
        events.append(scheduled(s, QueuedRun(run_id=c.job_id, due=at, kind="state_update")))
    return events


_DECISIONS: dict[type[Command], Callable[[Thread, Any, str], list[Event]]] = {
    CreateThread: _create_thread,
    UpdateThread: _update_thread,
    DeleteThread: _delete_thread,
    ImportCheckpoints: _import_checkpoints,
    PruneThread: _prune_thread,
    ExpireThread: _expire_thread,
    CreateRun: _create_run,
    CancelRun: _cancel_run,
    DeleteRun: _delete_run,
    RunDue: _run_due,
    ReportRun: report_run,
    ExpireLease: expire_lease,
    UpdateState: _update_state,
    ReportWebhook: report_webhook,
}
