"""Records that threadlog did not write, and those a topic does not take: no reader or other append stops at them."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import aclosing
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.kafka.test_topics import settings_of
from tests.log.systems import InKafka
from tests.waiting import eventually
from threadlog.engine.log.kafka import log as kafka
from threadlog.engine.log.port import Append, Record, RecordRefused, Topic

pytestmark = pytest.mark.kafka

COMMANDS = Topic.COMMANDS


async def test_whatever_others_append_readers_go_on(in_kafka: InKafka) -> None:
    log = await in_kafka.open()
    topic = f"{in_kafka.prefix}commands"
    assert (await settings_of(in_kafka.bootstrap, topic))["compression.type"] == "uncompressed"
    foreign: list[dict[str, Any]] = [
        {"value": None, "key": b"k"},
        {"value": b"", "key": b"\xff\xfe"},
        {"value": b"x", "headers": [("chunk", b"no chunk")]},
        {"value": b"x", "headers": [("chunk", b"\xff:1:2")]},
        {"value": b"x", "headers": [("chunk", b"id:-1:0"), ("chunk-first", b"-7")]},
        {"value": b"x", "headers": [("chunk", b"id:7:8"), ("chunk-first", b"99999999")]},
        {"value": b"x", "headers": [("other", b"")]},
    ]
    for codec in (None, "gzip"):
        producer = AIOKafkaProducer(bootstrap_servers=in_kafka.bootstrap, compression_type=codec)
        await producer.start()
        try:
            for one in foreign:
                await producer.send_and_wait(topic, partition=0, **one)
        finally:
            await producer.stop()
    (last,) = await log.append([Append(COMMANDS, 0, "k", b"ours")])

    seen: list[Record] = []

    async def follow() -> None:
        async with aclosing(log.tail({(COMMANDS, 0): 0})) as tail:
            async for records in tail:
                seen.extend(records)

    following = asyncio.create_task(follow())
    await eventually(lambda: bool(seen) and seen[-1].offset == last)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    read = await log.read(COMMANDS, 0, 0)
    assert [(record.offset, record.value) for record in read] == [(record.offset, record.value) for record in seen]
    assert seen[-1].value == b"ours" and len(seen) > len(foreign), "what can be told is"


def test_a_batch_that_cannot_be_read_is_passed_over() -> None:
    class Batch:
        base_offset = 7

        def __iter__(self) -> Any:
            yield type("R", (), {"offset": 7})
            raise gzip.BadGzipFile("no")

    assert [record.offset for record in kafka_records(Batch(), 0)] == [7]


def kafka_records(batch: Any, start: int) -> list[Any]:
    from threadlog.engine.log.kafka.fetch import _records

    return _records(batch, start)


async def test_a_record_that_a_topic_does_not_take_is_refused_and_its_batch_is_not(
    in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka.topic_settings

    def narrow(topic: Topic, **names: Any) -> dict[str, str]:
        return settings(topic, **names) | {"max.message.bytes": "20000"}

    monkeypatch.setattr(kafka, "topic_settings", narrow)
    log = await in_kafka.open()
    fits, large = b"f" * 9_000, b"l" * 30_000
    calls = [log.append([Append(COMMANDS, 0, "k", fits)]) for _ in range(20)]
    calls.insert(7, log.append([Append(COMMANDS, 0, "k", large)]))
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[7], RecordRefused)
    offsets = [call[0] for call in done if isinstance(call, list)]
    assert len(offsets) == 20 == len(set(offsets))
    # And together with others in one call.
    with pytest.raises(RecordRefused):
        await log.append([Append(COMMANDS, 0, "k", large), Append(COMMANDS, 0, "k", fits)])
    await log.append([Append(COMMANDS, 0, "k", b"after")])
    read = await log.read(COMMANDS, 0, 0)
    assert [record.value for record in read if record.offset in offsets] == [fits] * 20
    assert read[-1].value == b"after"
