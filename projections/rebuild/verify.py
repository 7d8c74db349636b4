"""Verification: rebuilds the read models from the log beside the live ones and compares; they must always be equal.

Everything happens in one REPEATABLE READ transaction that is rolled back: it sees the live tables as of one moment,
with the offsets they were projected up to, while the engine goes on; the rebuilt tables are its own and vanish with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from threadlog.engine.compression.codec import unpack_value
from threadlog.engine.log.port import Log
from threadlog.projections.rebuild.rebuild import FOLD_RECORDS, Progress, rebuild
from threadlog.projections.schema import create_beside

# Per table its key, and the columns that are leases, not history.
TABLES: Mapping[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "partitions": (("p",), frozenset({"epoch", "owner"})),
    "aggregates": (("key",), frozenset()),
    "threads": (("thread_id",), frozenset()),
    "runs": (("run_id",), frozenset()),
    "run_queue": (("run_id",), frozenset({"owner"})),
    "timers": (("id",), frozenset()),
    "checkpoints": (("thread_id", "ns", "checkpoint_id"), frozenset()),
    "checkpoint_writes": (("thread_id", "ns", "checkpoint_id", "task_id", "idx"), frozenset()),
    "webhooks": (("run_id",), frozenset()),
    "webhook_failures": (("run_id",), frozenset()),
    "channel_values": (("thread_id", "hash"), frozenset()),
    "graphs": (("graph_id",), frozenset()),
    "assistants": (("assistant_id",), frozenset()),
    "assistant_versions": (("assistant_id", "version"), frozenset()),
    "store_items": (("namespace", "key"), frozenset()),
    "store_vectors": (("namespace", "key", "path"), frozenset()),
    "crons": (("cron_id",), frozenset()),
    "cron_firings": (("cron_id", "due_at"), frozenset()),
    "keyed_requests": (("id",), frozenset()),
    "keyed_commands": (("id",), frozenset()),
    "projection_skips": (("p", "ev_off", "idx"), frozenset({"error"})),
}


SKIPS = 'SELECT p, ev_off, idx, key, type, error, at FROM "{schema}".projection_skips ORDER BY p, ev_off, idx'


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs; `live` or `rebuilt` is None when it is missing there, else only what differs is named."""

    table: str
    key: Mapping[str, Any]
    live: Mapping[str, Any] | None
    rebuilt: Mapping[str, Any] | None


async def verify(
    dsn: str,
    source: Log,
    *,
    schema: str = "public",
    tables: Sequence[str] = tuple(TABLES),
    limit: int = 100,
    progress: Progress | None = None,
    fold_records: int = FOLD_RECORDS,
) -> list[Difference]:
    """Rebuild the read models and compare these tables; returns at most `limit` differences per table, none if all is
    well.

    `progress`, `fold_records`: see `rebuild`. Autovacuum can't remove rows that change
    while this runs.
    """
    conn = await asyncpg.connect(dsn)
    try:
        transaction = conn.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            rows = await conn.fetch(f'SELECT p, ev_off FROM "{schema}".partitions ORDER BY p')
            beside = f"rebuild_{uuid.uuid4().hex[:12]}"
            skips = [tuple(row) for row in await conn.fetch(SKIPS.format(schema=schema))]
            await create_beside(conn, beside, len(rows))
            upto = {row["p"]: row["ev_off"] for row in rows}
            await rebuild(
                conn,
                source,
                upto,
                progress=progress,
                fold_records=fold_records,
                skips=skips,
            )
            return [difference for table in tables for difference in await _compare(conn, table, schema, beside, limit)]
        finally:
            await transaction.rollback()
    finally:
        await conn.close()


async def skipped(dsn: str, *, schema: str = "public") -> list[Mapping[str, Any]]:
    """The rows of `projection_skips`: events of the log that the read models could not take."""
    conn = await asyncpg.connect(dsn)
    try:
        return [dict(row) for row in await conn.fetch(SKIPS.format(schema=schema))]
    finally:
        await conn.close()


async def _compare(conn: asyncpg.Connection, table: str, live: str, rebuilt: str, limit: int) -> list[Difference]:
    key, ignored = TABLES[table]
    columns = await conn.fetch(
        "SELECT column_name::text AS name, data_type = 'json' AS is_json FROM information_schema.columns "
        "WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position",
        rebuilt,
        table,
    )
    compared = [(c["name"], c["is_json"]) for c in columns if c["name"] not in ignored and c["name"] not in key]
    text = {name: "::text" if is_json else "" for name, is_json in compared}  # json has no equality of its own
    differs = " OR ".join(f'l."{name}"{cast} IS DISTINCT FROM r."{name}"{cast}' for name, cast in text.items())
    rows = await conn.fetch(
        f"SELECT {', '.join(f'coalesce(l.{k}, r.{k}) AS {k}' for k in key)}, "
        f"l.{key[0]} IS NOT NULL AS in_live, r.{key[0]} IS NOT NULL AS in_rebuilt, "
        + ", ".join(f'l."{name}" AS "live_{name}", r."{name}" AS "rebuilt_{name}"' for name in text)
        + f' FROM "{live}".{table} l FULL JOIN "{rebuilt}".{table} r USING ({", ".join(key)}) '
        f"WHERE l.{key[0]} IS NULL OR r.{key[0]} IS NULL OR {differs} LIMIT {int(limit)}"
    )
    differences = []
    for row in rows:
        at = {k: row[k] for k in key}
        live_row = {name: row[f"live_{name}"] for name in text} if row["in_live"] else None
        rebuilt_row = {name: row[f"rebuilt_{name}"] for name in text} if row["in_rebuilt"] else None
        if live_row is not None and rebuilt_row is not None:
            if table == "channel_values" and _content(live_row) == _content(rebuilt_row):
                continue  # compressed by another release of zstd
            changed = [n for n, is_json in compared if not _equal(live_row[n], rebuilt_row[n], is_json)]
            if not changed:
                continue
            live_row, rebuilt_row = {n: live_row[n] for n in changed}, {n: rebuilt_row[n] for n in changed}
        differences.append(Difference(table, at, live_row, rebuilt_row))
    return differences


def _content(value: Mapping[str, Any]) -> tuple[str, bytes]:
    return unpack_value(value["type"], value["data"])


def _equal(left: Any, right: Any, is_json: bool) -> bool:
    if is_json and left is not None and right is not None:
        return bool(orjson.loads(left) == orjson.loads(right))
    return bool(left == right)
