"""The topic of data keys in a real Kafka: what is deleted leaves the brokers' files."""

from __future__ import annotations

import uuid

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from tests.waiting import eventually
from threadlog.engine.encryption.keys import WrappedKey
from threadlog.engine.log.kafka.keys import SETTINGS, KeyTopic

pytestmark = pytest.mark.kafka
DESTROYED, KEPT = WrappedKey("thread", b"destroyd", b"wrapped", "name"), WrappedKey("other", b"kept key", b"w", "name")
_AT_ONCE = {"segment.ms": "1000", "max.compaction.lag.ms": "1000", "min.cleanable.dirty.ratio": "0.001"}


async def values(bootstrap: str, topic: str) -> list[bytes | None]:
    """Of all records that the brokers still have."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        found: list[bytes | None] = []
        while await consumer.position(place) < end:
            found += [record.value for record in (await consumer.getmany(place, timeout_ms=500)).get(place, ())]
        return found
    finally:
        await consumer.stop()


async def test_a_destroyed_key_is_compacted_away_and_the_others_stay(kafka_bootstrap: str) -> None:
    topic = KeyTopic(
        kafka_bootstrap,
        prefix=f"test-{uuid.uuid4().hex[:12]}.",
        replication_factor=-1,
        settings={**SETTINGS, **_AT_ONCE},
    )
    try:
        await topic.add(DESTROYED)
        await topic.add(KEPT)
        assert await topic.read() == [DESTROYED, KEPT]
        await topic.delete([DESTROYED.id])
        assert await topic.read() == [KEPT]

        async def compacted() -> bool:
            await topic.add(KEPT)  # a segment is closed by what comes after it
            left = await values(kafka_bootstrap, topic.name)
            return not any(value is not None and b'"thread"' in value for value in left)

        await eventually(compacted, within=120, says="the key's record is gone")
        assert await topic.read() == [KEPT]
    finally:
        await topic.aclose()
