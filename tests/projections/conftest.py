"""A connection to a fresh database."""

from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()
