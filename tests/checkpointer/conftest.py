"""A harness with a database that all tests here share: each works on threads of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.checkpointer.checkpointer_harness import CheckpointerHarness
from tests.databases import new_database


@pytest.fixture(scope="session")
async def pool(postgres_uri: str, _template: str) -> AsyncIterator[asyncpg.Pool]:
    async with (
        new_database(postgres_uri, template=_template, prefix="checkpointer") as dsn,
        asyncpg.create_pool(dsn, min_size=1, max_size=4) as made,
    ):
        yield made


@pytest.fixture
async def harness(pool: asyncpg.Pool) -> CheckpointerHarness:
    return CheckpointerHarness(pool)
