"""The changes of one projection batch, folded so that every row is written once: the arguments of `project_rows`.

Within one fold the ends of runs come first (`project_ends`: they look at what is there), then everything that removes
rows, then everything that adds or changes them. Where that is not the order of the events (a rollback of what the same
batch saved), `must_flush_before_…` returns True and the caller starts a new fold in the same transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from threadlog.engine.domain.priority import DEFAULT_GROUP
from threadlog.engine.domain.text import storable, without_nul
from threadlog.engine.processor.ports import Stop

_READS = 32  # values of the `values` topic that are read at the same time

_VALUES_CHARACTERS = 1024 * 1024  # of JSON that is one argument: Postgres holds each value, perhaps not all in one

FINAL = frozenset({"success", "error", "timeout", "interrupted"})

# Each names what it is about: (thread_id, hash) or (thread_id, ns, checkpoint_id[, task_id, idx]).
ValueKey = tuple[str, str]
CheckpointKey = tuple[str, str, str]
WriteKey = tuple[str, str, str, str, int]

# Reads a record's value from the values topic, by partition and offset.
ReadValue = Callable[[int, int], Awaitable[bytes]]


def text(value: Any) -> str:
    """JSON text of a value, for `json` columns, which are read back whole."""
    return orjson.dumps(value).decode()


def clean_text(value: Any) -> str:
    """JSON text that `jsonb` can hold: with U+FFFD for NUL."""
    return without_nul(orjson.dumps(value)).decode()


def time_of(at: str) -> datetime:
    """The instant of an ISO-8601 time; one without an offset is UTC."""
    instant = datetime.fromisoformat(at)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


@dataclass(slots=True)
class ThreadRow:
    """A thread created in this batch."""

    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: dict[str, Any]
    config: Any
    status: str
    error: Any
    interrupts: Any
    ttl: Any
    checkpoint_id: str | None = None


@dataclass(slots=True)
class ThreadChange:
    """What changes of a thread; None leaves it as it is."""

    updated_at: datetime | None = None
    state_updated_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    config: Any = None
    status: str | None = None
    sets_error: bool = False
    error: Any = None
    interrupts: Any = None
    ttl: Any = None
    checkpoint_id: str | None = None


@dataclass(slots=True)
class RunRow:
    """A run created in this batch."""

    thread_id: str
    assistant_id: str | None
    graph_id: str
    created_at: datetime
    updated_at: datetime
    metadata: Any
    kwargs: Any
    multitask_strategy: str
    temporary: bool
    stream_from: int
    status: str = "pending"
    attempt: int = 0
    error: Any = None
    frames: int | None = None


@dataclass(slots=True)
class RunChange:
    """What changes of a run; None leaves it as it is."""

    updated_at: datetime | None = None
    status: str | None = None
    attempt: int | None = None
    error: Any = None
    frames: int | None = None


@dataclass(slots=True)
class QueueRow:
    """An attempt that executors may claim, or (`cancel`) have to stop."""

    thread_id: str
    p: int
    kind: str
    graph_id: str | None
    attempt: int
    scheduled_at: datetime
    fresh: bool
    payload: Any = None
    cancel: str | None = None
    priority: int = 0
    fairness_group: str = DEFAULT_GROUP


@dataclass(slots=True)
class WebhookRow:
    """A webhook that became due in this batch; `run` is its run if that was created in it, else it is in its table."""

    thread_id: str
    p: int
    url: str
    receiver: str
    status: str
    error: Any
    started_at: datetime | None
    ended_at: datetime
    due_at: datetime
    run: RunRow | None
    attempt: int = 1


class WebhookFailureRow(NamedTuple):
    """The last failure of a webhook; `due_at` None: it is dead."""

    attempt: int
    http_status: int | None
    reason: str | None
    failed_at: datetime
    due_at: datetime | None


@dataclass(slots=True)
class CheckpointRow:
    """A checkpoint saved in this batch."""

    parent_id: str | None
    run_id: str | None
    created_at: datetime
    metadata: Any
    checkpoint: Any
    channels: Any
    parts: str | None = None
    tasks: Any = None
    out: Any = None
    shown: Any = None


class StoreWrite(NamedTuple):
    """What items that are put together have in common, as `store_write` in the tables. `ttl_from`: when their time to
    live began."""

    namespace: str
    p: int
    created_at: datetime
    updated_at: datetime
    ttl_from: datetime


StorePut = tuple[StoreWrite, Any, float | None, Sequence[tuple[str, list[float]]]]
"""An item put in this batch: its write, value, time to live in minutes, and embedded texts as `(path, numbers)`."""


@dataclass(slots=True)
class ProjectionBatch:
    """One fold, filled by the handlers of `projections.fold.{threads,runs,checkpoints,webhooks,assistants,store}`.

    Collections by row key, each the rows of one argument of `project_rows`.
    """

    deleted_threads: set[str] = field(default_factory=set)
    deleted_runs: dict[str, tuple[str, datetime, str | None]] = field(default_factory=dict)
    deleted_checkpoints: list[tuple[str, datetime, list[str] | None]] = field(default_factory=list)
    threads: dict[str, ThreadRow] = field(default_factory=dict)
    thread_changes: dict[str, ThreadChange] = field(default_factory=dict)
    runs: dict[str, RunRow] = field(default_factory=dict)
    run_changes: dict[str, RunChange] = field(default_factory=dict)
    queued: dict[str, QueueRow] = field(default_factory=dict)
    cancels: dict[str, str] = field(default_factory=dict)
    unqueued: set[str] = field(default_factory=set)
    timers: dict[str, tuple[int, datetime, str, str, str]] = field(default_factory=dict)
    removed_timers: set[str] = field(default_factory=set)
    checkpoints: dict[CheckpointKey, CheckpointRow] = field(default_factory=dict)
    plans: dict[CheckpointKey, tuple[Any, Any, Any]] = field(default_factory=dict)
    writes: dict[WriteKey, tuple[str, str, Any, str | None]] = field(default_factory=dict)
    values: dict[ValueKey, tuple[str, bytes]] = field(default_factory=dict)
    deferred_values: dict[ValueKey, tuple[str, int, int]] = field(default_factory=dict)  # type, partition, offset
    assistants: list[tuple[Any, ...]] = field(default_factory=list)
    graphs: dict[str, tuple[str, Any, datetime]] = field(default_factory=dict)
    crons: list[tuple[Any, ...]] = field(default_factory=list)  # see `project_crons`
    aggregates: dict[str, tuple[int, Any, datetime | None]] = field(default_factory=dict)
    store_sweeps: list[tuple[str, datetime]] = field(default_factory=list)
    store_touches: dict[tuple[str, str], datetime] = field(default_factory=dict)
    store_gone: set[tuple[str, str]] = field(default_factory=set)
    store_puts: dict[tuple[str, str], StorePut] = field(default_factory=dict)
    store_expiring: set[tuple[str, str]] = field(default_factory=set)  # those of them with a time to live
    store_namespaces: set[str] = field(default_factory=set)  # with items in this fold
    ends: list[tuple[str, str, str | None, Any, bool | None]] = field(default_factory=list)  # see `project_ends`
    stops: dict[str, Stop | None] = field(default_factory=dict)  # runs whose executors have to know, see `Executors`
    webhooks: dict[str, WebhookRow] = field(default_factory=dict)
    webhook_changes: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    webhooks_ended: set[str] = field(default_factory=set)
    webhook_failures: dict[str, WebhookFailureRow] = field(default_factory=dict)
    webhook_ages: dict[int, datetime] = field(default_factory=dict)
    keyed: list[tuple[Any, ...]] = field(default_factory=list)  # see `project_keyed`
    touched_threads: set[str] = field(default_factory=set)  # threads with rows in this fold
    offset: int = -1  # of the event record that is being folded

    def thread_change(self, thread_id: str) -> ThreadRow | ThreadChange:
        """What to set a thread's new values on: its new row, or the change of the one in the table."""
        self.touched_threads.add(thread_id)
        row: ThreadRow | ThreadChange | None = self.threads.get(thread_id) or self.thread_changes.get(thread_id)
        if row is None:
            row = self.thread_changes[thread_id] = ThreadChange()
        return row

    def run_change(self, run_id: str, thread_id: str) -> RunRow | RunChange:
        """What to set a run's new values on."""
        self.touched_threads.add(thread_id)
        row: RunRow | RunChange | None = self.runs.get(run_id) or self.run_changes.get(run_id)
        if row is None:
            row = self.run_changes[run_id] = RunChange()
        return row

    def must_flush_before_end(self, thread_id: str) -> bool:
        """Whether this fold's changes of the thread must be in the tables before `project_ends` sees its runs."""
        return (
            thread_id in self.touched_threads
            or thread_id in self.deleted_threads
            or any(of_thread == thread_id for of_thread, _, _ in self.deleted_runs.values())
            or any(of_thread == thread_id for of_thread, _, _ in self.deleted_checkpoints)
        )

    def must_flush_before_deletion(self, thread_id: str) -> bool:
        """Whether a deletion of this thread's checkpoints or runs would overtake rows that this fold holds of it."""
        return thread_id in self.touched_threads

    def forget_thread(self, thread_id: str) -> None:
        """Drop the rows this fold would write of a thread (a change of a row that is not there does nothing)."""
        self.threads.pop(thread_id, None)
        self.thread_changes.pop(thread_id, None)
        for run_id in [run_id for run_id, run in self.runs.items() if run.thread_id == thread_id]:
            del self.runs[run_id]
            self.timers.pop(f"due:{run_id}", None)
        for run_id in [run_id for run_id, queued in self.queued.items() if queued.thread_id == thread_id]:
            del self.queued[run_id]
        _forget(self.checkpoints, thread_id)
        _forget(self.writes, thread_id)
        _forget(self.values, thread_id)
        _forget(self.deferred_values, thread_id)
        self.touched_threads.discard(thread_id)

    def next(self) -> ProjectionBatch:
        """The fold that goes on after this one, where the order of events divides them."""
        following = ProjectionBatch()
        self.hand_on(following)
        return following

    def hand_on(self, last: ProjectionBatch) -> None:
        """What is to be written in the order of all folds together is written with the last of them."""
        last.keyed += self.keyed
        self.keyed = []

    def take(self, other: ProjectionBatch) -> None:
        """Add the rows of a fold of other keys."""
        for name in _FIELDS:
            if theirs := getattr(other, name):
                mine = getattr(self, name)
                if isinstance(mine, list):
                    mine.extend(theirs)
                else:
                    mine.update(theirs)

    @property
    def claimable(self) -> int:
        """How many runs executors can claim from now on."""
        return sum(row.cancel is None for row in self.queued.values())

    def _notices(self, applied: str | None, wakes: bool) -> list[str]:
        """The arguments of `pg_notify`: channel, payload, channel, payload …"""
        notices: list[str] = []
        if wakes:
            notices += ("threadlog_queue", "run") if self.claimable else ()
            notices += [word for run_id in self.stops for word in ("threadlog_queue", f"cancel:{run_id}")]
        if applied:
            notices += ("threadlog_applied", applied)
        return notices

    async def fetch(self, read_value: ReadValue) -> None:
        """Read the values that events only point at into `values`. Raises what `read_value` raises."""
        deferred = list(self.deferred_values.items())
        for chunk in (deferred[i : i + _READS] for i in range(0, len(deferred), _READS)):
            data = await asyncio.gather(*(read_value(p, offset) for _, (_, p, offset) in chunk))
            for (key, (kind, _, _)), value in zip(chunk, data, strict=True):
                self.values.setdefault(key, (kind, value))
        self.deferred_values.clear()

    def priority_arguments(self) -> list[Any]:
        """The arguments of `project_priorities`: of the attempts that have other settings than the default ones."""
        rows = [
            (run_id, row.priority, storable(row.fairness_group))
            for run_id, row in self.queued.items()
            if row.priority or row.fairness_group != DEFAULT_GROUP
        ]
        return [list(column) for column in zip(*rows, strict=True)]

    def end_arguments(self) -> list[Any]:
        """The argument of `project_ends`."""
        return [
            (run_id, thread_id, reason, None if error is None else text(error), settled)
            for run_id, thread_id, reason, error, settled in self.ends
        ]

    @property
    def changes_store(self) -> bool:
        return bool(self.store_namespaces or self.store_sweeps)

    def put_arguments(self, applied: str | None) -> list[Any] | None:
        """The arguments of `project_puts`, if it can do all that this fold changes: what is put into one namespace at
        one time, as nearly always where there is a put."""
        puts = self.store_puts
        if not puts or len(self.aggregates) != 1 or any(_beside_puts(self)):
            return None
        ((aggregate, (_, state, deleted_at)),) = self.aggregates.items()
        write = next(iter(puts.values()))[0]
        if deleted_at is not None or not write.created_at == write.updated_at == write.ttl_from:
            return None
        if any(put[0] is not write or put[3] for put in puts.values()):
            return None
        values = {key: put[1] for (_, key), put in puts.items()}
        if len(written := clean_text(values)) > _VALUES_CHARACTERS:
            return None
        ttls = text({key: put[2] for (_, key), put in puts.items()}) if self.store_expiring else None
        return [
            aggregate, text(state), write.namespace, write.p, write.updated_at,
            written, ttls, min(values), max(values), applied,
        ]  # fmt: skip

    def store_arguments(self) -> list[Any]:
        """The arguments of `project_store`, in its order."""
        writes: dict[StoreWrite, int] = {}
        puts = [
            (writes.setdefault(write, len(writes) + 1), key, clean_text(value), ttl)
            for (_, key), (write, value, ttl, _) in self.store_puts.items()
        ]
        arguments: list[Any] = [
            self.store_sweeps,
            [(*item, at) for item, at in self.store_touches.items()],
            list(self.store_gone),
            list(writes),
            *([list(column) for column in zip(*puts, strict=True)] if puts else [None] * 4),
            [(*item, *vector) for item, (_, _, _, vectors) in self.store_puts.items() for vector in vectors],
        ]
        return [argument or None for argument in arguments]

    @property
    def changes_webhooks(self) -> bool:
        return bool(self.webhooks or self.webhook_changes or self.webhooks_ended)

    def webhook_arguments(self) -> list[Any]:
        """The arguments of `project_webhooks`."""
        return [
            [_webhook_row(run_id, row) for run_id, row in self.webhooks.items()],
            [(run_id, *change) for run_id, change in self.webhook_changes.items()],
            list(self.webhooks_ended),
            [(run_id, *failure) for run_id, failure in self.webhook_failures.items()],
            list(self.webhook_ages.items()),
        ]

    def arguments(self, applied: str | None, *, quiet: bool = False, wakes: bool = True) -> list[Any]:
        """The arguments of `project_rows`, in its order.

        `applied`: payload for `threadlog_applied`, or None; `wakes`: executors are notified of what they can claim and
        have to stop; `quiet`: no notifications at all, as in a rebuild.
        """
        notices = [] if quiet else self._notices(applied, wakes)
        arguments: list[Any] = [
            list(self.deleted_threads),
            [(run_id, *deleted) for run_id, deleted in self.deleted_runs.items()],
            self.deleted_checkpoints,
            [_thread_row(thread_id, row) for thread_id, row in self.threads.items()],
            [_thread_change(thread_id, row) for thread_id, row in self.thread_changes.items()],
            [_run_row(run_id, row) for run_id, row in self.runs.items()],
            [
                (run_id, row.updated_at, row.status, row.attempt, _opt(row.error), row.frames)
                for run_id, row in self.run_changes.items()
            ],
            [
                (
                    run_id, row.thread_id, row.p, row.kind, row.graph_id, row.attempt, row.scheduled_at, row.fresh,
                    None if row.payload is None else text(row.payload), row.cancel, None,
                    row.priority, row.fairness_group,
                )
                for run_id, row in self.queued.items()
            ],
            list(self.cancels.items()),
            list(self.unqueued),
            [(timer_id, *timer) for timer_id, timer in self.timers.items()],
            list(self.removed_timers),
            [_checkpoint_row(key, row) for key, row in self.checkpoints.items()],
            [(*key, _opt(tasks), _opt(out), _opt(shown)) for key, (tasks, out, shown) in self.plans.items()],
            [
                (*key, task_path, channel, clean_text(value), run_id)
                for key, (task_path, channel, value, run_id) in self.writes.items()
            ],
            [(*key, *value) for key, value in self.values.items()],
            self.assistants,
            [(graph_id, digest, text(info), at) for graph_id, (digest, info, at) in self.graphs.items()],
            [(key, p, text(state), deleted_at) for key, (p, state, deleted_at) in self.aggregates.items()],
            notices,
        ]  # fmt: skip
        return [argument or None for argument in arguments]  # a null costs less than an empty array


