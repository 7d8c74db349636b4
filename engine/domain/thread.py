"""The thread aggregate: what is remembered of a thread and its runs, and how each event changes that.

The states are named tuples: immutable, and changed in a third of the time a frozen dataclass takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from threadlog.engine.domain.events import (
    CheckpointSaved,
    Event,
    JsonObject,
    RunCreated,
    RunDeleted,
    RunFailed,
    RunInterrupted,
    RunLeaseExpired,
    RunReady,
    RunRefused,
    RunRolledBack,
    RunScheduled,
    RunStarted,
    RunStopped,
    RunSucceeded,
    RunTimedOut,
    StateUpdated,
    StateUpdateFailed,
    StateUpdateRequested,
    TasksPlanned,
    ThreadCreated,
    ThreadDeleted,
    ThreadExpired,
    ThreadStatusChanged,
    ThreadUpdated,
    WebhookDead,
    WebhookDelivered,
    WebhookFailed,
    WebhookRequested,
)
from threadlog.engine.domain.expiry import Ttl, ttl_of
from threadlog.engine.domain.priority import CRON_GROUP, Priority, priority_of
from threadlog.engine.domain.text import SEALED

Kind = Literal["run", "state_update"]
Stopping = Literal["interrupt", "rollback", "delete"]

_NO_PRIORITY, _OF_CRON = Priority(), Priority(fairness_group=CRON_GROUP)

REMEMBERED_RUNS = 8
"""Ids of the runs and jobs created last: by them a retry is recognised after its command id is forgotten."""

REMEMBERED_CRONS = 32
"""Crons whose last firing a thread remembers: a run of it is not created again however many others follow."""

ERROR_LIMIT = 8192
"""Characters of an error message kept on the thread; the run keeps all of it."""


class Slot(NamedTuple):
    """The attempt that holds the thread.

    `failures`: attempts lost with their executor. `stopping`: the run has ended for its clients, its executor has not
    let go yet.
    `planned`: whether the newest superstep this run reported leaves tasks to do (None: it has reported none).
    `webhook`: where its end is to be POSTed; `started`: when it began, kept for that alone. `cron`: a cron asked for
    it.
    """

    run_id: str
    attempt: int
    kind: Kind = "run"
    failures: int = 0
    stopping: Stopping | None = None
    temporary: bool = False
    planned: bool | None = None
    webhook: str | None = None
    started: str | None = None
    cron: bool = False


class QueuedRun(NamedTuple):
    """A run, or the job of a state update, before its first attempt. `due`: ISO time, the order in the queue.

    `ready`: only the slot is waited for; otherwise its time (`due`) has not come. `cron`: a cron asked for it.
    """

    run_id: str
    due: str
    ready: bool = True
    kind: Kind = "run"
    temporary: bool = False
    webhook: str | None = None
    cron: bool = False


class PendingWebhook(NamedTuple):
    """The webhook of a run that has ended; `attempt` is the next one."""

    run_id: str
    attempt: int = 1


class CronRun(NamedTuple):
    """The last run that a cron asked for: the cron's time, and `(code, detail)` if it was refused."""

    cron_id: str
    due_at: str
    refusal: tuple[str, str] | None = None


class Thread(NamedTuple):
    """A thread's decider state. Ended runs are forgotten: their status is in the read models.

    `status`, `error`: what the thread is once nothing is in flight. `deleted`: a tombstone, kept for `recent` and
    `runs`. `queue`: in the order in which runs get their turn. `recent`: ids of the last commands that
    changed something. `webhooks`: in the order in which their runs ended; those of a deleted temporary thread stay.
    changed something. `ttl`, `idle_since`: of a thread that expires, and since when its clock runs (ISO; None: it
    stands, as the thread has expired and was kept). `priority`: of its runs, once a run has set it.
    `crons`: of those that fired last.
    """

    thread_id: str
    exists: bool = False
    deleted: bool = False
    status: Literal["idle", "interrupted", "error"] = "idle"
    error: JsonObject | None = None
    slot: Slot | None = None
    queue: tuple[QueuedRun, ...] = ()
    checkpoints: bool = False
    recent: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    webhooks: tuple[PendingWebhook, ...] = ()
    ttl: Ttl | None = None
    idle_since: str | None = None
    priority: Priority | None = None
    crons: tuple[CronRun, ...] = ()

    @property
    def run_in_slot(self) -> Slot | None:
        """The slot when a run holds it, stopping or not; None also for a state update."""
        return self.slot if self.slot is not None and self.slot.kind == "run" else None

    @property
    def busy(self) -> bool:
        """What clients see: a run holds the slot or waits, be it for a later time."""
        return self.run_in_slot is not None or any(w.kind == "run" for w in self.queue)

    def cron_run(self, cron_id: str | None, due_at: str | None) -> CronRun | None:
        """The last run of this cron if it is of that time or of a later one: crons ask for theirs in order."""
        if cron_id is None or due_at is None:
            return None
        return next((run for run in self.crons if run.cron_id == cron_id and run.due_at >= due_at), None)

    def waiting(self, run_id: str) -> QueuedRun | None:
        for w in self.queue:
            if w.run_id == run_id:
                return w
        return None


