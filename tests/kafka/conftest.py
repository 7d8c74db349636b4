"""A log in the session's Kafka, under topics of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.log.systems import InKafka


@pytest.fixture
async def in_kafka(kafka_bootstrap: str, kafka_prefix: str) -> AsyncIterator[InKafka]:
    async with AsyncExitStack() as handles:
        yield InKafka(kafka_bootstrap, kafka_prefix, handles)
