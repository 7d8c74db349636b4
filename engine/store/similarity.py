"""Search by similarity: items whose texts are nearest to a vector, by cosine. Needs pgvector, see `prepare`.

Under a prefix with few vectors all are compared. Above, the HNSW index is walked (iteratively, in order, so that what
the prefix leaves out costs no result); where a filter leaves too little of what it finds, all are compared after all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import asyncpg

from threadlog.engine.domain.store_namespace import namespace_text
from threadlog.engine.store.filters import conditions
from threadlog.engine.store.reading import ALIVE, EXACT_VECTORS, ROW, Row

Run = Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]
"""Calls with a connection of asyncpg and returns the result."""

_PRECISE = 2000  # dimensions; above, pgvector indexes numbers of 16 bits
_TRIES = 3
_LOCK = 0x7468_7264_6C6F_6702  # any number; its neighbour is the migrations'
_OLDEST = (0, 8)


class NoVectors(Exception):
    """There is no semantic search in this database; the message says what to do."""


async def prepare(conn: asyncpg.Connection, dims: int) -> None:
    """Make the extension and the index for vectors of so many numbers, if they are not there. From any process.

    Raises:
        NoVectors: pgvector is not installed, too old, or not to be used by this user.
    """
    kind = _kind(dims)
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        version = await conn.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        if version is None:
            if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"):
                raise NoVectors(
                    "store.index asks for semantic search, which needs the extension pgvector in Postgres: install it "
                    "on the database's server, or remove store.index"
                )
            try:
                await conn.execute("CREATE EXTENSION vector")
            except asyncpg.InsufficientPrivilegeError as error:
                raise NoVectors(
                    f"store.index needs the extension pgvector, which this user may not add ({error}): "
                    "CREATE EXTENSION vector as one who may"
                ) from None
            version = await conn.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
            raise NoVectors(f"store.index needs pgvector 0.8 or newer; this database has {version}: update it")
        await conn.execute(
            f"CREATE INDEX IF NOT EXISTS store_vectors_near_{dims} ON store_vectors "
            f"USING hnsw ((embedding::{kind}) {kind.partition('(')[0]}_cosine_ops) "
            f"WHERE cardinality(embedding) = {dims}"
        )


async def nearest(
    run: Run,
    vector: Sequence[float],
    prefix: Sequence[str],
    *,
    filter: Mapping[str, Any] | None = None,
    limit: int = 10,
    offset: int = 0,
) -> list[Row]:
    """Items with embedded texts under a prefix, the nearest first, with their `score` (the cosine of the nearest text).

    Raises `FilterError`.
    """
    if limit <= 0:
        return []

    async def search(conn: Any) -> list[Row]:
        if await conn.fetchval(*_count(prefix, len(vector))) > EXACT_VECTORS:
            near = 4 * (limit + offset) + 16
            for _ in range(_TRIES):
                async with conn.transaction(readonly=True):
                    await conn.execute("SET LOCAL hnsw.iterative_scan = strict_order")
                    await conn.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(40, near))}")
                    rows = await conn.fetch(*near_query(vector, prefix, filter or {}, limit, offset, near))
                if len(rows) == limit:
                    return list(rows)
                near *= 4
        return list(await conn.fetch(*exact_query(vector, prefix, filter or {}, limit, offset)))

    return list(await run(search))


def exact_query(
    vector: Sequence[float], prefix: Sequence[str], filter: Mapping[str, Any], limit: int, offset: int
) -> tuple[Any, ...]:
    """The statement, with its arguments, that compares all."""
    arguments: list[Any] = [limit, offset, list(vector)]
    under, tests = _under(prefix, arguments), _tests(filter, arguments)
    kind = _kind(len(vector))
    scored = (
        f"SELECT v.namespace, v.key, min(v.embedding::{kind} <=> $3::real[]::{kind}) AS distance "
        f"FROM store_vectors v WHERE {under} AND cardinality(v.embedding) = {len(vector)} GROUP BY 1, 2"
    )
    return _ranked(scored, tests), *arguments


def near_query(
    vector: Sequence[float], prefix: Sequence[str], filter: Mapping[str, Any], limit: int, offset: int, near: int
) -> tuple[Any, ...]:
    """The statement, with its arguments, that walks the index to the `near` nearest texts."""
    arguments: list[Any] = [limit, offset, list(vector), near]
    under, tests = _under(prefix, arguments), _tests(filter, arguments)
    kind = _kind(len(vector))
    distance = f"v.embedding::{kind} <=> $3::real[]::{kind}"
    scored = (
        f"SELECT namespace, key, min(distance) AS distance FROM (SELECT v.namespace, v.key, {distance} AS distance "
        f"FROM store_vectors v WHERE {under} AND cardinality(v.embedding) = {len(vector)} "
        f"ORDER BY {distance} LIMIT $4) w GROUP BY 1, 2"
    )
    return _ranked(scored, tests), *arguments


def _ranked(scored: str, tests: str) -> str:
    return (
        f"SELECT {ROW}, 1 - n.distance AS score FROM ({scored}) n "
        f"JOIN store_items i ON i.namespace = n.namespace AND i.key = n.key WHERE {tests} "
        "ORDER BY n.distance, i.namespace, i.key LIMIT $1 OFFSET $2"
    )


def _count(prefix: Sequence[str], dims: int) -> tuple[Any, ...]:
    arguments: list[Any] = [EXACT_VECTORS + 1]
    under = _under(prefix, arguments)
    found = f"SELECT FROM store_vectors v WHERE {under} AND cardinality(v.embedding) = {dims} LIMIT $1"
    return f"SELECT count(*) FROM ({found}) c", *arguments


def _tests(filter: Mapping[str, Any], arguments: list[Any]) -> str:
    return " AND ".join([ALIVE, *conditions(filter, arguments)])


def _under(prefix: Sequence[str], arguments: list[Any]) -> str:
    if not prefix:
        return "true"
    text = namespace_text(prefix)
    arguments += (text, f"{text}.", f"{text}/")
    n = len(arguments)
    return f"(v.namespace = ${n - 2} OR (v.namespace >= ${n - 1} AND v.namespace < ${n}))"


def _kind(dims: int) -> str:
    return f"vector({dims})" if dims <= _PRECISE else f"halfvec({dims})"
