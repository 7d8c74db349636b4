"""Every contract test runs on the log in memory, in Postgres and in Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.log.systems import InKafka, InMemory, InPostgres, System


@pytest.fixture
async def handles() -> AsyncIterator[AsyncExitStack]:
    """What a test opened, closed at its end."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def in_memory() -> InMemory:
    return InMemory()


@pytest.fixture
def in_postgres(empty_database: str, handles: AsyncExitStack) -> InPostgres:
    return InPostgres(empty_database, handles)


@pytest.fixture
def in_kafka(kafka_bootstrap: str, kafka_prefix: str, handles: AsyncExitStack) -> InKafka:
    return InKafka(kafka_bootstrap, kafka_prefix, handles)


@pytest.fixture(params=["in_memory", "in_postgres", pytest.param("in_kafka", marks=pytest.mark.kafka)])
def system(request: pytest.FixtureRequest) -> System:
    found: System = request.getfixturevalue(request.param)
    return found
