"""The engine's harness, with the log in the database or apart from it."""

from collections.abc import AsyncIterator

import pytest

from tests.engine.engine_harness import KINDS, EngineHarness, engine_harness


@pytest.fixture(params=KINDS)
async def harness(request: pytest.FixtureRequest, database: str) -> AsyncIterator[EngineHarness]:
    """A fresh database and a log: in it with one transaction for all, and in memory with the journal of other logs."""
    async with engine_harness(request.param, database) as harness:
        yield harness


@pytest.fixture
async def embedded(database: str) -> AsyncIterator[EngineHarness]:
    """As `harness`, only with the log in the database."""
    async with engine_harness("postgres", database) as harness:
        yield harness


@pytest.fixture
async def apart(database: str) -> AsyncIterator[EngineHarness]:
    """As `harness`, only with the log apart from the database."""
    async with engine_harness("memory", database) as harness:
        yield harness
