"""Events of runs and their attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from threadlog.engine.domain.events.base import Event, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCreated(Event):
    """A run exists and is `pending`. `thread_metadata` is merged into the thread's, `thread_config` replaces its;
    `priority`: its thread's settings from now on. `cron_id`, `cron_due_at`: the cron that fired, and its time."""

    type: ClassVar[str] = "run.created"
    thread_id: str
    run_id: str
    graph_id: str
    run: JsonObject
    multitask_strategy: str = "enqueue"
    due_at: str | None = None
    thread_metadata: JsonObject = field(default_factory=dict)
    thread_config: JsonObject | None = None
    temporary: bool = False
    stream_from: int = 0
    priority: JsonObject | None = None
    cron_id: str | None = None
    cron_due_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRefused(Event):
    """The run of a cron was refused, once and for all; `code` and `detail` as in `command.rejected`."""

    type: ClassVar[str] = "run.refused"
    thread_id: str
    run_id: str
    cron_id: str
    cron_due_at: str
    code: Literal["not_found", "conflict", "invalid"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReady(Event):
    """A delayed run's time has come while the thread's slot is taken: it waits for its turn like any other."""

    type: ClassVar[str] = "run.ready"
    thread_id: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScheduled(Event):
    """The run's turn has come: executors may claim this attempt. The only source of attempt numbers.

    `fresh`: the thread has no checkpoint yet, so there is none to load. `priority`, `fairness_group`: those of the
    thread, or of crons if a cron asked for the run and the thread has none.
    """

    type: ClassVar[str] = "run.scheduled"
    thread_id: str
    run_id: str
    attempt: int
    kind: Literal["run", "state_update"] = "run"
    fresh: bool = False
    priority: int = 0
    fairness_group: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    type: ClassVar[str] = "run.started"
    thread_id: str
    run_id: str
    attempt: int
    executor: str
    at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSucceeded(Event):
    """Ended by itself or at an interrupt (then `next` is not empty).

    `usage`, here and wherever an attempt ends: `{model: {calls, input_tokens, output_tokens, total_tokens,
    cache_read_tokens, reasoning_tokens}}`, a count that is 0 left out. Of this attempt: a run that was handed on, or
    lost its executor, has the others in the ends of these; what an executor had counted when it was lost is lost too.
    """

    type: ClassVar[str] = "run.succeeded"
    thread_id: str
    run_id: str
    attempt: int
    next: list[str] = field(default_factory=list)
    interrupts: JsonObject = field(default_factory=dict)
    frames: int = 0
    usage: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """The graph raised, its report could not be taken, or no attempt is left. `error`: {error: class name, message}.

    `tasks_error`: as in `RunInterrupted`; only where no executor is left to report it.
    """

    type: ClassVar[str] = "run.failed"
    thread_id: str
    run_id: str
    attempt: int
    error: JsonObject
    frames: int = 0
    usage: JsonObject = field(default_factory=dict)
    tasks_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut(Event):
    type: ClassVar[str] = "run.timed_out"
    thread_id: str
    run_id: str
    attempt: int
    error: JsonObject
    frames: int = 0
    usage: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInterrupted(Event):
    """Cancelled or superseded: the status is final at once, also while its executor still has to stop.

    `cancel_reason`: who wanted it, why, in words. `tasks_error`: the error (the `repr` of an exception) that the
    unfinished tasks of the thread's newest checkpoint have from now on, if this run has worked on it.
    """

    type: ClassVar[str] = "run.interrupted"
    thread_id: str
    run_id: str
    reason: Literal["cancelled", "superseded"] = "cancelled"
    stopping: bool = False
    cancel_reason: str | None = None
    tasks_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRolledBack(Event):
    """Cancelled with rollback: the run and the checkpoints it wrote are gone. `cancel_reason`: who wanted it, why."""

    type: ClassVar[str] = "run.rolled_back"
    thread_id: str
    run_id: str
    reason: Literal["cancelled", "superseded"] = "cancelled"
    stopping: bool = False
    cancel_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDeleted(Event):
    type: ClassVar[str] = "run.deleted"
    thread_id: str
    run_id: str
    stopping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped(Event):
    """The executor of a cancelled, rolled back or deleted run has let go: the thread's slot is free.

    A task that finished, or asked a question, before it stopped has no `tasks_error` any more.
    """

    type: ClassVar[str] = "run.stopped"
    thread_id: str
    run_id: str
    attempt: int
    frames: int = 0
    usage: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReleased(Event):
    """A draining executor handed the run back; the next attempt follows."""

    type: ClassVar[str] = "run.released"
    thread_id: str
    run_id: str
    attempt: int
    frames: int = 0
    usage: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLeaseExpired(Event):
    """The executor of this attempt is gone; the next attempt or the failure follows."""

    type: ClassVar[str] = "run.lease_expired"
    thread_id: str
    run_id: str
    attempt: int
    executor: str


RUN_EVENTS: tuple[type[Event], ...] = (
    RunCreated,
    RunRefused,
    RunReady,
    RunScheduled,
    RunStarted,
    RunSucceeded,
    RunFailed,
    RunTimedOut,
    RunInterrupted,
    RunRolledBack,
    RunDeleted,
    RunStopped,
    RunReleased,
    RunLeaseExpired,
)
