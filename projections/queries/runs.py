"""Reads of runs. JSON columns come back as JSON text. `only`: runs of threads whose metadata passes this filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from threadlog.projections.queries.connection import Reader
from threadlog.projections.queries.metadata_filter import MetadataFilter, of_thread_sql

# `run.started` comes with an executor's first report, which may be its last; its claim of the queue row comes at once.
CLAIMED = "EXISTS (SELECT 1 FROM run_queue q WHERE q.run_id = runs.run_id AND q.owner IS NOT NULL)"
STATUS = f"CASE WHEN status = 'pending' AND {CLAIMED} THEN 'running' ELSE status END"
_COLUMNS = (
    f"run_id, thread_id, assistant_id, metadata, {STATUS} AS status, kwargs, multitask_strategy, cancel_reason, "
    "created_at, updated_at"
)
_PROGRESS = (
    "run_id, thread_id, status, attempt, frames, stream_from, error, temporary, kwargs->>'resumable' AS resumable"
)


async def get(
    db: Reader, run_id: str, thread_id: str | None = None, only: MetadataFilter | None = None
) -> asyncpg.Record | None:
    """The run, if it exists (on this thread)."""
    return await _one(db, _COLUMNS, run_id, thread_id, only)


async def progress(
    db: Reader, run_id: str, thread_id: str | None = None, only: MetadataFilter | None = None
) -> asyncpg.Record | None:
    """What a joiner has to know: status, attempt, frames, where its stream begins, whether it can be replayed."""
    return await _one(db, _PROGRESS, run_id, thread_id, only)


async def _one(
    db: Reader, columns: str, run_id: str, thread_id: str | None, only: MetadataFilter | None
) -> asyncpg.Record | None:
    args: list[Any] = [run_id, thread_id]
    condition = of_thread_sql(only, "runs.thread_id", args)
    return await db.fetchrow(
        f"SELECT {columns} FROM runs WHERE run_id = $1 AND ($2::uuid IS NULL OR thread_id = $2){condition}", *args
    )


async def progress_of_thread(db: Reader, thread_id: str) -> list[asyncpg.Record]:
    """`progress` of every run of a thread, oldest first."""
    return await db.fetch(f"SELECT {_PROGRESS} FROM runs WHERE thread_id = $1 ORDER BY created_at, run_id", thread_id)


_STREAM = f"{_PROGRESS}, graph_id, updated_at"


async def streams_of(db: Reader, thread_id: str) -> list[asyncpg.Record]:
    """`progress` of every run of a thread with its `graph_id` and `updated_at`, oldest first."""
    return await db.fetch(f"SELECT {_STREAM} FROM runs WHERE thread_id = $1 ORDER BY created_at, run_id", thread_id)


async def stream_of(db: Reader, thread_id: str, run_id: str) -> asyncpg.Record | None:
    """The same of one run."""
    return await db.fetchrow(f"SELECT {_STREAM} FROM runs WHERE thread_id = $1 AND run_id = $2", thread_id, run_id)


async def feedback_keys_of(db: Reader, run_id: str) -> str | None:
    """The keys of feedback that a run was created with, as JSON text; None without any."""
    return await db.fetchval(  # type: ignore[no-any-return]
        "SELECT kwargs->>'feedback_keys' FROM runs WHERE run_id = $1", run_id
    )


async def search(
    db: Reader, thread_id: str, *, status: str | None, limit: int, offset: int, only: MetadataFilter | None = None
) -> Sequence[asyncpg.Record]:
    """A thread's runs, newest first."""
    args: list[Any] = [thread_id, status, limit, offset]
    condition = of_thread_sql(only, "runs.thread_id", args)
    return await db.fetch(
        f"SELECT {_COLUMNS} FROM runs WHERE thread_id = $1 AND ($2::text IS NULL OR {STATUS} = $2){condition} "
        "ORDER BY created_at DESC, run_id DESC LIMIT $3 OFFSET $4",
        *args,
    )


A2A_TASK = "a2a_task"
"""Key of a run's metadata: the id of the run with which the task of A2A began that this run continues."""