_FIELDS = tuple(f.name for f in fields(ProjectionBatch) if f.name != "offset")
_OF_PUTS = frozenset({"aggregates", "store_puts", "store_expiring", "store_namespaces"})
_beside_puts = attrgetter(*(name for name in _FIELDS if name not in _OF_PUTS))


def _forget(table: dict[Any, Any], thread_id: str) -> None:
    for key in [key for key in table if key[0] == thread_id]:
        del table[key]


def _opt(value: Any) -> str | None:
    return None if value is None else clean_text(value)


def _thread_row(thread_id: str, row: ThreadRow) -> tuple[Any, ...]:
    return (
        thread_id, row.created_at, row.updated_at, row.state_updated_at, clean_text(row.metadata), text(row.config),
        row.status, _opt(row.error), text(row.interrupts), _opt(row.ttl), row.checkpoint_id,
    )  # fmt: skip


def _thread_change(thread_id: str, row: ThreadChange) -> tuple[Any, ...]:
    return (
        thread_id, row.updated_at, row.state_updated_at, _opt(row.metadata),
        None if row.config is None else text(row.config), row.status, row.sets_error, _opt(row.error),
        None if row.interrupts is None else text(row.interrupts), _opt(row.ttl), row.checkpoint_id,
    )  # fmt: skip


