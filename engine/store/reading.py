"""Reads of items: by key, by prefix and filter, by similarity, and which namespaces there are.

What has expired is left out, whether or not it has been removed. Every search walks an index in the order of its
result, or has few rows to sort; docs/store.md has the plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from threadlog.engine.domain.store_namespace import namespace_text
from threadlog.engine.store.filters import conditions

Row = Mapping[str, Any]
"""`namespace` (labels joined by periods), `key`, `value` (JSON text), `created_at`, `updated_at`, `stale` (its time to
live is to begin anew, as it has been read), `score` (of a search by similarity, else None)."""

EXACT_VECTORS = 5_000
"""Under a prefix with so few vectors all are compared; above, the index finds near ones (some 10 ms either way)."""

FEW_ITEMS = 2_000
"""Below a prefix, that are read and sorted for a search (some 5 ms)."""

ALIVE = "(i.expires_at IS NULL OR i.expires_at > now())"
# A time to live begins anew at most once a second, and only when a twentieth of it has passed.
_STALE = "coalesce(i.ttl_minutes * 60 - extract(epoch FROM i.expires_at - now()) >= least(1, i.ttl_minutes * 3), false)"
ROW = f"i.namespace, i.key, i.value::text AS value, i.created_at, i.updated_at, {_STALE} AS stale"
_GET = f"SELECT {ROW}, NULL::float8 AS score FROM store_items i WHERE i.namespace = $1 AND i.key = $2 AND {ALIVE}"
_GET_MANY = (
    f"SELECT {ROW}, NULL::float8 AS score FROM unnest($1::text[], $2::text[]) AS w (namespace, key) "
    f"JOIN store_items i ON i.namespace = w.namespace AND i.key = w.key WHERE {ALIVE}"
)


class ItemReader(Protocol):
    """The part of an asyncpg pool or connection that is used here."""

    async def fetch(self, query: str, *arguments: Any) -> Any: ...


async def get(db: ItemReader, items: Sequence[tuple[Sequence[str], str]]) -> dict[tuple[str, str], Row]:
    """Those of the items that exist, by namespace (its text) and key."""
    if len(items) == 1:
        rows = await db.fetch(_GET, namespace_text(items[0][0]), items[0][1])
    else:
        namespaces = [namespace_text(namespace) for namespace, _ in items]
        rows = await db.fetch(_GET_MANY, namespaces, [key for _, key in items])
    return {(row["namespace"], row["key"]): row for row in rows}


async def search(
    db: ItemReader, prefix: Sequence[str], *, filter: Mapping[str, Any] | None = None, limit: int = 10, offset: int = 0
) -> list[Row]:
    """Items under a prefix of whole labels, the one updated last first. Raises `FilterError`."""
    if limit <= 0:
        return []
    query, arguments = search_query(prefix, filter or {}, limit, offset)
    return list(await db.fetch(query, *arguments))


def search_query(prefix: Sequence[str], filter: Mapping[str, Any], limit: int, offset: int) -> tuple[str, list[Any]]:
    """The statement of `search`: a namespace in the order of an index, and what is below it: sorted where that is
    little, else the newest of all are looked through, of which much is below it. Which it is gets counted: Postgres'
    statistics of ranges of texts are too coarse to leave that to it."""
    arguments: list[Any] = [limit, offset]
    tests = " AND ".join([ALIVE, *conditions(filter, arguments)])
    order = "updated_at DESC, namespace, key"
    if not prefix:
        within = f"SELECT {ROW} FROM store_items i WHERE {tests} ORDER BY i.updated_at DESC, i.namespace, i.key"
        return f"SELECT *, NULL::float8 AS score FROM ({within} LIMIT $1 OFFSET $2) f ORDER BY {order}", arguments
    text = namespace_text(prefix)
    arguments += (text, f"{text}.", f"{text}/", FEW_ITEMS)  # what begins with "text." is before "text/"
    n = len(arguments)
    range_below = f"i.namespace >= ${n - 2} AND i.namespace < ${n - 1}"
    by_key = f"ORDER BY i.namespace, i.key LIMIT ${n}::bigint + 1"  # in the order of the primary key, so by it
    few = f"(SELECT count(*) FROM (SELECT FROM store_items i WHERE {range_below} {by_key}) c) <= ${n}"
    page = "ORDER BY i.updated_at DESC, i.namespace, i.key LIMIT $1::bigint + $2::bigint"
    query = (
        f"WITH below AS MATERIALIZED (SELECT {few} AS few), "
        "within AS MATERIALIZED ("
        f"SELECT i.* FROM store_items i WHERE (SELECT few FROM below) AND {range_below} {by_key}) "
        "SELECT *, NULL::float8 AS score FROM ("
        f"(SELECT {ROW} FROM store_items i WHERE i.namespace = ${n - 3} AND {tests} {page}) UNION ALL "
        f"(SELECT {ROW} FROM within i WHERE {tests} {page}) UNION ALL "
        f"(SELECT {ROW} FROM store_items i WHERE NOT (SELECT few FROM below) AND {range_below} AND {tests} {page})"
        f") f ORDER BY {order} LIMIT $1 OFFSET $2"
    )
    return query, arguments
