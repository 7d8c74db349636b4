"""Migrations: once, by one of many, never backwards."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from threadlog.projections.rebuild.verify import TABLES
from threadlog.projections.schema import PartitionsFixed, SchemaTooNew, migrate, migrations

# Coordination between processes that are alive now: nothing of it is in the log.
NOT_HISTORY = {"executors", "executors_here", "processors", "run_followers", "schema_versions", "server_secrets"} | {
    "data_keys", "destroyed_keys"  # nor are keys, which history must not keep
}  # fmt: skip


async def test_many_processes_may_migrate_at_once(empty_database: str) -> None:
    await asyncio.gather(*(migrate(empty_database, partitions=8) for _ in range(6)))
    conn = await asyncpg.connect(empty_database)
    assert await conn.fetchval("SELECT array_agg(p ORDER BY p) FROM partitions") == list(range(8))
    applied = await conn.fetchval("SELECT array_agg(version ORDER BY version) FROM schema_versions")
    assert applied == [version for version, _ in migrations()]
    await conn.close()


async def test_the_number_of_partitions_is_fixed(empty_database: str) -> None:
    await migrate(empty_database, partitions=8)
    await migrate(empty_database, partitions=8)
    with pytest.raises(PartitionsFixed, match="8 partitions, asked for 16"):
        await migrate(empty_database, partitions=16)


async def test_an_older_version_does_not_touch_a_newer_database(empty_database: str) -> None:
    await migrate(empty_database)
    conn = await asyncpg.connect(empty_database)
    await conn.execute("INSERT INTO schema_versions VALUES (9999, now())")
    with pytest.raises(SchemaTooNew, match="9999"):
        await migrate(conn)
    await conn.close()


async def test_tables_can_be_made_in_another_schema(empty_database: str) -> None:
    await migrate(empty_database, "beside")
    conn = await asyncpg.connect(empty_database)
    assert await conn.fetchval("SELECT count(*) FROM beside.partitions") == 16
    assert await conn.fetchval("SELECT to_regclass('public.partitions')") is None
    await conn.close()


async def test_a_schema_name_is_never_sql(empty_database: str) -> None:
    with pytest.raises(ValueError, match="not a schema name"):
        await migrate(empty_database, 'x"; DROP TABLE threads')


async def test_every_table_of_history_is_verified(conn: asyncpg.Connection) -> None:
    rows = await conn.fetch("SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'")
    assert {row["name"] for row in rows} - NOT_HISTORY == set(TABLES)
