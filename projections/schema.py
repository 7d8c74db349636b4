"""Creates and upgrades the read models' tables: versioned SQL files, applied once, by one process at a time."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x7468_7264_6C6F_6701  # any number: "thrdlog", 1

# Secondary indexes by which project_removals finds the rows that are deleted with a thread, project_store what expires.
_READ_BY_REMOVALS = ["runs_thread", "run_queue_thread", "store_items_expiring", "webhook_failures_thread"]


class SchemaTooNew(Exception):
    """The database was migrated by a newer version of threadlog: run that one."""


class PartitionsFixed(Exception):
    """The database was set up for another number of partitions, which can never change: keys would move."""


def migrations() -> list[tuple[int, str]]:
    """`(version, SQL)` of every migration, in order."""
    return [(int(path.name[:4]), path.read_text()) for path in sorted(_MIGRATIONS.glob("[0-9]*.sql"))]


async def migrate(conn_or_dsn: asyncpg.Connection | str, schema: str = "public", *, partitions: int = 16) -> None:
    """Bring the tables in `schema` (created if missing) to this version and make the rows of the partitions.

    Safe to call from many processes at once: one works, the others wait. All or nothing.

    Raises:
        SchemaTooNew: the database is ahead of this code.
        PartitionsFixed: it was set up for another number of partitions.
    """
    if isinstance(conn_or_dsn, str):
        conn = await asyncpg.connect(conn_or_dsn)
        try:
            await migrate(conn, schema, partitions=partitions)
        finally:
            await conn.close()
        return
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", schema):
        raise ValueError(f"not a schema name: {schema!r}")
    conn = conn_or_dsn
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if schema != "public":
            await conn.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await conn.execute(f'SET LOCAL search_path TO "{schema}"')
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_versions (version int PRIMARY KEY, applied_at timestamptz NOT NULL)"
        )
        applied = {row["version"] for row in await conn.fetch("SELECT version FROM schema_versions")}
        available = migrations()
        if ahead := applied - {version for version, _ in available}:
            raise SchemaTooNew(f"the database has migration {max(ahead)}, this version knows up to {available[-1][0]}")
        for version, sql in available:
            if version not in applied:
                await conn.execute(sql)
                await conn.execute("INSERT INTO schema_versions VALUES ($1, now())", version)
        count = await conn.fetchval("SELECT count(*) FROM partitions")
        if count == 0:
            await _add_partitions(conn, partitions)
        elif count != partitions:
            raise PartitionsFixed(f"the database was set up for {count} partitions, asked for {partitions}")


async def create_beside(conn: asyncpg.Connection, schema: str, partitions: int) -> None:
    """Make the tables in a new schema, which is the search path until the caller's transaction ends.

    The tables are for comparing, not for the api: unlogged, and without the indexes that projecting does not read.
    """
    await conn.execute(f'CREATE SCHEMA "{schema}"')
    await conn.execute(f'SET LOCAL search_path TO "{schema}"')
    for _, sql in migrations():
        await conn.execute(sql)
    for name in await conn.fetch(
        "SELECT format('DROP INDEX %I.%I', schemaname, indexname) FROM pg_indexes WHERE schemaname = $1 "
        "AND indexdef NOT LIKE 'CREATE UNIQUE %' AND indexname <> ALL ($2::text[])",
        schema,
        _READ_BY_REMOVALS,
    ):
        await conn.execute(name[0])
    for name in await conn.fetch(
        "SELECT format('ALTER TABLE %I.%I SET UNLOGGED', schemaname, tablename) FROM pg_tables WHERE schemaname = $1",
        schema,
    ):
        await conn.execute(name[0])
    await _add_partitions(conn, partitions)


async def _add_partitions(conn: asyncpg.Connection, partitions: int) -> None:
    await conn.execute("INSERT INTO partitions (p) SELECT generate_series(0, $1::int - 1)", partitions)
