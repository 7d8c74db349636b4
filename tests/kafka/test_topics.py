"""The topics threadlog makes for itself in Kafka."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.log.systems import PARTITIONS, InKafka
from threadlog.engine.log.kafka.log import KafkaLog
from threadlog.engine.log.port import Append, LogUnavailable, Topic

pytestmark = pytest.mark.kafka


async def settings_of(bootstrap: str, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((_, _, _, _, entries),) = answer.resources
        return {entry[0]: entry[1] for entry in entries}
    finally:
        await admin.close()


async def test_topics_are_created_with_the_retention_each_needs(in_kafka: InKafka) -> None:
    await in_kafka.open(commands_seconds=2 * 86_400, stream_seconds=4 * 3600)
    found = {topic: await settings_of(in_kafka.bootstrap, f"{in_kafka.prefix}{topic}") for topic in Topic}

    assert all(settings["cleanup.policy"] == "delete" for settings in found.values())
    assert all(settings["message.timestamp.type"] == "LogAppendTime" for settings in found.values())
    assert found[Topic.COMMANDS]["retention.ms"] == str(2 * 86_400_000)
    assert found[Topic.STREAM]["retention.ms"] == str(4 * 3_600_000)
    for topic in (Topic.EVENTS, Topic.VALUES):
        assert (found[topic]["retention.ms"], found[topic]["retention.bytes"]) == ("-1", "-1"), "kept for ever"
    for topic in (Topic.COMMANDS, Topic.STREAM):
        assert int(found[topic]["segment.ms"]) <= int(found[topic]["retention.ms"]) / 4, "segments are what is deleted"


async def test_processes_that_start_together_create_the_topics_once(in_kafka: InKafka) -> None:
    logs = await asyncio.gather(*(in_kafka.open() for _ in range(4)))
    (offset,) = await logs[0].append([Append(Topic.EVENTS, 0, "k", b"x")])
    assert [record.value for record in await logs[3].read(Topic.EVENTS, 0, offset)] == [b"x"]


async def test_another_number_of_partitions_is_refused_with_both_numbers(in_kafka: InKafka) -> None:
    await in_kafka.open()
    with pytest.raises(ValueError, match=f"has {PARTITIONS} partitions, not 7"):
        await KafkaLog.create(in_kafka.bootstrap, prefix=in_kafka.prefix, partitions=7)


async def test_more_copies_than_brokers_is_an_error_that_says_so(in_kafka: InKafka) -> None:
    with pytest.raises(LogUnavailable, match=r"did not create the topic .*replication factor"):
        await in_kafka.open(replication_factor=3)


async def test_a_broker_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1 can't be used"):
        await KafkaLog.create("127.0.0.1:1", partitions=1)
