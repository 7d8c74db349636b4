"""Reads of threads. JSON columns come back as JSON text. `only`: threads whose metadata passes this filter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import asyncpg
import orjson

from threadlog.engine.stored import value_refs
from threadlog.engine.stored.row_codec import VALUE_COLUMNS, decode_values
from threadlog.projections.queries.connection import Connection, Reader, containment
from threadlog.projections.queries.metadata_filter import MetadataFilter, only_sql

_COLUMNS = (
    "thread_id, created_at, updated_at, state_updated_at, metadata, config, status, error, interrupts, ttl, "
    "checkpoint_id"
)
# Each the columns of an index: the order is total, so that pages neither repeat nor skip.
_ORDERS = {
    "thread_id": ("thread_id",),
    "status": ("status", "created_at", "thread_id"),
    "created_at": ("created_at", "thread_id"),
    "updated_at": ("updated_at", "thread_id"),
    "state_updated_at": ("state_updated_at", "thread_id"),
}
SORT_KEYS = frozenset(_ORDERS)
SCAN_PAGE = 20  # threads whose states are in memory at a time, and are rendered without a pause


async def get(db: Reader, thread_id: str, only: MetadataFilter | None = None) -> asyncpg.Record | None:
    args: list[Any] = [thread_id]
    condition = only_sql(only, "metadata", args)
    return await db.fetchrow(f"SELECT {_COLUMNS} FROM threads WHERE thread_id = $1{condition}", *args)


async def exists(db: Reader, thread_id: str, only: MetadataFilter | None = None) -> bool:
    args: list[Any] = [thread_id]
    condition = only_sql(only, "metadata", args)
    return bool(await db.fetchval(f"SELECT EXISTS (SELECT 1 FROM threads WHERE thread_id = $1{condition})", *args))


async def was_deleted(db: Reader, thread_id: str, within_seconds: float) -> bool:
    """Whether there was such a thread, and it was deleted no longer ago than this."""
    return bool(
        await db.fetchval(
            "SELECT deleted_at > now() - make_interval(secs => $2) FROM aggregates WHERE key = $1",
            thread_id,
            within_seconds,
        )
    )


_FOR_RUNS = """
SELECT thread_id::text, metadata, config, false AS prioritized FROM threads WHERE thread_id = ANY($1::uuid[])
"""
_FOR_RUNS_WITH_PRIORITY = """
SELECT thread_id::text, metadata, config,
    coalesce((a.state -> 'thread' -> 'priority') IS NOT NULL, false) AS prioritized
FROM threads t LEFT JOIN aggregates a ON a.key = t.thread_id::text WHERE t.thread_id = ANY($1::uuid[])
"""


async def for_runs(db: Reader, thread_ids: Sequence[str], *, with_priority: bool = False) -> list[asyncpg.Record]:
    """`(thread_id, metadata, config)`: what new runs inherit from their threads; `prioritized`: whether a run of theirs
    has set a priority, which only the thread's decider remembers (false unless `with_priority`)."""
    return await db.fetch(_FOR_RUNS_WITH_PRIORITY if with_priority else _FOR_RUNS, thread_ids)


def _where(
    metadata: Mapping[str, Any] | None, status: str | None, ids: Sequence[str] | None, only: MetadataFilter | None
) -> tuple[str, list[Any]]:
    conditions: list[str] = ["true"]
    args: list[Any] = []
    if (contained := containment(metadata)) is not None:
        args.append(contained)
        conditions.append(f"metadata @> ${len(args)}::jsonb")
    if status is not None:
        args.append(status)
        conditions.append(f"status = ${len(args)}")
    if ids is not None:
        args.append(list(ids))
        conditions.append(f"thread_id = ANY(${len(args)}::uuid[])")
    if only is not None:
        conditions.append(only.sql("metadata", args))
    return " AND ".join(conditions), args


def _ordered(where: str, sort_by: str, descending: bool) -> str:
    if sort_by not in SORT_KEYS:
        raise ValueError(sort_by)
    direction = "DESC" if descending else "ASC"
    order = ", ".join(f"{column} {direction}" for column in _ORDERS[sort_by])
    return f"SELECT {_COLUMNS} FROM threads WHERE {where} ORDER BY {order}"