def _run_row(run_id: str, row: RunRow) -> tuple[Any, ...]:
    return (
        run_id, row.thread_id, row.assistant_id, row.graph_id, row.created_at, row.updated_at, row.status, row.attempt,
        clean_text(row.metadata), text(row.kwargs), row.multitask_strategy, row.temporary, _opt(row.error), row.frames,
        row.stream_from, None,
    )  # fmt: skip


def _webhook_row(run_id: str, row: WebhookRow) -> tuple[Any, ...]:
    told = (
        run_id, row.thread_id, row.p, storable(row.url), storable(row.receiver), row.status,
        _opt(row.error), row.started_at, row.ended_at, row.attempt, row.due_at,
    )  # fmt: skip
    if (run := row.run) is None:
        return (*told, None, None, None, None, None, None)
    return (
        *told, run.assistant_id, run.created_at, clean_text(run.metadata), text(run.kwargs), run.multitask_strategy,
        run.temporary,
    )  # fmt: skip


def _checkpoint_row(key: CheckpointKey, row: CheckpointRow) -> tuple[Any, ...]:
    return (
        *key, row.parent_id, row.run_id, row.created_at, clean_text(row.metadata), text(row.checkpoint),
        clean_text(row.channels), _opt(row.tasks), _opt(row.out), _opt(row.shown), row.parts,
    )  # fmt: skip
