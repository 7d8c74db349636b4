"""Reads of crons. JSON columns come back as JSON text. `only`: crons whose metadata passes this filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from threadlog.projections.queries.connection import Reader, containment
from threadlog.projections.queries.metadata_filter import MetadataFilter, only_sql

_COLUMNS = (
    "cron_id, assistant_id, thread_id, user_id, schedule, timezone, end_time, payload, metadata, on_run_completed, "
    "enabled, version, next_due_at, created_at, updated_at, last_firing"
)
# What clients sort by, as columns.
ORDERS = {
    "cron_id": "cron_id",
    "assistant_id": "assistant_id",
    "thread_id": "thread_id",
    "next_run_date": "next_due_at",
    "end_time": "end_time",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
_MAY_BE_NULL = frozenset({"thread_id", "next_due_at", "end_time"})


async def get(db: Reader, cron_id: str, only: MetadataFilter | None = None) -> asyncpg.Record | None:
    args: list[Any] = [cron_id]
    condition = only_sql(only, "metadata", args)
    return await db.fetchrow(f"SELECT {_COLUMNS} FROM crons WHERE cron_id = $1{condition}", *args)


async def search(
    db: Reader,
    *,
    filters: Mapping[str, Any],
    metadata: Mapping[str, Any] | None,
    sort_by: str,
    descending: bool,
    limit: int,
    offset: int,
    only: MetadataFilter | None = None,
) -> list[asyncpg.Record]:
    """Crons with these values (of `assistant_id`, `thread_id`, `enabled`; None: any) whose metadata contains
    `metadata`; equal sort keys are ordered by id, without one last."""
    where, args = _where(filters, metadata, only)
    direction = "DESC" if descending else "ASC"
    column = ORDERS[sort_by]
    # An index has this order of a column that is never null only without NULLS LAST.
    first = f"{column} {direction}{' NULLS LAST' if column in _MAY_BE_NULL else ''}"
    return await db.fetch(
        f"SELECT {_COLUMNS} FROM crons WHERE {where} ORDER BY {first}, cron_id {direction} "
        f"LIMIT ${len(args) + 1} OFFSET ${len(args) + 2}",
        *args,
        limit,
        offset,
    )


async def count(
    db: Reader,
    *,
    filters: Mapping[str, Any],
    metadata: Mapping[str, Any] | None,
    only: MetadataFilter | None = None,
) -> int:
    where, args = _where(filters, metadata, only)
    return int(await db.fetchval(f"SELECT count(*) FROM crons WHERE {where}", *args))


async def ids_of(db: Reader, *, thread_ids: Sequence[str] = (), assistant_id: str | None = None) -> list[str]:
    """The crons of these threads and this assistant."""
    rows = await db.fetch(
        "SELECT cron_id FROM crons WHERE thread_id = ANY ($1::uuid[]) OR assistant_id = $2", thread_ids, assistant_id
    )
    return [str(row["cron_id"]) for row in rows]


def _where(
    filters: Mapping[str, Any], metadata: Mapping[str, Any] | None, only: MetadataFilter | None
) -> tuple[str, list[Any]]:
    conditions: list[str] = ["true"]
    args: list[Any] = []
    for column in ("assistant_id", "thread_id", "enabled"):
        if (value := filters.get(column)) is not None:
            args.append(value)
            conditions.append(f"{column} = ${len(args)}")
    if (contained := containment(metadata)) is not None:
        args.append(contained)
        conditions.append(f"metadata @> ${len(args)}::jsonb")
    if only is not None:
        conditions.append(only.sql("metadata", args))
    return " AND ".join(conditions), args