_TASK = f"coalesce(runs.metadata->>'{A2A_TASK}', runs.run_id::text)"
_CONTINUES = f"metadata ? '{A2A_TASK}'"
_CONTINUED = (  # each found in `runs_a2a_task`
    f"EXISTS (SELECT FROM runs n WHERE n.assistant_id = $1::uuid AND n.{_CONTINUES} AND n.thread_id = runs.thread_id "
    f"AND left(n.metadata->>'{A2A_TASK}', 36) = left({_TASK}, 36) AND n.metadata->>'{A2A_TASK}' = {_TASK} "
    "AND n.run_id > runs.run_id)"
)


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Tasks of A2A: of this assistant, on this thread, in this state (A2A 0.3), changed at `after` or later. Where a
    message continued a task, its newest run tells."""

    assistant_id: str
    thread_id: str | None = None
    state: str | None = None
    after: datetime | None = None

    def sql(self, only: MetadataFilter | None, args: list[Any], *, newest: bool = True) -> str:
        """The condition, of which the assistant is $1; of `newest` runs of tasks, or of all."""
        condition = "assistant_id = $1::uuid" + (f" AND NOT {_CONTINUED}" if newest else "")
        if self.thread_id is not None:
            args.append(self.thread_id)
            condition += f" AND thread_id = ${len(args)}::uuid"
        if self.after is not None:
            args.append(self.after)
            condition += f" AND updated_at >= ${len(args)}"
        if self.state is not None:
            condition += f" AND {_IN_STATE[self.state]}"
        return condition + of_thread_sql(only, "runs.thread_id", args)


_ASKS = (
    "EXISTS (SELECT FROM threads t JOIN checkpoints c ON c.thread_id = t.thread_id AND c.ns = '' "
    "AND c.checkpoint_id = t.checkpoint_id "
    "WHERE t.thread_id = runs.thread_id AND t.interrupts::text <> '{}' AND c.run_id = runs.run_id)"
)
_IN_STATE = {
    "submitted": f"status = 'pending' AND {STATUS} = 'pending'",
    "working": f"status IN ('pending', 'running') AND {STATUS} = 'running'",
    "completed": f"status = 'success' AND NOT {_ASKS}",
    "input-required": f"status = 'success' AND {_ASKS}",
    "failed": "status IN ('error', 'timeout')",
    "canceled": "status = 'interrupted'",
}


async def tasks(
    db: Reader,
    wanted: TaskFilter,
    *,
    before: tuple[datetime, str] | None,
    limit: int,
    only: MetadataFilter | None = None,
) -> list[asyncpg.Record]:
    """`(run_id, thread_id, updated_at, task)` of such tasks behind this position, the one that changed last first:
    of the newest run; `task` is the id of the first."""
    args: list[Any] = [wanted.assistant_id, limit, *(before or ())]
    position = "AND (updated_at, run_id) < ($3::timestamptz, $4::uuid)" if before else ""
    return await db.fetch(
        f"SELECT run_id, thread_id, updated_at, {_TASK} AS task FROM runs "
        f"WHERE {wanted.sql(only, args)} {position} "
        "ORDER BY updated_at DESC, run_id DESC LIMIT $2",
        *args,
    )


async def of_task(db: Reader, thread_id: str, run_id: str) -> list[str]:
    """The runs of the task of A2A that began with this one, the newest first: itself alone, unless messages have
    continued the task."""
    rows = await db.fetch(
        f"SELECT run_id FROM runs WHERE thread_id = $1 AND metadata @> jsonb_build_object('{A2A_TASK}', $2::text) "
        "ORDER BY run_id DESC",
        thread_id,
        run_id,
    )
    return [*(str(row["run_id"]) for row in rows), run_id]


async def count_tasks(db: Reader, wanted: TaskFilter, only: MetadataFilter | None = None) -> int:
    args: list[Any] = [wanted.assistant_id]
    if wanted.state is None and wanted.after is None:  # all runs but those that continue a task, both from an index
        condition = wanted.sql(only, args, newest=False)
        query = (
            f"SELECT (SELECT count(*) FROM runs WHERE {condition}) - "
            f"(SELECT count(*) FROM runs WHERE {condition} AND {_CONTINUES})"
        )
    else:
        query = f"SELECT count(*) FROM runs WHERE {wanted.sql(only, args)}"
    return await db.fetchval(query, *args)  # type: ignore[no-any-return]


async def in_flight(db: Reader, statuses: Sequence[str], only: MetadataFilter | None = None) -> list[asyncpg.Record]:
    """`(run_id, thread_id)` of every run in one of these statuses (of pending and running), oldest first."""
    args: list[Any] = [list(statuses)]
    condition = of_thread_sql(only, "runs.thread_id", args)
    return await db.fetch(
        f"SELECT run_id, thread_id FROM runs WHERE status IN ('pending', 'running') AND {STATUS} = ANY($1){condition} "
        "ORDER BY created_at, run_id",
        *args,
    )


async def commands_in_flight(db: Reader, thread_id: str) -> list[asyncpg.Record]:
    """`(status, kwargs)` of a thread's pending and running runs; of `kwargs` only the `command`."""
    return await db.fetch(
        "SELECT status, json_build_object('command', kwargs->'command') AS kwargs FROM runs "
        "WHERE thread_id = $1 AND status IN ('pending', 'running') ORDER BY created_at, run_id",
        thread_id,
    )


async def in_flight_of_assistant(db: Reader, assistant_id: str) -> list[asyncpg.Record]:
    return await db.fetch(
        "SELECT run_id, thread_id FROM runs WHERE status IN ('pending', 'running') AND assistant_id = $1 "
        "ORDER BY created_at, run_id",
        assistant_id,
    )


async def last_checkpoint(db: Reader, thread_id: str, run_id: str) -> str | None:
    """The newest checkpoint that the run wrote in its thread's root namespace, if later ones were written since."""
    return await db.fetchval(  # type: ignore[no-any-return]
        "SELECT c.checkpoint_id FROM checkpoints c JOIN threads t USING (thread_id) "
        "WHERE c.thread_id = $1 AND c.run_id = $2 AND c.ns = '' AND c.checkpoint_id <> t.checkpoint_id "
        "AND NOT EXISTS (SELECT 1 FROM checkpoints n WHERE n.thread_id = $1 AND n.ns = '' "
        "AND n.checkpoint_id = t.checkpoint_id AND n.run_id = $2) ORDER BY c.checkpoint_id DESC LIMIT 1",
        thread_id,
        run_id,
    )
