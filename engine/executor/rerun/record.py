"""What the read models have of a past run: the checkpoint each superstep began from, and what its tasks wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple

from threadlog.engine.executor.checkpointer import reader
from threadlog.engine.executor.checkpointer.reader import Stored, migrated
from threadlog.engine.executor.checkpointer.stored_types import default_serializer
from threadlog.engine.executor.checkpointer.values import Values
from threadlog.engine.executor.queue import Claim
from threadlog.engine.executor.state_migrations import StateMigrations
from threadlog.engine.stored.tasks import ERROR, INTERRUPT, NULL_TASK
from threadlog.engine.stored.value_refs import Reference, needed

RESUME = "__resume__"
_RUN = """
SELECT run_id::text, thread_id::text, assistant_id::text, graph_id, created_at, status, attempt, metadata::text,
    kwargs::text FROM runs WHERE run_id = $1
"""
_LATER = "SELECT run_id::text FROM runs WHERE thread_id = $1 AND created_at > $2"
_OWN = """
SELECT DISTINCT checkpoint_id FROM checkpoint_writes
WHERE thread_id = $1 AND run_id = $2 AND ns = '' AND task_id <> $3 ORDER BY checkpoint_id
"""
# Of a superstep that began at a checkpoint and ended before the next one: its own writes, and those of its subgraphs.
_WRITES = """
SELECT ns, checkpoint_id, task_id, idx, task_path, channel, value::text AS writes, run_id::text FROM checkpoint_writes
WHERE thread_id = $1 AND (ns = '' AND checkpoint_id = $2 OR ns LIKE ANY ($3::text[]))
ORDER BY checkpoint_id, ns, task_path, task_id, idx
"""
_CHILDREN = """
SELECT ns, checkpoint_id, tasks::text, run_id::text FROM checkpoints
WHERE thread_id = $1 AND ns LIKE ANY ($2::text[]) ORDER BY checkpoint_id
"""
_RUNS = """
SELECT run_id::text FROM runs WHERE created_at >= now() - make_interval(secs => $1)
    AND ($2::text[] = '{}' OR graph_id = ANY ($2)) AND status NOT IN ('pending', 'running') AND NOT temporary
ORDER BY created_at DESC LIMIT $3
"""


class NoSuchRun(LookupError):
    """The read models have no such run."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as it was asked for. `later`: the runs of its thread that were created after it."""

    claim: Claim
    status: str
    later: frozenset[str]


