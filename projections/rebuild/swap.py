"""Swap: rebuilds read models beside the live ones, then makes the live rows what the log says, while engines go on.

The rebuild itself holds nothing up. Then the partitions are locked, which projections wait for; what has happened since
is folded, too, the rows that differ are replaced, and the engines go on. In one transaction: all or nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from threadlog.engine.log.port import Log
from threadlog.projections.rebuild.rebuild import FOLD_RECORDS, Progress, Rebuilt, rebuild
from threadlog.projections.rebuild.verify import SKIPS, TABLES
from threadlog.projections.schema import create_beside

SWAPPED: Sequence[str] = tuple(table for table in TABLES if table not in ("partitions", "projection_skips"))
"""The read models proper: positions and skips are what a rebuild begins with."""


@dataclass(frozen=True, slots=True)
class Swapped:
    """Rows of a table that were not as the log has them: `removed` ones it does not know, `written` anew."""

    table: str
    removed: int
    written: int


async def swap(
    dsn: str,
    source: Log,
    tables: Sequence[str] = SWAPPED,
    *,
    schema: str = "public",
    progress: Progress | None = None,
    fold_records: int = FOLD_RECORDS,
) -> list[Swapped]:
    """Make these tables what the log says; leases, which are not history, stay. Returns what was changed.

    Raises:
        LookupError: the log lacks what the read models were made of.
    """
    conn = await asyncpg.connect(dsn)
    try:
        async with conn.transaction():
            beside = f"rebuild_{uuid.uuid4().hex[:12]}"
            positions = f'SELECT p, ev_off FROM "{schema}".partitions ORDER BY p'
            upto = {row["p"]: row["ev_off"] for row in await conn.fetch(positions)}
            skips = [tuple(row) for row in await conn.fetch(SKIPS.format(schema=schema))]
            await create_beside(conn, beside, len(upto))
            rebuilt = Rebuilt()
            await rebuild(
                conn, source, upto, rebuilt=rebuilt, progress=progress, fold_records=fold_records, skips=skips
            )
            # The projections wait from here on.
            upto = {row["p"]: row["ev_off"] for row in await conn.fetch(f"{positions} FOR UPDATE")}
            await rebuild(conn, source, upto, rebuilt=rebuilt, progress=progress, fold_records=fold_records)
            swapped = [await _swap(conn, table, schema, beside) for table in tables]
            await conn.execute(f'DROP SCHEMA "{beside}" CASCADE')
            return [each for each in swapped if each.removed or each.written]
    finally:
        await conn.close()


async def _swap(conn: asyncpg.Connection, table: str, live: str, beside: str) -> Swapped:
    key, leases = TABLES[table]
    columns = await conn.fetch(
        "SELECT column_name::text AS name, data_type = 'json' AS is_json FROM information_schema.columns "
        "WHERE table_schema = $1 AND table_name = $2 AND is_generated = 'NEVER' ORDER BY ordinal_position",
        beside,
        table,
    )
    columns = [column for column in columns if column["name"] not in leases]
    others = {c["name"]: "::text" if c["is_json"] else "" for c in columns if c["name"] not in key}
    same_key = " AND ".join(f'l."{name}" = r."{name}"' for name in key)
    removed = await conn.execute(
        f'DELETE FROM "{live}".{table} l WHERE NOT EXISTS (SELECT FROM "{beside}".{table} r WHERE {same_key})'
    )
    listed = ", ".join(f'"{column["name"]}"' for column in columns)
    # json has no equality of its own
    differs = " OR ".join(f'l."{name}"{cast} IS DISTINCT FROM EXCLUDED."{name}"{cast}' for name, cast in others.items())
    assigned = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in others)
    written = await conn.execute(
        f'INSERT INTO "{live}".{table} AS l ({listed}) SELECT {listed} FROM "{beside}".{table} '
        f"ON CONFLICT ({', '.join(key)}) " + (f"DO UPDATE SET {assigned} WHERE {differs}" if others else "DO NOTHING")
    )
    return Swapped(table, _count(removed), _count(written))


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
