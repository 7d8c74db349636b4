"""What happened: past tense, immutable, JSON values only. One command is decided into one list of these.

On the wire an event is a flat object `{"type": …, …fields}`; fields that equal their default are left out. The
catalogue with every field's meaning is docs/reference/events.md; after a change:
`python -m tests.domain.write_catalogue`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Json = Any
JsonObject = dict[str, Any]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events; `type` is the name on the wire."""

    type: ClassVar[str] = ""


# --- answers that change nothing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRejected(Event):
    """The command was refused; `code` maps to an HTTP status: not_found 404, conflict 409, invalid 422."""

    type: ClassVar[str] = "command.rejected"
    code: Literal["not_found", "conflict", "invalid"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRepeated(Event):
    """The command's id was seen before (a sender's retry): nothing more happens."""

    type: ClassVar[str] = "command.repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFenced(Event):
    """A report of an attempt that is not, or no longer, the current one: nothing of it counts."""

    type: ClassVar[str] = "report.fenced"
    run_id: str
    attempt: int


# --- thread ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadCreated(Event):
    type: ClassVar[str] = "thread.created"
    thread_id: str
    metadata: JsonObject = field(default_factory=dict)
    ttl: JsonObject | None = None
    copied_from: str | None = None
    status: ThreadStatus = "idle"
    interrupts: JsonObject = field(default_factory=dict)
    config: JsonObject = field(default_factory=dict)
    error: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadUpdated(Event):
    type: ClassVar[str] = "thread.updated"
    thread_id: str
    metadata: JsonObject = field(default_factory=dict)
    ttl: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadDeleted(Event):
    type: ClassVar[str] = "thread.deleted"
    thread_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPruned(Event):
    type: ClassVar[str] = "thread.pruned"
    thread_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStatusChanged(Event):
    """`interrupts`: {leaf task id: [{id, value}]}, replaced when not None; `error`: replaced (None clears it).

    `settled`: only with `busy`, when a run ended and others wait: the status the thread has once nothing is in flight.
    """

    type: ClassVar[str] = "thread.status_changed"
    thread_id: str
    status: ThreadStatus
    interrupts: JsonObject | None = None
    error: JsonObject | None = None
    settled: ThreadStatus | None = None


# --- run -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCreated(Event):
    """A run exists and is `pending`. `thread_metadata` is merged into the thread's, `thread_config` replaces its."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReady(Event):
    """A delayed run's time has come while the thread's slot is taken: it waits for its turn like any other."""

    type: ClassVar[str] = "run.ready"
    thread_id: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScheduled(Event):
    """The run's turn has come: executors may claim this attempt. The only source of attempt numbers.

    `fresh`: the thread has no checkpoint yet, so there is none to load.
    """

    type: ClassVar[str] = "run.scheduled"
    thread_id: str
    run_id: str
    attempt: int
    kind: Literal["run", "state_update"] = "run"
    fresh: bool = False


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
    """Ended by itself or at an interrupt (then `next` is not empty)."""

    type: ClassVar[str] = "run.succeeded"
    thread_id: str
    run_id: str
    attempt: int
    next: list[str] = field(default_factory=list)
    interrupts: JsonObject = field(default_factory=dict)
    frames: int = 0


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
    tasks_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut(Event):
    type: ClassVar[str] = "run.timed_out"
    thread_id: str
    run_id: str
    attempt: int
    error: JsonObject
    frames: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReleased(Event):
    """A draining executor handed the run back; the next attempt follows."""

    type: ClassVar[str] = "run.released"
    thread_id: str
    run_id: str
    attempt: int
    frames: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLeaseExpired(Event):
    """The executor of this attempt is gone; the next attempt or the failure follows."""

    type: ClassVar[str] = "run.lease_expired"
    thread_id: str
    run_id: str
    attempt: int
    executor: str


# --- checkpoints -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Event):
    """One superstep's state: `channels` maps every channel to a value reference, `blobs` holds the new values."""

    type: ClassVar[str] = "checkpoint.saved"
    thread_id: str
    run_id: str | None = None
    ns: str = ""
    checkpoint_id: str
    parent_id: str | None = None
    metadata: JsonObject = field(default_factory=dict)
    checkpoint: JsonObject = field(default_factory=dict)
    channels: JsonObject = field(default_factory=dict)
    blobs: list[JsonObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class WritesSaved(Event):
    """Pending writes of one task on a checkpoint: `writes` = [[idx, channel, value reference], …]."""

    type: ClassVar[str] = "writes.saved"
    thread_id: str
    run_id: str | None = None
    ns: str = ""
    checkpoint_id: str
    task_id: str
    task_path: str = ""
    writes: list[Json] = field(default_factory=list)
    blobs: list[JsonObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksPlanned(Event):
    """What follows a checkpoint: the tasks of its next superstep, and which channels are the state clients see."""

    type: ClassVar[str] = "tasks.planned"
    thread_id: str
    run_id: str | None = None
    ns: str = ""
    checkpoint_id: str
    tasks: list[JsonObject] = field(default_factory=list)
    out: Json = None
    shown: JsonObject | None = None
    blobs: list[JsonObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointsDeleted(Event):
    """Checkpoints of these runs are gone (the checkpointer's own `delete_for_runs`)."""

    type: ClassVar[str] = "checkpoints.deleted"
    thread_id: str
    run_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateUpdateRequested(Event):
    type: ClassVar[str] = "state.update_requested"
    thread_id: str
    job_id: str
    graph_id: str
    supersteps: list[JsonObject]
    checkpoint: JsonObject | None = None
    config: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateUpdated(Event):
    """`result`: {checkpoint: {thread_id, checkpoint_ns, checkpoint_id}, configurable}."""

    type: ClassVar[str] = "state.updated"
    thread_id: str
    job_id: str
    result: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateUpdateFailed(Event):
    """`error`: {error: class name, message}."""

    type: ClassVar[str] = "state.update_failed"
    thread_id: str
    job_id: str
    error: JsonObject = field(default_factory=dict)


# --- assistant, graph ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantCreated(Event):
    type: ClassVar[str] = "assistant.created"
    assistant_id: str
    graph_id: str
    name: str = "Untitled"
    description: str | None = None
    config: JsonObject = field(default_factory=dict)
    context: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantUpdated(Event):
    """Version `version` exists and is current; None fields are those of the version before it, metadata is merged."""

    type: ClassVar[str] = "assistant.updated"
    assistant_id: str
    version: int
    graph_id: str | None = None
    name: str | None = None
    description: str | None = None
    config: JsonObject | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantLatestSet(Event):
    type: ClassVar[str] = "assistant.latest_set"
    assistant_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantDeleted(Event):
    type: ClassVar[str] = "assistant.deleted"
    assistant_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRegistered(Event):
    type: ClassVar[str] = "graph.registered"
    graph_id: str
    digest: str
    info: JsonObject


EVENTS: dict[str, type[Event]] = {
    e.type: e
    for e in (
        CommandRejected, CommandRepeated, ReportFenced, ThreadCreated, ThreadUpdated, ThreadDeleted, ThreadPruned,
        ThreadStatusChanged, RunCreated, RunReady, RunScheduled, RunStarted, RunSucceeded, RunFailed,
        RunTimedOut, RunInterrupted, RunRolledBack, RunDeleted, RunStopped, RunReleased, RunLeaseExpired,
        CheckpointSaved, WritesSaved, TasksPlanned, CheckpointsDeleted, StateUpdateRequested, StateUpdated,
        StateUpdateFailed, AssistantCreated, AssistantUpdated, AssistantLatestSet, AssistantDeleted, GraphRegistered,
    )
}  # fmt: skip
