"""Every contract test of subscribers runs on the log in Postgres and in Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.subscribers.systems import InKafka, InPostgres, System


@pytest.fixture
def in_postgres(empty_database: str, tmp_path: Path) -> InPostgres:
    return InPostgres(empty_database, tmp_path)


@pytest.fixture
def in_kafka(kafka_bootstrap: str, kafka_prefix: str, tmp_path: Path) -> InKafka:
    return InKafka(kafka_bootstrap, kafka_prefix, tmp_path)


@pytest.fixture(params=["in_postgres", pytest.param("in_kafka", marks=pytest.mark.kafka)])
def unopened(request: pytest.FixtureRequest) -> System:
    found: System = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def system(unopened: System) -> AsyncIterator[System]:
    async with AsyncExitStack() as opened:
        await unopened.open(opened)
        yield unopened


@pytest.fixture
async def postgres(in_postgres: InPostgres) -> AsyncIterator[InPostgres]:
    """For what only the log in Postgres has: its own transport."""
    async with AsyncExitStack() as opened:
        await in_postgres.open(opened)
        yield in_postgres


@pytest.fixture
async def opened_kafka(in_kafka: InKafka) -> AsyncIterator[None]:
    async with AsyncExitStack() as opened:
        await in_kafka.open(opened)
        yield
