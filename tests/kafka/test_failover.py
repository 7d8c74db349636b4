"""Three nodes, one of them killed: nothing acknowledged is lost, nothing is repeated, and work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing

import pytest

from tests.kafka.test_topics import settings_of
from tests.kafka_fixture import require_kafka
from tests.log.systems import PARTITIONS, InKafka
from tests.waiting import eventually
from threadlog.deploy.kafka import KafkaCluster
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Record, Topic

PATIENCE_SECONDS = 150.0  # within the time-out
pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("kafka-three-nodes"), pytest.mark.timeout(180)]

EVENTS = Topic.EVENTS


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[KafkaCluster]:
    require_kafka()
    cluster = KafkaCluster(
        3,
        settings={
            "max.incremental.fetch.session.cache.slots": 1,  # for one fetcher only: the others have to do without
            "min.insync.replicas": 1,  # as brokers come: the topics have to ask for more
        },
    )
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_appends_and_tails_go_on_when_a_node_goes(three_nodes: KafkaCluster, kafka_prefix: str, how: str) -> None:
    async with AsyncExitStack() as handles:
        system = InKafka(three_nodes.bootstrap, kafka_prefix, handles, delivery_seconds=30.0)
        reader, writer = await system.open(), await system.open()
        settings = await settings_of(system.bootstrap, f"{kafka_prefix}events")
        assert settings["min.insync.replicas"] == "2", "three copies are these brokers' default: one may be away"

        acknowledged: dict[tuple[int, int], bytes] = {}
        unknown: set[bytes] = set()
        stop = asyncio.Event()

        async def appender(partition: int) -> None:
            number = 0
            while not stop.is_set():
                value = b"%d:%06d" % (partition, number)
                number += 1
                try:
                    (offset,) = await writer.append([Append(EVENTS, partition, "k", value)])
                    acknowledged[partition, offset] = value
                except AppendUnknown:
                    unknown.add(value)
                except LogUnavailable:
                    pass

        seen: list[list[Record]] = [[], []]

        async def follow(records: list[Record]) -> None:
            async with aclosing(reader.tail({(EVENTS, p): 0 for p in range(PARTITIONS)})) as tail:
                async for batch in tail:
                    records += batch

        tails = [asyncio.create_task(follow(records)) for records in seen]
        appending = [asyncio.create_task(appender(p)) for p in range(PARTITIONS)]

        def progress(count: int) -> bool:
            return all(sum(p == partition for p, _ in acknowledged) >= count for partition in range(PARTITIONS))

        await eventually(lambda: progress(20), within=PATIENCE_SECONDS)
        if how == "killed":
            three_nodes.kill(2)
            await eventually(lambda: progress(40), within=PATIENCE_SECONDS)
            for _ in range(2):
                already = len(acknowledged)
                await eventually(lambda already=already: len(acknowledged) > already + 50, within=PATIENCE_SECONDS)
            await asyncio.to_thread(three_nodes.restart, 2)
        else:
            await asyncio.to_thread(three_nodes.restart, 3)
        already = len(acknowledged)
        await eventually(lambda: len(acknowledged) > already + 50, within=PATIENCE_SECONDS)
        stop.set()
        await asyncio.gather(*appending)

        # All that is acknowledged is there, at its offset, in order, once; and nothing that was refused.
        ends = {p: (await reader.bounds(EVENTS, p))[1] for p in range(PARTITIONS)}
        await eventually(
            lambda: all(
                max((r.offset for r in records if r.partition == p), default=-1) == ends[p] - 1
                for records in seen
                for p in range(PARTITIONS)
            ),
            within=PATIENCE_SECONDS,
        )
        for tail in tails:
            tail.cancel()
        await asyncio.gather(*tails, return_exceptions=True)
        for records in seen:
            there = {(record.partition, record.offset): record.value for record in records}
            assert len(there) == len(records), "no offset twice"
            assert acknowledged.items() <= there.items()
            assert set(there.values()) - set(acknowledged.values()) <= unknown
            for partition in range(PARTITIONS):
                values = [record.value for record in records if record.partition == partition]
                assert values == sorted(values), "in order"
                assert len(values) == len(set(values)), "once: the producer is idempotent"
