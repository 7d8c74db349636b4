"""Events of checkpoints, and of updates of the state that make one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.events.base import Event, Json, JsonObject


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
class StateMigrated(Event):
    """An attempt has read this checkpoint, whose values an earlier version of the graph has written, and goes on with
    those that the application's migrations have made of them. The next checkpoint has them."""

    type: ClassVar[str] = "state.migrated"
    thread_id: str
    run_id: str | None = None
    ns: str = ""
    checkpoint_id: str
    graph_id: str
    from_version: int
    to_version: int


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


CHECKPOINT_EVENTS: tuple[type[Event], ...] = (
    CheckpointSaved,
    WritesSaved,
    TasksPlanned,
    CheckpointsDeleted,
    StateMigrated,
    StateUpdateRequested,
    StateUpdated,
    StateUpdateFailed,
)
