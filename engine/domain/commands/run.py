"""Commands for a thread's runs and state; key: thread_id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.commands.base import CancelAction, Command, JsonObject, MultitaskStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRun(Command):
    """Create a run on a thread.

    `run` is the run as clients see it without the fields the log knows itself: `{assistant_id, metadata, kwargs}`.
    `create_thread`: metadata of the thread to create when it does not exist (None: an unknown thread is rejected with
    `not_found`), `thread_ttl`: its ttl. `new_thread`: a thread that exists is rejected, with `not_found`: its metadata
    has not been seen, so it may be somebody else's.
    `thread_metadata`, `thread_config`: what the run leaves on its thread (graph_id, assistant_id, config).
    `due_at`: not before this time (ISO). `temporary`: the thread is deleted when the run ends.
    `stream_from`: a position of the partition's `stream` topic not after the run's first frame. `priority`: settings
    `{priority, fairness_group}` for a thread that has none yet.
    `cron_id`, `cron_due_at`: the cron that fired, and the time at which it was due: it has one run for that.
    """

    type: ClassVar[str] = "run.create"
    thread_id: str
    run_id: str
    graph_id: str
    run: JsonObject
    multitask_strategy: MultitaskStrategy = "enqueue"
    due_at: str | None = None
    create_thread: JsonObject | None = None
    thread_ttl: JsonObject | None = None
    thread_metadata: JsonObject = field(default_factory=dict)
    thread_config: JsonObject | None = None
    temporary: bool = False
    stream_from: int = 0
    priority: JsonObject | None = None
    cron_id: str | None = None
    cron_due_at: str | None = None
    new_thread: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun(Command):
    """Cancel a pending or running run; `rollback` also deletes it and its checkpoints. `reason`: who wants it, why."""

    type: ClassVar[str] = "run.cancel"
    thread_id: str
    run_id: str
    action: CancelAction = "interrupt"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRun(Command):
    """Delete a run and its checkpoints, stopping it first if it is in flight."""

    type: ClassVar[str] = "run.delete"
    thread_id: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDue(Command):
    """A delayed run's time has come (sent by the partition's owner; command id `due:{run_id}`)."""

    type: ClassVar[str] = "run.due"
    thread_id: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRun(Command):
    """What an executor has to say about its attempt; fenced when the attempt is not the current one.

    `items`, in order, each a JSON object with a `kind`:
      `checkpoint`  {ns, checkpoint_id, parent_id, metadata, checkpoint, channels, blobs}, see ARCHITECTURE
      `writes`      {ns, checkpoint_id, task_id, task_path, writes: [[idx, channel, ref], ...], blobs}
      `tasks`       {ns, checkpoint_id, tasks: [{id, name, path, ...}], out, shown?, blobs?}  what runs next
      `delete`      {what: "run", run_ids} | {what: "prune"}   only from the checkpointer's own deletion calls
    `outcome` ends the attempt: `{status, error?, next, interrupts, checkpoint_id, frames, usage?, result?}` with status
      `success`      ended by itself or at an interrupt
      `error`        the graph raised: error = {error, message}
      `timeout`      over its time limit: error likewise
      `interrupted`  it was stopped, mostly as it was cancelled; any outcome ends a cancelled attempt
      `released`     handed back by a draining executor: run again, counts as no failure
    `frames`: how many stream frames the attempt emitted (readers wait for them before they end). `usage`: tokens that
    its models used, `{model: {input_tokens, output_tokens, total_tokens, …}}` (`engine.domain.usage`). `refused` with
    status error: the run's answer was none, nothing was run, and the thread is as it was.
    `started`: {executor, at} with the attempt's first report.
    """

    type: ClassVar[str] = "run.report"
    thread_id: str
    run_id: str
    attempt: int
    started: JsonObject | None = None
    items: list[JsonObject] = field(default_factory=list)
    outcome: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireLease(Command):
    """The executor of this attempt is gone (command id `lease:{run_id}:{attempt}`).

    `max_attempts`: how many attempts may be lost like this before the run fails, the first included.
    """

    type: ClassVar[str] = "run.expire_lease"
    thread_id: str
    run_id: str
    attempt: int
    executor: str
    max_attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateState(Command):
    """Apply state updates with the graph: a short job that takes the thread's slot like a run does.

    `supersteps`: list of `{"updates": [{"values", "as_node", "command"}]}`; `checkpoint`: `{checkpoint_id,
    checkpoint_ns, checkpoint_map}` to fork from, or None for the newest. Rejected (`conflict`) while a run is in
    flight or waits; one that has been cancelled is waited for. `config`: `{configurable, metadata, trace}`, of which
    `trace` is the request's trace context.
    """

    type: ClassVar[str] = "state.update"
    thread_id: str
    job_id: str
    graph_id: str
    supersteps: list[JsonObject]
    checkpoint: JsonObject | None = None
    config: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)


RUN_COMMANDS: tuple[type[Command], ...] = (
    CreateRun,
    CancelRun,
    DeleteRun,
    RunDue,
    ReportRun,
    ExpireLease,
    UpdateState,
)