def initial(key: str) -> Thread:
    return Thread(thread_id=key)


# --- evolve ----------------------------------------------------------------------------------------------------------


def evolve(s: Thread, event: Event, at: str) -> Thread:
    """The state after an event of a record of time `at`. Events that only concern the read models change nothing."""
    step = _STEPS.get(type(event))
    if step is None:
        return s
    s = step(s, event, at)
    if s.ttl is not None and type(event) in _ACTIVITY and (s.idle_since is None or s.idle_since < at):
        return s._replace(idle_since=at)
    return s


def _created(s: Thread, e: ThreadCreated, at: str) -> Thread:
    return Thread(
        thread_id=s.thread_id, exists=True, status=e.status, error=e.error,  # type: ignore[arg-type]
        recent=s.recent, runs=s.runs, webhooks=s.webhooks, ttl=ttl_of(e.ttl), crons=s.crons,
    )  # fmt: skip


def _updated(s: Thread, e: ThreadUpdated, at: str) -> Thread:
    ttl = ttl_of(e.ttl)
    return s if ttl is None else s._replace(ttl=ttl)


def _expired(s: Thread, e: ThreadExpired, at: str) -> Thread:
    return s._replace(idle_since=None)


def _deleted(s: Thread, e: ThreadDeleted, at: str) -> Thread:
    return Thread(thread_id=s.thread_id, deleted=True, recent=s.recent, runs=s.runs, webhooks=s.webhooks, crons=s.crons)


def _status_changed(s: Thread, e: ThreadStatusChanged, at: str) -> Thread:
    settled = e.status if e.status != "busy" else e.settled
    if (settled is None or settled == s.status) and e.error == s.error:
        return s
    return s._replace(status=settled or s.status, error=e.error)  # type: ignore[arg-type]


def _enqueue(s: Thread, w: QueuedRun) -> Thread:
    """Behind everything that is due no later: FIFO by (due time, created)."""
    i = len(s.queue)
    while i and s.queue[i - 1].due > w.due:
        i -= 1
    queue = (*s.queue[:i], w, *s.queue[i:])
    return s._replace(queue=queue, runs=(*s.runs[1 - REMEMBERED_RUNS :], w.run_id))


def _now_or_later(s: Thread, at: str) -> str:
    """`at`, but not before what already waits ready: senders' clocks may differ, the log's order counts."""
    return max((w.due for w in s.queue if w.ready and w.due > at), default=at)


def _run_created(s: Thread, e: RunCreated, at: str) -> Thread:
    if e.cron_id is not None and e.cron_due_at is not None:
        s = _remember(s, CronRun(e.cron_id, e.cron_due_at))
    due = e.due_at if e.due_at is not None else _now_or_later(s, at)
    w = QueuedRun(
        run_id=e.run_id, due=due, ready=e.due_at is None, temporary=e.temporary, webhook=_webhook_of(e.run),
        cron=e.cron_id is not None,
    )  # fmt: skip
    s = _enqueue(s, w)
    priority = priority_of(e.priority)
    return s if priority is None else s._replace(priority=priority)


def _webhook_of(run: JsonObject) -> str | None:
    kwargs = run.get("kwargs")
    webhook = kwargs.get("webhook") if isinstance(kwargs, dict) else None
    return webhook if isinstance(webhook, str) and webhook else None


def _run_refused(s: Thread, e: RunRefused, at: str) -> Thread:
    return _remember(s, CronRun(e.cron_id, e.cron_due_at, (e.code, e.detail)))


def _remember(s: Thread, run: CronRun) -> Thread:
    others = [other for other in s.crons if other.cron_id != run.cron_id]
    return s._replace(crons=(*others[1 - REMEMBERED_CRONS :], run))


def _update_requested(s: Thread, e: StateUpdateRequested, at: str) -> Thread:
    return _enqueue(s, QueuedRun(run_id=e.job_id, due=_now_or_later(s, at), kind="state_update"))


def _ready(s: Thread, e: RunReady, at: str) -> Thread:
    return s._replace(queue=tuple(w._replace(ready=True) if w.run_id == e.run_id else w for w in s.queue))


