"""Large values in Kafka: chunks between other records, sets that were never finished, beginnings that are gone."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaProducer

from tests.log.systems import InKafka
from threadlog.engine.log.kafka.chunks import CHUNK_BYTES, Chunk, Joiner, chunk_of, split
from threadlog.engine.log.kafka.log import KafkaLog
from threadlog.engine.log.port import Append, Record, Topic

EVENTS = Topic.EVENTS


def event(value: bytes, partition: int = 0) -> Append:
    return Append(EVENTS, partition, "thread", value)


async def contents(log: KafkaLog, start: int = 0) -> list[Record]:
    found: list[Record] = []
    while batch := await log.read(EVENTS, 0, start):
        found += batch
        start = batch[-1].offset + 1
    return found


async def first_of_tail(log: KafkaLog, start: int, count: int) -> list[Record]:
    found: list[Record] = []
    async with aclosing(log.tail({(EVENTS, 0): start})) as tail:
        while len(found) < count:
            found += await anext(tail)
    return found


@pytest.fixture
async def raw(in_kafka: InKafka) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that knows nothing of chunks, to write what a dying process leaves behind."""
    await in_kafka.open()
    async with AIOKafkaProducer(bootstrap_servers=in_kafka.bootstrap) as producer:
        yield producer


async def put(raw: AIOKafkaProducer, log: InKafka, value: bytes, chunk: Chunk | None = None) -> int:
    sent = await raw.send_and_wait(
        f"{log.prefix}events", value, key=b"thread", partition=0, headers=chunk.headers() if chunk else []
    )
    return int(sent.offset)


def test_a_value_is_split_and_joined() -> None:
    for size in (CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES - 1):
        value = random.Random(size).randbytes(size)
        chunks = split(value)
        joiner = Joiner()
        assert [chunk.index for chunk, _ in chunks] == list(range(chunks[0][0].count))
        assert all(len(part) <= CHUNK_BYTES for _, part in chunks)
        assert [joiner.add(chunk, part) for chunk, part in chunks] == [None] * (len(chunks) - 1) + [value]


def test_a_chunk_is_what_its_headers_tell() -> None:
    for chunk in (Chunk("ab" * 16, 0, 3), Chunk("ab" * 16, 2, 3, first=17)):
        assert chunk_of(chunk.headers()) == chunk
    assert chunk_of([("traceparent", b"00-1")]) is None


def test_a_joiner_answers_only_complete_sets() -> None:
    joiner = Joiner()
    assert joiner.add(Chunk("late", 1, 3), b"b") is None
    assert joiner.add(Chunk("late", 2, 3, first=0), b"c") is None, "its first chunk did not come by"
    assert joiner.add(Chunk("gap", 0, 3), b"a") is None
    assert joiner.add(Chunk("gap", 2, 3, first=3), b"c") is None
    assert joiner.add(Chunk("good", 0, 2), b"a") is None
    assert joiner.add(Chunk("good", 1, 2, first=5), b"b") == b"ab"


def test_a_joiner_forgets_the_oldest_unfinished_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threadlog.engine.log.kafka.chunks.PENDING_BYTES", 10)
    joiner = Joiner()
    for id in ("a", "b", "c"):
        assert joiner.add(Chunk(id, 0, 2), b"1234") is None
    assert joiner.add(Chunk("a", 1, 2, first=0), b"!") is None, "forgotten: to be read back"
    assert joiner.add(Chunk("b", 1, 2, first=1), b"!") == b"1234!"
    assert joiner.add(Chunk("c", 1, 2, first=2), b"!") == b"1234!"


@pytest.mark.kafka
async def test_a_set_whose_producer_died_is_ignored(in_kafka: InKafka, raw: AIOKafkaProducer) -> None:
    log = await in_kafka.open()
    await put(raw, in_kafka, b"abandoned", Chunk("dead", 0, 3))
    await put(raw, in_kafka, b"whole")
    await put(raw, in_kafka, b"abandoned", Chunk("dead", 1, 3))
    (last,) = await log.append([event(b"last")])

    assert [record.value for record in await contents(log)] == [b"whole", b"last"]
    assert [record.value for record in await first_of_tail(log, 0, 2)] == [b"whole", b"last"]
    assert await log.read(EVENTS, 0, last + 1) == []


@pytest.mark.kafka
async def test_chunks_of_several_producers_may_lie_between_each_other(in_kafka: InKafka, raw: AIOKafkaProducer) -> None:
    log = await in_kafka.open()
    a = await put(raw, in_kafka, b"a0", Chunk("a", 0, 3))
    b = await put(raw, in_kafka, b"b0", Chunk("b", 0, 2))
    await put(raw, in_kafka, b"a1", Chunk("a", 1, 3))
    await put(raw, in_kafka, b"small")
    b_last = await put(raw, in_kafka, b"b1", Chunk("b", 1, 2, first=b))
    a_last = await put(raw, in_kafka, b"a2", Chunk("a", 2, 3, first=a))

    wanted = [(b_last - 1, b"small"), (b_last, b"b0b1"), (a_last, b"a0a1a2")]
    assert [(r.offset, r.value) for r in await contents(log)] == wanted
    for start in range(a_last + 1):
        left = [(offset, value) for offset, value in wanted if offset >= start]
        assert [(r.offset, r.value) for r in await contents(log, start)] == left
        assert [(r.offset, r.value) for r in await first_of_tail(log, start, len(left))] == left


@pytest.mark.kafka
async def test_a_value_whose_first_chunk_retention_has_taken_does_not_count(in_kafka: InKafka) -> None:
    log = await in_kafka.open()
    (large, small) = await log.append([event(os.urandom(3 * CHUNK_BYTES)), event(b"small")])
    assert large == 2
    await in_kafka.trim(EVENTS, 0, 1)

    assert [record.value for record in await contents(log, 1)] == [b"small"]
    assert [record.offset for record in await first_of_tail(log, 0, 1)] == [small]


@pytest.mark.kafka
async def test_a_tail_reads_back_what_it_could_not_keep(in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threadlog.engine.log.kafka.chunks.PENDING_BYTES", CHUNK_BYTES)
    log, other = await in_kafka.open(), await in_kafka.open()
    values = [bytes([i]) * (4 * CHUNK_BYTES) for i in range(4)]
    async with aclosing(log.tail({(EVENTS, 0): 0})) as tail:
        await asyncio.gather(*((log if i % 2 else other).append([event(value)]) for i, value in enumerate(values)))
        found: list[Record] = []
        while len(found) < 4:
            found += await anext(tail)
    assert sorted(record.value for record in found) == values


@pytest.mark.kafka
async def test_a_value_of_forty_megabytes(in_kafka: InKafka) -> None:
    log = await in_kafka.open()
    value = random.Random(1).randbytes(40 * 1024 * 1024)
    (offset,) = await log.append([event(value)])
    (record,) = await log.read(EVENTS, 0, offset)
    assert record.value == value
