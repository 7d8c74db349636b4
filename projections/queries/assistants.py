"""Reads of assistants and their versions. JSON columns come back as JSON text.

`only`: assistants whose metadata passes this filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from threadlog.projections.queries.connection import Reader, containment
from threadlog.projections.queries.metadata_filter import MetadataFilter, only_sql

_COLUMNS = "assistant_id, graph_id, name, description, config, context, metadata, version, created_at, updated_at"
SORT_KEYS = frozenset({"assistant_id", "created_at", "updated_at", "name", "graph_id"})


async def get(db: Reader, assistant_id: str, only: MetadataFilter | None = None) -> asyncpg.Record | None:
    args: list[Any] = [assistant_id]
    condition = only_sql(only, "metadata", args)
    return await db.fetchrow(f"SELECT {_COLUMNS} FROM assistants WHERE assistant_id = $1{condition}", *args)


async def get_version(db: Reader, assistant_id: str, version: int) -> asyncpg.Record | None:
    """The assistant as it was when this version was made."""
    return await db.fetchrow(
        "SELECT assistant_id, v.graph_id, v.name, v.description, v.config, v.context, v.metadata, v.version, "
        "a.created_at, v.created_at AS updated_at FROM assistant_versions v JOIN assistants a USING (assistant_id) "
        "WHERE assistant_id = $1 AND v.version = $2",
        assistant_id,
        version,
    )


def _where(
    metadata: Mapping[str, Any] | None, graph_id: str | None, name: str | None, only: MetadataFilter | None
) -> tuple[str, list[Any]]:
    conditions: list[str] = ["true"]
    args: list[Any] = []
    if (contained := containment(metadata)) is not None:
        args.append(contained)
        conditions.append(f"metadata @> ${len(args)}::jsonb")
    if graph_id is not None:
        args.append(graph_id)
        conditions.append(f"graph_id = ${len(args)}")
    if name is not None:
        args.append(name)
        conditions.append(f"strpos(lower(name), lower(${len(args)})) > 0")
    if only is not None:
        conditions.append(only.sql("metadata", args))
    return " AND ".join(conditions), args


async def search(
    db: Reader,
    *,
    metadata: Mapping[str, Any] | None,
    graph_id: str | None,
    name: str | None,
    sort_by: str,
    descending: bool,
    limit: int,
    offset: int,
    only: MetadataFilter | None = None,
) -> list[asyncpg.Record]:
    """Assistants whose metadata contains `metadata`; equal sort keys are ordered by id."""
    if sort_by not in SORT_KEYS:
        raise ValueError(sort_by)
    where, args = _where(metadata, graph_id, name, only)
    direction = "DESC" if descending else "ASC"
    sql = (
        f"SELECT {_COLUMNS} FROM assistants WHERE {where} "
        f"ORDER BY {sort_by} {direction}, assistant_id {direction} LIMIT ${len(args) + 1} OFFSET ${len(args) + 2}"
    )
    return await db.fetch(sql, *args, limit, offset)


async def count(
    db: Reader,
    *,
    metadata: Mapping[str, Any] | None,
    graph_id: str | None,
    name: str | None,
    only: MetadataFilter | None = None,
) -> int:
    where, args = _where(metadata, graph_id, name, only)
    return int(await db.fetchval(f"SELECT count(*) FROM assistants WHERE {where}", *args))


async def versions(
    db: Reader, assistant_id: str, *, metadata: Mapping[str, Any] | None, limit: int, offset: int
) -> Sequence[asyncpg.Record]:
    """Newest version first."""
    return await db.fetch(
        "SELECT assistant_id, graph_id, name, description, config, context, metadata, version, created_at "
        "FROM assistant_versions WHERE assistant_id = $1 AND ($2::text IS NULL OR metadata @> $2::text::jsonb) "
        "ORDER BY version DESC LIMIT $3 OFFSET $4",
        assistant_id,
        containment(metadata),
        limit,
        offset,
    )
