"""Rebuilds the read models from the log beside the live ones and compares: they have to be equal, always.

Everything happens in one REPEATABLE READ transaction that is rolled back: it sees the live tables as of one moment,
with the offsets they were projected up to, while the engine goes on; the rebuilt tables are its own and vanish with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from engine.acceptance import Acceptance
from engine.compression import unpack_value
from engine.domain import decider
from engine.domain.decider import EMPTY, States
from engine.domain.wire import event_from_wire
from engine.log.port import Log, Topic
from engine.log.records import EventRecord
from engine.ports import Accepted
from projections.project import project
from projections.rows import ReadValue
from projections.schema import create_beside

BATCH_RECORDS = 500

# Per table its key, and the columns that are leases, not history.
TABLES: Mapping[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "partitions": (("p",), frozenset({"epoch", "owner", "lease_until"})),
    "aggregates": (("key",), frozenset()),
    "threads": (("thread_id",), frozenset()),
    "runs": (("run_id",), frozenset()),
    "run_queue": (("run_id",), frozenset({"owner"})),
    "timers": (("id",), frozenset()),
    "checkpoints": (("thread_id", "ns", "checkpoint_id"), frozenset()),
    "checkpoint_writes": (("thread_id", "ns", "checkpoint_id", "task_id", "idx"), frozenset()),
    "channel_values": (("thread_id", "hash"), frozenset()),
    "graphs": (("graph_id",), frozenset()),
    "assistants": (("assistant_id",), frozenset()),
    "assistant_versions": (("assistant_id", "version"), frozenset()),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs; `live` or `rebuilt` is None when it is missing there, else only what differs is named."""

    table: str
    key: Mapping[str, Any]
    live: Mapping[str, Any] | None
    rebuilt: Mapping[str, Any] | None


def reader_of_values(source: Log) -> ReadValue:
    """Reads a value from the `values` topic by partition and offset. It raises `LookupError` when it is gone."""

    async def read_value(p: int, offset: int) -> bytes:
        found = await source.read(Topic.VALUES, p, offset, end=offset + 1)
        if not found:
            raise LookupError(f"values[{p}] has nothing at offset {offset}")
        return found[0].value

    return read_value


async def verify(dsn: str, source: Log, *, schema: str = "public", limit: int = 100) -> list[Difference]:
    """Rebuild, compare, and tell at most `limit` differences per table; none is how it should be.

    The rows in the way of autovacuum meanwhile are those changed while it runs.
    """
    conn = await asyncpg.connect(dsn)
    try:
        transaction = conn.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            rows = await conn.fetch(f'SELECT p, ev_off FROM "{schema}".partitions ORDER BY p')
            beside = f"rebuild_{uuid.uuid4().hex[:12]}"
            await create_beside(conn, beside, len(rows))
            await rebuild(conn, source, {row["p"]: row["ev_off"] for row in rows})
            return [difference for table in TABLES for difference in await _compare(conn, table, schema, beside, limit)]
        finally:
            await transaction.rollback()
    finally:
        await conn.close()


async def rebuild(conn: asyncpg.Connection, source: Log, upto: Mapping[int, int]) -> None:
    """Fill the empty tables in the connection's search_path from the log, up to these offsets of each partition."""
    read_value = reader_of_values(source)
    for p, end in upto.items():
        acceptance = Acceptance()
        states: dict[str, States] = {}
        start = 0
        while start <= end:
            records = (await source.read(Topic.EVENTS, p, start, end=end + 1))[:BATCH_RECORDS]
            if not records:
                raise LookupError(f"events[{p}] ends before {end}, up to which the read models are")
            accepted: list[Accepted] = []
            for raw in records:
                record = EventRecord.decode(raw.value)
                if acceptance.accepts(record):
                    accepted.append(Accepted(raw.offset, record, _fold(states, record)))
            await project(conn, [(p, accepted)], read_value, quiet=True)
            start = records[-1].offset + 1
        await conn.execute(
            "UPDATE partitions SET ev_off = $2, cmd_off = $3, log_epoch = $4 WHERE p = $1",
            p,
            end,
            acceptance.cmd_off,
            acceptance.epoch,
        )


def _fold(states: dict[str, States], record: EventRecord) -> dict[str, Any] | None:
    before = states.get(record.key, EMPTY)
    events = [event_from_wire(event) for event in record.events]
    after = decider.fold(before, record.key, record.cmd_id, record.at, events)
    if after is before:
        return None
    states[record.key] = after
    return decider.dump(after)


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
        left = {name: row[f"live_{name}"] for name in text} if row["in_live"] else None
        right = {name: row[f"rebuilt_{name}"] for name in text} if row["in_rebuilt"] else None
        if left is not None and right is not None:
            if table == "channel_values" and _content(left) == _content(right):
                continue  # compressed by another release of zstd
            changed = [n for n, is_json in compared if not _equal(left[n], right[n], is_json)]
            if not changed:
                continue
            left, right = {n: left[n] for n in changed}, {n: right[n] for n in changed}
        differences.append(Difference(table, at, left, right))
    return differences


def _content(value: Mapping[str, Any]) -> tuple[str, bytes]:
    return unpack_value(value["type"], value["data"])


def _equal(left: Any, right: Any, is_json: bool) -> bool:
    if is_json and left is not None and right is not None:
        return bool(orjson.loads(left) == orjson.loads(right))
    return bool(left == right)
