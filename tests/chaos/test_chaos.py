"""Fifty runs in flight, every process is killed or restarted: nothing is lost, nothing happens twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.chaos_run import chaos_run, shuffled
from tests.kafka_fixture import require_kafka
from threadlog.deploy.kafka import KafkaCluster

SEED = 20

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture
def broker(mode: str) -> Iterator[KafkaCluster | None]:
    """A node of the test's own, as it is going to be killed; none in embedded mode."""
    if mode != "kafka":
        yield None
        return
    require_kafka()
    with KafkaCluster() as cluster:
        yield cluster


async def test_nothing_is_lost_and_nothing_happens_twice(mode: str, broker: KafkaCluster | None) -> None:
    if mode == "given":
        pytest.skip("somebody's server is not for us to break")
    async with chaos_run(mode, SEED, broker) as one:
        await one.run(shuffled(mode, SEED))
        account = await one.settle()
    # The faults have hit what they were to hit.
    assert any(run.lost for run in account.runs.values())
    assert one.load.outages
