"""A desk with a database that all tests here share: each works on threads of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.checkpointer.desk import Desk
from tests.conftest import _execute, database_of


@pytest.fixture(scope="session")
async def pool(postgres_uri: str, _template: str, worker_id: str) -> AsyncIterator[asyncpg.Pool]:
    name = f"checkpointer_{worker_id}"
    await _execute(postgres_uri, f"CREATE DATABASE {name} TEMPLATE {_template} STRATEGY file_copy")
    async with asyncpg.create_pool(database_of(postgres_uri, name), min_size=1, max_size=4) as made:
        yield made
    await _execute(postgres_uri, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def desk(pool: asyncpg.Pool) -> Desk:
    return Desk(pool)
