"""A desk with a database of its own."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.checkpointer.desk import Desk


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as made:
        yield made


@pytest.fixture
async def desk(pool: asyncpg.Pool) -> Desk:
    return Desk(pool)
