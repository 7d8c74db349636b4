"""Search of the runs of all threads. JSON columns come back as JSON text.

Every status that is wanted is a query of its own, which reads a range of an index in the order of the page; the page is
what of these comes first. So neither what has another status nor what comes after the page is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from threadlog.projections.queries.connection import Reader, containment
from threadlog.projections.queries.metadata_filter import MetadataFilter, of_thread_sql
from threadlog.projections.queries.runs import CLAIMED, STATUS

STATUSES = ("pending", "running", "success", "error", "timeout", "interrupted")
_COLUMNS = (
    f"run_id, thread_id, assistant_id, graph_id, metadata, {STATUS} AS status, multitask_strategy, attempt, error, "
    "cancel_reason, created_at, updated_at"
)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are wanted; None: any. `statuses`: of `STATUSES`. `since` to before `until`: when they were created.
    `only`: runs of threads whose metadata passes this filter."""

    statuses: Collection[str] | None = None
    assistant_id: str | None = None
    graph_id: str | None = None
    thread_id: str | None = None
    run_ids: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    since: datetime | None = None
    until: datetime | None = None
    only: MetadataFilter | None = None

    def conditions(self, args: list[Any]) -> str:
        """All but the statuses, each with ` AND ` before it; appends its parameters to `args`."""
        wanted: list[tuple[str, Any]] = [
            ("assistant_id = ${}::uuid", self.assistant_id),
            ("graph_id = ${}::text", self.graph_id),
            ("thread_id = ${}::uuid", self.thread_id),
            ("run_id = ANY (${}::uuid[])", None if self.run_ids is None else list(self.run_ids)),
            ("created_at >= ${}::timestamptz", self.since),
            ("created_at < ${}::timestamptz", self.until),
            ("metadata @> ${}::jsonb", containment(self.metadata)),
        ]
        text = ""
        for condition, value in wanted:
            if value is not None:
                args.append(value)
                text += " AND runs." + condition.format(len(args))
        return text + of_thread_sql(self.only, "runs.thread_id", args)

    def parts(self) -> list[str]:
        """Conditions on the status, one per query. They name statuses as constants: an index holds ended runs alone."""
        wanted = set(STATUSES if self.statuses is None else self.statuses)
        parts = [f"runs.status = '{status}'" for status in STATUSES[2:] if status in wanted]
        pending = "runs.status = 'pending'"
        if {"pending", "running"} <= wanted:
            parts.append(pending)
        elif "pending" in wanted:
            parts.append(f"{pending} AND NOT {CLAIMED}")
        elif "running" in wanted:
            parts.append(f"{pending} AND {CLAIMED}")
        if "running" in wanted:
            parts.append("runs.status = 'running'")
        if self.thread_id is not None or self.run_ids is not None:  # few, by an index that has no status
            return [f"({' OR '.join(f'({part})' for part in parts)})"] if parts else []
        return parts


async def search(
    db: Reader,
    wanted: RunFilter,
    *,
    after: tuple[datetime, str] | None = None,
    descending: bool = True,
    limit: int,
    with_kwargs: bool = False,
) -> list[asyncpg.Record]:
    """Runs in the order of their creation, then of their ids; `after`: those behind this `(created_at, run_id)`."""
    args: list[Any] = []
    conditions = wanted.conditions(args)
    direction, sign = ("DESC", "<") if descending else ("ASC", ">")
    if after is not None:
        args += after
        place = f"(${len(args) - 1}::timestamptz, ${len(args)}::uuid)"
        conditions += f" AND (runs.created_at, runs.run_id) {sign} {place}"
    args.append(limit)
    order = f"ORDER BY created_at {direction}, run_id {direction} LIMIT ${len(args)}"
    if not (parts := wanted.parts()):
        return []
    found = " UNION ALL ".join(f"(SELECT * FROM runs WHERE {part}{conditions} {order})" for part in parts)
    columns = f"{_COLUMNS}, kwargs" if with_kwargs else _COLUMNS
    return await db.fetch(f"SELECT {columns} FROM ({found}) AS runs {order}", *args)


async def count(db: Reader, wanted: RunFilter) -> int:
    """How many runs there are."""
    args: list[Any] = []
    conditions = wanted.conditions(args)
    parts = [f"(SELECT count(*) FROM runs WHERE {part}{conditions})" for part in wanted.parts()]
    return int(await db.fetchval(f"SELECT {' + '.join(parts)}", *args)) if parts else 0
