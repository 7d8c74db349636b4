"""The test fixtures themselves: databases are migrated, empty, and each test's own."""

import asyncpg
import pytest


@pytest.mark.parametrize("again", [1, 2])
async def test_each_test_gets_a_migrated_database_of_its_own(database: str, again: int) -> None:
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM timers") == 0
        await connection.execute("INSERT INTO timers VALUES ('t', 0, now(), 'k', 'x', '{}')")
    finally:
        await connection.close()