@dataclass(slots=True)
class RecordedTask:
    """What a task of a superstep has left: `writes` are those of its node, interrupts and errors included. `replies`:
    AI messages in them and in those of its subgraphs, by the path of nodes that wrote them; `tools`: tool messages, by
    the id of their call."""

    task_id: str
    name: str
    writes: list[tuple[str, Any]] = field(default_factory=list)
    replies: list[tuple[tuple[str, ...], AIMessage]] = field(default_factory=list)
    tools: dict[str, ToolMessage] = field(default_factory=dict)

    @property
    def interrupts(self) -> list[Any]:
        found = [value for channel, value in self.writes if channel == INTERRUPT]
        return [one for value in found for one in (value if isinstance(value, list | tuple) else [value])]

    @property
    def error(self) -> Any:
        return next((value for channel, value in self.writes if channel == ERROR), None)


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One superstep. `start`: where it began, with the writes that were there; `children`: where the subgraphs that it
    went on with stood, by namespace. `planned`: names of the tasks that were to run, by id; `tasks`: what they left."""

    number: int
    start: CheckpointTuple
    children: Mapping[str, CheckpointTuple]
    planned: Mapping[str, str]
    tasks: Mapping[str, RecordedTask]


@dataclass(frozen=True, slots=True)
class _Write:
    ns: str
    checkpoint_id: str
    task_id: str
    channel: str
    value: Reference
    run_id: str | None


async def runs_since(pool: asyncpg.Pool, seconds: float, graph_ids: Sequence[str], limit: int) -> list[str]:
    """Ids of runs that have ended and were created in these last seconds, newest first."""
    return [row[0] for row in await pool.fetch(_RUNS, seconds, list(graph_ids), limit)]


async def recorded_run(pool: asyncpg.Pool, run_id: str) -> RecordedRun:
    """Raises `NoSuchRun`."""
    try:
        row = await pool.fetchrow(_RUN, str(UUID(run_id)))
    except ValueError:
        row = None
    if row is None:
        raise NoSuchRun(f"there is no run {run_id}: it, or its thread, may have been deleted")
    claim = Claim(
        run_id=row["run_id"],
        thread_id=row["thread_id"],
        partition=0,
        kind="run",
        graph_id=row["graph_id"],
        attempt=row["attempt"],
        fresh=False,
        payload={},
        cancel=None,
        assistant_id=row["assistant_id"],
        kwargs=orjson.loads(row["kwargs"]),
        metadata=orjson.loads(row["metadata"]),
        temporary=False,
    )
    later = await pool.fetch(_LATER, claim.thread_id, row["created_at"])
    return RecordedRun(claim, row["status"], frozenset(found[0] for found in later))


async def recorded_steps(pool: asyncpg.Pool, run: RecordedRun, migrations: StateMigrations) -> list[RecordedStep]:
    """The supersteps of which the run's tasks have left something, in order. None for durability "exit", which stores
    no writes of tasks."""
    claim = run.claim
    rows = await pool.fetch(_OWN, claim.thread_id, claim.run_id, NULL_TASK)
    steps = []
    for row in rows:
        start = await reader.row(pool, claim.thread_id, "", row[0])
        if start is not None:  # pruned, then
            steps.append(await _step(pool, run, start, migrations))
    return steps


async def _step(pool: asyncpg.Pool, run: RecordedRun, start: Stored, migrations: StateMigrations) -> RecordedStep:
    thread_id, run_id = run.claim.thread_id, run.claim.run_id
    names = {task["id"]: task["name"] for task in start.tasks or ()}
    below = [f"%{task_id}%" for task_id in names]
    children = await pool.fetch(_CHILDREN, thread_id, below)
    writes = [
        _Write(
            row["ns"], row["checkpoint_id"], row["task_id"], row["channel"], orjson.loads(row["writes"]), row["run_id"]
        )
        for row in await pool.fetch(_WRITES, thread_id, start.checkpoint_id, below)
    ]
    standing: dict[str, Stored] = {}
    for row in children:
        if row["run_id"] != run_id and row["run_id"] not in run.later:
            found = await reader.row(pool, thread_id, row["ns"], row["checkpoint_id"])
            if found is not None:
                standing[row["ns"]] = found
    places = [start, *standing.values()]
    references: list[Reference] = [write.value for write in writes]
    for place in places:
        references += place.channels.values()
    values = Values(default_serializer())
    blobs = await reader.blobs(pool, thread_id, needed(references))

    def as_tuple(place: Stored) -> CheckpointTuple:
        state = {name: values.value(ref, blobs) for name, ref in place.channels.items()}
        if migrations.concern(place.ns, place.checkpoint, place.metadata):
            state = migrated(migrations, place, state)
        own = [w for w in writes if (w.ns, w.checkpoint_id) == (place.ns, place.checkpoint_id)]
        pending = [(w.task_id, w.channel, values.value(w.value, blobs)) for w in _pending(own, run)]
        return place.tuple(thread_id, state, pending)

    child_names = {
        (row["ns"], row["checkpoint_id"]): {t["id"]: t["name"] for t in orjson.loads(row["tasks"] or "[]")}
        for row in children
    }
    tasks: dict[str, RecordedTask] = {}
    for write in (w for w in writes if w.run_id == run_id and w.task_id != NULL_TASK):
        value = values.value(write.value, blobs)
        if not write.ns:
            task = tasks.setdefault(write.task_id, RecordedTask(write.task_id, names.get(write.task_id, "?")))
            if write.channel != RESUME:
                task.writes.append((write.channel, value))
    for write in (w for w in writes if w.run_id == run_id and w.ns):
        root_id = write.ns.split("|")[0].partition(":")[2]
        if (above := tasks.get(root_id)) is not None:
            inner = child_names.get((write.ns, write.checkpoint_id), {}).get(write.task_id, "?")
            _collect(above, (*nodes_of(write.ns), inner), values.value(write.value, blobs))
    for task in tasks.values():
        for _, value in task.writes:
            _collect(task, (task.name,), value)
    number = int(start.metadata.get("step", -1)) + 1
    return RecordedStep(number, as_tuple(start), {ns: as_tuple(p) for ns, p in standing.items()}, names, tasks)


def _pending(writes: Sequence[_Write], run: RecordedRun) -> list[_Write]:
    """The writes of a checkpoint that were there when the run's tasks began: of runs before it, of its own command, and
    the answers that its tasks have taken."""
    run_id = run.claim.run_id
    taken = any(w.channel == RESUME and w.task_id != NULL_TASK and w.run_id == run_id for w in writes)
    kept = []
    for write in writes:
        if write.run_id in run.later:
            continue
        if write.run_id == run_id and write.task_id != NULL_TASK and write.channel != RESUME:
            continue
        if write.task_id == NULL_TASK and write.channel == RESUME and taken:
            continue  # the task has it: it would be given to the task's next question as well
        kept.append(write)
    return kept


def nodes_of(ns: str) -> tuple[str, ...]:
    """The path of nodes in a namespace, without ids of tasks and the numbers of further subgraphs."""
    return tuple(part.partition(":")[0] for part in ns.split("|") if part and not part.isdigit())


def _collect(task: RecordedTask, path: tuple[str, ...], value: Any) -> None:
    known = {reply.id for _, reply in task.replies if reply.id}
    for message in messages_in(value):
        if isinstance(message, AIMessage) and message.id not in known:
            task.replies.append((path, message))
        elif isinstance(message, ToolMessage):
            task.tools.setdefault(message.tool_call_id, message)


def messages_in(value: Any) -> Iterable[BaseMessage]:
    """Every message in what was written, at any place of its lists and mappings."""
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from messages_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from messages_in(inner)
