"""The worlds these tests play in."""

from collections.abc import AsyncIterator

import pytest

from tests.engine.world import KINDS, World, world_of


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, database: str) -> AsyncIterator[World]:
    """A fresh database and a log: in it with one transaction for all, and in memory with the journal of other logs."""
    async with world_of(request.param, database) as world:
        yield world


@pytest.fixture
async def embedded(database: str) -> AsyncIterator[World]:
    """As `world`, only with the log in the database."""
    async with world_of("postgres", database) as world:
        yield world


@pytest.fixture
async def apart(database: str) -> AsyncIterator[World]:
    """As `world`, only with the log apart from the database."""
    async with world_of("memory", database) as world:
        yield world