def _scheduled(s: Thread, e: RunScheduled, at: str) -> Thread:
    if s.slot is not None and s.slot.run_id == e.run_id:
        return s._replace(slot=s.slot._replace(attempt=e.attempt))
    w = s.waiting(e.run_id)
    slot = Slot(
        run_id=e.run_id, attempt=e.attempt, kind=e.kind, temporary=w is not None and w.temporary,
        webhook=None if w is None else w.webhook, cron=w is not None and w.cron,
    )  # fmt: skip
    return s._replace(slot=slot, queue=tuple(q for q in s.queue if q is not w))


def _started(s: Thread, e: RunStarted, at: str) -> Thread:
    if s.slot is None or s.slot.webhook is None:
        return s
    return s._replace(slot=s.slot._replace(started=e.at))


def _free(s: Thread, e: Any, at: str) -> Thread:
    return s._replace(slot=None)


def _ended_early(stopping: Stopping) -> Callable[[Thread, Any, str], Thread]:
    def step(s: Thread, e: RunInterrupted | RunRolledBack | RunDeleted, at: str) -> Thread:
        if e.stopping and s.slot is not None:
            return s._replace(slot=s.slot._replace(stopping=stopping))
        return s._replace(queue=tuple(w for w in s.queue if w.run_id != e.run_id or w.kind != "run"))

    return step


def _lease_expired(s: Thread, e: RunLeaseExpired, at: str) -> Thread:
    return s if s.slot is None else s._replace(slot=s.slot._replace(failures=s.slot.failures + 1))


def _checkpoint(s: Thread, e: CheckpointSaved, at: str) -> Thread:
    return s if s.checkpoints else s._replace(checkpoints=True)


def _planned(s: Thread, e: TasksPlanned, at: str) -> Thread:
    if e.ns or s.slot is None or s.slot.planned is bool(e.tasks):
        return s
    return s._replace(slot=s.slot._replace(planned=bool(e.tasks)))


def _webhook_requested(s: Thread, e: WebhookRequested, at: str) -> Thread:
    if s.slot is not None and s.slot.run_id == e.run_id:  # rolled back: its executor has still to let go
        s = s._replace(slot=s.slot._replace(webhook=None))
    return s._replace(webhooks=(*s.webhooks, PendingWebhook(e.run_id)))


def _webhook_failed(s: Thread, e: WebhookFailed, at: str) -> Thread:
    again = PendingWebhook(e.run_id, e.attempt + 1)
    return s._replace(webhooks=tuple(again if w.run_id == e.run_id else w for w in s.webhooks))


def _webhook_ended(s: Thread, e: WebhookDelivered | WebhookDead, at: str) -> Thread:
    return s._replace(webhooks=tuple(w for w in s.webhooks if w.run_id != e.run_id))


_STEPS: dict[type[Event], Callable[[Thread, Any, str], Thread]] = {
    ThreadCreated: _created,
    ThreadUpdated: _updated,
    ThreadDeleted: _deleted,
    ThreadExpired: _expired,
    ThreadStatusChanged: _status_changed,
    RunCreated: _run_created,
    RunRefused: _run_refused,
    RunReady: _ready,
    RunScheduled: _scheduled,
    RunStarted: _started,
    RunSucceeded: _free,
    RunFailed: _free,
    RunTimedOut: _free,
    RunStopped: _free,
    RunInterrupted: _ended_early("interrupt"),
    RunRolledBack: _ended_early("rollback"),
    RunDeleted: _ended_early("delete"),
    RunLeaseExpired: _lease_expired,
    CheckpointSaved: _checkpoint,
    TasksPlanned: _planned,
    StateUpdateRequested: _update_requested,
    StateUpdated: _free,
    StateUpdateFailed: _free,
    WebhookRequested: _webhook_requested,
    WebhookFailed: _webhook_failed,
    WebhookDelivered: _webhook_ended,
    WebhookDead: _webhook_ended,
}


# What restarts the clock of a thread's ttl: what moves its `updated_at` or `state_updated_at`.
_ACTIVITY = frozenset((
    ThreadCreated, ThreadUpdated, ThreadStatusChanged, RunCreated, CheckpointSaved, StateUpdated, StateUpdateFailed,
))  # fmt: skip


# --- what follows once the slot is free ------------------------------------------------------------------------------


def scheduled(s: Thread, w: QueuedRun) -> RunScheduled:
    return attempt_of(s, w, 1)