async def search(
    db: Reader,
    *,
    metadata: Mapping[str, Any] | None,
    status: str | None,
    ids: Sequence[str] | None,
    sort_by: str,
    descending: bool,
    limit: int,
    offset: int,
    only: MetadataFilter | None = None,
) -> list[asyncpg.Record]:
    """Threads whose metadata contains `metadata`; equal sort keys are ordered by id, equal states by
    creation."""
    where, args = _where(metadata, status, ids, only)
    sql = f"{_ordered(where, sort_by, descending)} LIMIT ${len(args) + 1} OFFSET ${len(args) + 2}"
    return await db.fetch(sql, *args, limit, offset)


async def scan(
    connection: Connection,
    *,
    metadata: Mapping[str, Any] | None,
    status: str | None,
    ids: Sequence[str] | None,
    sort_by: str = "created_at",
    descending: bool = True,
    page: int = SCAN_PAGE,
    only: MetadataFilter | None = None,
) -> AsyncGenerator[list[asyncpg.Record]]:
    """`search` without limit, page by page; threads without any state are left out. Needs an open transaction."""
    where, args = _where(metadata, status, ids, only)
    cursor = await connection.cursor(_ordered(f"{where} AND checkpoint_id IS NOT NULL", sort_by, descending), *args)
    while rows := await cursor.fetch(page):
        yield rows


async def count(
    db: Reader, *, metadata: Mapping[str, Any] | None, status: str | None, only: MetadataFilter | None = None
) -> int:
    where, args = _where(metadata, status, None, only)
    return int(await db.fetchval(f"SELECT count(*) FROM threads WHERE {where}", *args))


async def ids_of_assistant(db: Reader, assistant_id: str, only: MetadataFilter | None = None) -> list[str]:
    """Threads whose last run was of this assistant (metadata.assistant_id)."""
    args: list[Any] = [assistant_id]
    condition = only_sql(only, "metadata", args)
    rows = await db.fetch(
        f"SELECT thread_id FROM threads WHERE metadata @> jsonb_build_object('assistant_id', $1::text){condition}",
        *args,
    )
    return [str(row["thread_id"]) for row in rows]


async def existing(db: Reader, thread_ids: Sequence[str], only: MetadataFilter | None = None) -> list[str]:
    """Those of the ids that are threads, in the order given, each once."""
    args: list[Any] = [list(thread_ids)]
    condition = only_sql(only, "metadata", args)
    rows = await db.fetch(f"SELECT thread_id FROM threads WHERE thread_id = ANY($1::uuid[]){condition}", *args)
    existing_ids = {str(row["thread_id"]) for row in rows}
    return [i for i in dict.fromkeys(thread_ids) if i in existing_ids]


async def storage(db: Reader, thread_id: str) -> dict[str, Any]:
    """Bytes stored for a thread: checkpoint rows, channel values (in all and by channel), pending writes."""
    checkpoints = await db.fetch(
        "SELECT octet_length(c.checkpoint::text) + octet_length(c.metadata::text) "
        "+ octet_length(c.channels::text) + coalesce(octet_length(c.tasks::text), 0) AS bytes, "
        f"{VALUE_COLUMNS} FROM checkpoints c WHERE c.thread_id = $1",
        thread_id,
    )
    sizes = {
        row["hash"]: row["bytes"]
        for row in await db.fetch(
            "SELECT hash, octet_length(data) AS bytes FROM channel_values WHERE thread_id = $1", thread_id
        )
    }
    writes = await db.fetchrow(
        "SELECT count(*) AS count, coalesce(sum(octet_length(value::text)), 0) AS bytes FROM checkpoint_writes "
        "WHERE thread_id = $1",
        thread_id,
    )
    assert writes is not None
    versions: dict[str, set[bytes]] = {}
    hashes: dict[str, set[str]] = {}
    for row in checkpoints:
        for channel, reference in decode_values(row[1:]).channels.items():
            versions.setdefault(channel, set()).add(orjson.dumps(reference))
            hashes.setdefault(channel, set()).update(value_refs.hashes(reference))
    checkpoint_bytes = sum(row["bytes"] for row in checkpoints)
    value_bytes = sum(sizes.values())
    return {
        "thread_id": thread_id,
        "total_bytes": checkpoint_bytes + value_bytes + int(writes["bytes"]),
        "checkpoints": {"count": len(checkpoints), "bytes": checkpoint_bytes},
        "channel_values": {
            "count": len(sizes),
            "bytes": value_bytes,
            "by_channel": {
                channel: {"versions": len(references), "bytes": sum(sizes.get(h, 0) for h in hashes[channel])}
                for channel, references in sorted(versions.items())
            },
        },
        "pending_writes": {"count": writes["count"], "bytes": int(writes["bytes"])},
    }