def attempt_of(s: Thread, run: QueuedRun | Slot, attempt: int) -> RunScheduled:
    """An attempt for executors to claim, in the thread's place among those that wait."""
    priority, group = s.priority or (_OF_CRON if run.cron else _NO_PRIORITY)
    return RunScheduled(
        thread_id=s.thread_id, run_id=run.run_id, attempt=attempt, kind=run.kind, fresh=not s.checkpoints,
        priority=priority, fairness_group=group,
    )  # fmt: skip


def settle(
    s: Thread,
    queue: Sequence[QueuedRun],
    *,
    status: Literal["idle", "interrupted", "error"],
    interrupts: JsonObject | None,
    error: JsonObject | None,
    temporary: bool,
) -> list[Event]:
    """The events after the slot (or the last waiting run) is gone: `queue` waits, the rest is what the thread is now.

    The next run in the queue gets the slot; with nothing in flight the thread takes its status, a temporary one goes.
    """
    if not queue and temporary:
        return [ThreadDeleted(thread_id=s.thread_id)]
    events: list[Event] = []
    if not any(w.kind == "run" for w in queue):
        changed = ThreadStatusChanged(thread_id=s.thread_id, status=status, interrupts=interrupts, error=error)
        events.append(changed)
    elif not (status == s.status and error == s.error and (interrupts is None or status == "idle")):
        events.append(
            ThreadStatusChanged(
                thread_id=s.thread_id, status="busy", settled=status, interrupts=interrupts, error=error
            )
        )
    following = next((w for w in queue if w.ready), None)
    if following is not None:
        events.append(scheduled(s, following))
    return events


def shortened(error: JsonObject | None) -> JsonObject | None:
    """An error as the thread keeps it: its message at most `ERROR_LIMIT` characters (before it was encrypted)."""
    message = None if error is None else error.get("message")
    if error is None or not isinstance(message, str) or len(message) <= ERROR_LIMIT or message.startswith(SEALED):
        return error
    return {**error, "message": message[:ERROR_LIMIT] + "…"}


# --- stored form -----------------------------------------------------------------------------------------------------


def dump(s: Thread) -> dict[str, Any]:
    """A small JSON object; what equals the initial state is left out."""
    out: dict[str, Any] = {}
    if s.exists:
        out["exists"] = True
    if s.deleted:
        out["deleted"] = True
    if s.status != "idle":
        out["status"] = s.status
    if s.error is not None:
        out["error"] = s.error
    if s.slot is not None:
        out["slot"] = _lean(s.slot, _SLOT)
    if s.queue:
        out["queue"] = [_lean(w, _WAITING) for w in s.queue]
    if s.checkpoints:
        out["checkpoints"] = True
    if s.recent:
        out["recent"] = list(s.recent)
    if s.runs:
        out["runs"] = list(s.runs)
    if s.webhooks:
        out["webhooks"] = [list(w) for w in s.webhooks]
    if s.priority is not None:
        out["priority"] = s.priority.wire
    if s.ttl is not None:
        out["ttl"] = s.ttl.wire
        out["idle_since"] = s.idle_since
    if s.crons:
        out["crons"] = [[run.cron_id, run.due_at, *(run.refusal or ())] for run in s.crons]
    return out


_SLOT: dict[str, Any] = {
    "run_id": ..., "attempt": ..., "kind": "run", "failures": 0, "stopping": None, "temporary": False, "planned": None,
    "webhook": None, "started": None, "cron": False,
}  # fmt: skip
_WAITING: dict[str, Any] = {
    "run_id": ..., "due": ..., "ready": True, "kind": "run", "temporary": False, "webhook": None, "cron": False,
}  # fmt: skip


def _lean(part: Slot | QueuedRun, defaults: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, default in defaults.items() if (v := getattr(part, k)) != default}


def load(key: str, stored: dict[str, Any]) -> Thread:
    slot = stored.get("slot")
    return Thread(
        thread_id=key,
        exists=stored.get("exists", False),
        deleted=stored.get("deleted", False),
        status=stored.get("status", "idle"),
        error=stored.get("error"),
        slot=None if slot is None else Slot(**slot),
        queue=tuple(QueuedRun(**w) for w in stored.get("queue", ())),
        checkpoints=stored.get("checkpoints", False),
        recent=tuple(stored.get("recent", ())),
        runs=tuple(stored.get("runs", ())),
        webhooks=tuple(PendingWebhook(*w) for w in stored.get("webhooks", ())),
        ttl=ttl_of(stored.get("ttl")),
        idle_since=stored.get("idle_since"),
        priority=priority_of(stored.get("priority")),
        crons=tuple(_cron_run(*stored_run) for stored_run in stored.get("crons", ())),
    )


def _cron_run(cron_id: str, due_at: str, code: str | None = None, detail: str = "") -> CronRun:
    return CronRun(cron_id, due_at, None if code is None else (code, detail))
