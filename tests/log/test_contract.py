"""The log port's contract, on every adapter: order, offsets, tails, large values, retention."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import pairwise

import pytest

from tests.log.systems import PARTITIONS, System
from tests.waiting import eventually
from threadlog.engine.log.port import Append, Log, LogUnavailable, OffsetGone, Record, Topic

COMMANDS, EVENTS, VALUES, STREAM = Topic.COMMANDS, Topic.EVENTS, Topic.VALUES, Topic.STREAM


def event(value: bytes | str | int, partition: int = 0) -> Append:
    return Append(EVENTS, partition, "thread", value if isinstance(value, bytes) else str(value).encode())


async def append_each(log: Log, appends: Iterable[Append]) -> list[int]:
    return [offset for append in appends for offset in await log.append([append])]


async def take(tail: AsyncGenerator[list[Record], None], count: int) -> list[Record]:
    """Exactly so many records from a tail."""
    records: list[Record] = []
    while len(records) < count:
        batch = await anext(tail)
        assert batch, "batches are never empty"
        records += batch
    assert len(records) == count
    return records


async def everything(log: Log, topic: Topic, partition: int) -> list[Record]:
    records: list[Record] = []
    start, end = await log.bounds(topic, partition)
    while batch := await log.read(topic, partition, start, end=end):
        records += batch
        start = batch[-1].offset + 1
    return records


def values(records: Iterable[Record]) -> list[bytes]:
    return [record.value for record in records]


async def test_a_record_is_read_back_as_it_was_appended(system: System) -> None:
    log = await system.open()
    before = time.time_ns() // 1_000_000
    (offset,) = await log.append([Append(COMMANDS, 3, "thread-1 ä€😀", b"\x00\xff {}")])

    (record,) = await (await system.open()).read(COMMANDS, 3, 0)

    assert (record.topic, record.partition, record.offset) == (COMMANDS, 3, offset)
    assert (record.key, record.value) == ("thread-1 ä€😀", b"\x00\xff {}")
    assert isinstance(record.value, bytes)
    assert before - 1000 <= record.timestamp_ms <= time.time_ns() // 1_000_000 + 1000


async def test_an_empty_value_is_a_record(system: System) -> None:
    log = await system.open()
    await log.append([event(b""), event(b"x"), event(b"")])
    assert values(await log.read(EVENTS, 0, 0)) == [b"", b"x", b""]


async def test_offsets_of_a_partition_increase_and_are_its_own(system: System) -> None:
    log = await system.open()
    offsets = await append_each(log, [event(i) for i in range(5)])
    elsewhere = await append_each(log, [event(i, partition=1) for i in range(2)])

    assert all(a < b for a, b in pairwise(offsets))
    assert elsewhere[0] == offsets[0]
    assert [record.offset for record in await log.read(EVENTS, 0, 0)] == offsets


async def test_an_append_over_topics_and_partitions_answers_in_the_order_given(system: System) -> None:
    log = await system.open()
    appends = [
        Append(STREAM, 2, "a", b"0"),
        Append(EVENTS, 1, "a", b"1"),
        Append(COMMANDS, 1, "b", b"2"),
        Append(EVENTS, 0, "c", b"3"),
        Append(EVENTS, 1, "b", b"4"),
        Append(VALUES, 3, "a", b"5"),
        Append(STREAM, 2, "d", b"6"),
    ]
    await log.append([event(b"earlier", partition=1)])

    offsets = await log.append(appends)

    for append, offset in zip(appends, offsets, strict=True):
        record = (await log.read(append.topic, append.partition, offset))[0]
        assert (record.offset, record.key, record.value) == (offset, append.key, append.value)
    assert offsets[1] < offsets[4] and offsets[0] < offsets[6]


async def test_appending_nothing_is_no_error(system: System) -> None:
    assert await (await system.open()).append([]) == []


async def test_a_partition_the_log_does_not_have_is_refused(system: System) -> None:
    log = await system.open()
    assert log.partitions == PARTITIONS
    for partition in (-1, PARTITIONS):
        with pytest.raises(ValueError, match="partition"):
            await log.append([event(b"good"), event(b"bad", partition=partition)])
    assert await log.read(EVENTS, 0, 0) == []


async def test_overlapping_appends_of_one_process_keep_their_order(system: System) -> None:
    log = await system.open()
    appends = [[event(f"{i}.{j}") for j in range(i % 4 + 1)] for i in range(200)]

    answers = await asyncio.gather(*(log.append(one) for one in appends))

    wanted = [append.value for one in appends for append in one]
    assert values(await everything(log, EVENTS, 0)) == wanted
    flat = [offset for offsets in answers for offset in offsets]
    assert flat == sorted(flat)


async def test_overlapping_appends_of_any_mixture_keep_the_order_of_every_partition(system: System) -> None:
    log = await system.open()
    chance = random.Random(4711)
    wanted: dict[tuple[Topic, int], list[bytes]] = {}
    after_frames: set[bytes] = set()  # commands that may come later: their calls have frames
    pending = []
    for i in range(300):
        topics = chance.choice([[STREAM], [COMMANDS, EVENTS], [STREAM, COMMANDS], [STREAM, EVENTS, VALUES]])
        one = [Append(t, chance.randrange(2), "k", f"{i}.{j}".encode()) for j, t in enumerate(topics)]
        for append in one:
            wanted.setdefault((append.topic, append.partition), []).append(append.value)
            if append.topic is COMMANDS and STREAM in topics:
                after_frames.add(append.value)
        pending.append(asyncio.create_task(log.append(one)))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    await asyncio.gather(*pending)

    for (topic, partition), expected in wanted.items():
        found = values(await everything(log, topic, partition))
        assert [one for one in found if one not in after_frames] == [one for one in expected if one not in after_frames]
        assert sorted(found) == sorted(expected)


async def test_appenders_of_several_processes_each_keep_their_order_and_lose_nothing(system: System) -> None:
    logs = [await system.open() for _ in range(3)]

    async def appender(name: int, log: Log) -> dict[int, bytes]:
        there = {}
        for i in range(40):
            value = f"{name}:{i:03}".encode()
            (offset, _) = await log.append([event(value), event(value, partition=1)])
            there[offset] = value
        return there

    there = await asyncio.gather(*(appender(name, log) for name, log in enumerate(logs)))

    records = await everything(logs[0], EVENTS, 0)
    assert {record.offset: record.value for record in records} == {k: v for one in there for k, v in one.items()}
    assert len(records) == 120
    for name in range(3):
        mine = [record.value for record in records if record.value.startswith(f"{name}:".encode())]
        assert mine == sorted(mine)


async def test_a_caller_that_gives_up_does_not_disturb_the_others(system: System) -> None:
    log = await system.open()
    pending = [asyncio.create_task(log.append([event(i)])) for i in range(20)]
    await asyncio.sleep(0)
    for one in pending[1::2]:
        one.cancel()
    answers = await asyncio.gather(*pending, return_exceptions=True)

    kept = {i: answer[0] for i, answer in enumerate(answers) if not isinstance(answer, BaseException)}
    assert set(range(0, 20, 2)) <= set(kept)
    records = {record.offset: record.value for record in await everything(log, EVENTS, 0)}
    for i, offset in kept.items():
        assert records[offset] == str(i).encode()
    assert list(records.values()) == sorted(records.values(), key=int)


async def test_reading_starts_anywhere_and_ends_where_asked(system: System) -> None:
    log = await system.open()
    offsets = await log.append([event(i) for i in range(10)])

    assert values(await log.read(EVENTS, 0, offsets[7])) == [b"7", b"8", b"9"]
    assert values(await log.read(EVENTS, 0, offsets[2], end=offsets[4])) == [b"2", b"3"]
    assert await log.read(EVENTS, 0, offsets[4], end=offsets[4]) == []
    assert await log.read(EVENTS, 0, offsets[-1] + 1) == []
    assert await log.read(EVENTS, 0, offsets[-1] + 1000) == []
    assert await log.read(EVENTS, 2, 0) == []


async def test_reading_stops_at_the_bytes_asked_for_but_gives_at_least_one_record(system: System) -> None:
    log = await system.open()
    await log.append([event(bytes([i]) * 1000) for i in range(10)])

    assert len(await log.read(EVENTS, 0, 0, max_bytes=3000)) == 3
    assert len(await log.read(EVENTS, 0, 0, max_bytes=3999)) == 3
    assert len(await log.read(EVENTS, 0, 0, max_bytes=1)) == 1


async def test_bounds_are_the_first_and_the_next_offset(system: System) -> None:
    log = await system.open()
    assert await log.bounds(EVENTS, 1) == (0, 0)
    offsets = await log.append([event(i, partition=1) for i in range(3)])
    assert await log.bounds(EVENTS, 1) == (offsets[0], offsets[-1] + 1)


async def test_a_tail_starts_anywhere(system: System) -> None:
    log = await system.open()
    offsets = await log.append([event(i) for i in range(10)])

    async with aclosing(log.tail({(EVENTS, 0): 0})) as tail:
        assert [record.offset for record in await take(tail, 10)] == offsets
    async with aclosing(log.tail({(EVENTS, 0): offsets[6]})) as tail:
        assert values(await take(tail, 4)) == [b"6", b"7", b"8", b"9"]
    async with aclosing(log.tail({(EVENTS, 0): offsets[-1] + 1})) as tail:
        waiting = asyncio.create_task(take(tail, 1))
        await log.append([event("new")])
        assert values(await waiting) == [b"new"]


async def test_a_waiting_tail_is_woken_by_what_another_process_appends(system: System) -> None:
    reader, writer = await system.open(), await system.open()
    async with aclosing(reader.tail({(EVENTS, 0): 0, (STREAM, 1): 0, (COMMANDS, 2): 0})) as tail:
        for i in range(5):
            for append in (event(i), Append(STREAM, 1, "k", b"s%d" % i), Append(COMMANDS, 2, "k", b"c%d" % i)):
                waiting = asyncio.create_task(take(tail, 1))
                await asyncio.sleep(0)
                (offset,) = await writer.append([append])
                (record,) = await waiting
                assert (record.topic, record.partition, record.offset) == (append.topic, append.partition, offset)
                assert record.value == append.value


async def test_a_tail_of_an_empty_log_waits_for_the_first_record(system: System) -> None:
    reader, writer = await system.open(), await system.open()
    async with aclosing(reader.tail({(t, p): 0 for t in (EVENTS, STREAM) for p in range(PARTITIONS)})) as tail:
        waiting = asyncio.create_task(take(tail, 2))
        await asyncio.sleep(0)
        await writer.append([event("x", partition=3), Append(STREAM, 3, "k", b"y")])
        assert sorted(values(await waiting)) == [b"x", b"y"]


async def test_a_tail_of_values_gets_there_too(system: System) -> None:
    log = await system.open()
    async with aclosing(log.tail({(VALUES, 0): 0})) as tail:
        await log.append([Append(VALUES, 0, "k", b"1")])
        assert values(await take(tail, 1)) == [b"1"]
        waiting = asyncio.create_task(take(tail, 1))
        await log.append([Append(VALUES, 0, "k", b"2")])
        assert values(await waiting) == [b"2"]


async def test_a_tail_beyond_the_end_gets_what_comes_from_there_on(system: System) -> None:
    log = await system.open()
    await log.append([event(0), event(1)])
    async with aclosing(log.tail({(EVENTS, 0): 4, (EVENTS, 1): 0})) as tail:
        waiting = asyncio.create_task(take(tail, 2))
        await log.append([event("seen", partition=1)])
        await asyncio.sleep(0)
        await append_each(log, [event(i) for i in range(2, 5)])
        assert sorted(values(await waiting)) == [b"4", b"seen"]


async def test_many_tails_each_get_every_record_once_and_in_order(system: System) -> None:
    reader, writer = await system.open(), await system.open()
    early = [event(i, partition=i % 2) for i in range(100)]
    late = [event(i, partition=i % 2) for i in range(100, 300)]
    offsets = await writer.append(early)

    async def follow(places: list[int], start: int) -> list[Record]:
        wanted = sum(append.partition in places for append in early + late) - start * len(places)
        async with aclosing(reader.tail({(EVENTS, p): offsets[2 * start + p] for p in places})) as tail:
            return await take(tail, wanted)

    count = 4 if type(reader).__name__ == "KafkaLog" else 20  # Kafka: connections of its own per tail
    tails = [asyncio.create_task(follow([[0], [1], [0, 1]][i % 3], start=(0, 7, 49)[i % 3])) for i in range(count)]
    for i in range(0, len(late), 10):
        await writer.append(late[i : i + 10])
        await asyncio.sleep(0)
    everyone = await asyncio.gather(*tails)

    for i, records in enumerate(everyone):
        for partition in [[0], [1], [0, 1]][i % 3]:
            got = [int(record.value) for record in records if record.partition == partition]
            assert got == list(range(2 * (0, 7, 49)[i % 3] + partition, 300, 2))


async def test_a_slow_tail_loses_nothing_while_others_run_ahead(system: System) -> None:
    log = await system.open()
    async with aclosing(log.tail({(EVENTS, 0): 0})) as slow, aclosing(log.tail({(EVENTS, 0): 0})) as fast:
        await log.append([event(0)])
        assert values(await take(slow, 1)) == values(await take(fast, 1)) == [b"0"]
        for i in range(1, 3001, 250):
            await log.append([event(b"%d:%s" % (j, b"x" * 1000)) for j in range(i, i + 250)])
            await take(fast, 250)
        numbers = [int(value.partition(b":")[0]) for value in values(await take(slow, 3000))]
    assert numbers == list(range(1, 3001))


async def test_a_value_of_many_megabytes_is_read_and_followed_like_any_other(system: System) -> None:
    log = await system.open()
    large = os.urandom(5 * 1024 * 1024 + 1)
    appends = [event("before"), event(large), event("after")]
    async with aclosing((await system.open()).tail({(EVENTS, 0): 0})) as tail:
        offsets = await log.append(appends)
        assert values(await take(tail, 3)) == [append.value for append in appends]

    assert offsets == sorted(set(offsets))
    assert values(await everything(log, EVENTS, 0)) == [append.value for append in appends]
    (record,) = await log.read(EVENTS, 0, offsets[1], end=offsets[1] + 1)
    assert (record.offset, record.value) == (offsets[1], large)
    assert len(await log.read(EVENTS, 0, offsets[0], max_bytes=4096)) == 1


async def test_large_values_of_overlapping_appends_keep_their_places(system: System) -> None:
    log, other = await system.open(), await system.open()
    mine = [event(bytes([65 + i]) * (700_000 if i % 2 else 10)) for i in range(6)]
    theirs = [event(bytes([97 + i]) * (1_500_000 if i % 3 else 10)) for i in range(6)]

    answers = await asyncio.gather(*(log.append([a]) for a in mine), *(other.append([a]) for a in theirs))

    records = await everything(log, EVENTS, 0)
    by_offset = {record.offset: record.value for record in records}
    for append, (offset,) in zip(mine + theirs, answers, strict=True):
        assert by_offset[offset] == append.value
    assert len(records) == 12
    assert [value[:1] for value in values(records) if value[:1].isupper()] == [b"A", b"B", b"C", b"D", b"E", b"F"]


async def test_a_tail_or_a_read_from_any_offset_gets_the_whole_of_a_large_value(system: System) -> None:
    log = await system.open()
    (before, at, after) = await log.append([event("before"), event(b"x" * 2_000_000), event("after")])
    for start in range(before + 1, at + 1):
        assert [record.offset for record in await log.read(EVENTS, 0, start)] == [at, after]
        async with aclosing(log.tail({(EVENTS, 0): start})) as tail:
            records = await take(tail, 2)
            assert [record.offset for record in records] == [at, after]
            assert len(records[0].value) == 2_000_000


async def test_offsets_below_the_first_retained_one_are_gone(system: System) -> None:
    log = await system.open()
    offsets = await log.append([event(i) for i in range(10)])
    await system.trim(EVENTS, 0, offsets[4])

    assert await log.bounds(EVENTS, 0) == (offsets[4], offsets[9] + 1)
    with pytest.raises(OffsetGone) as gone:
        await log.read(EVENTS, 0, offsets[3])
    assert (gone.value.asked, gone.value.first) == (offsets[3], offsets[4])
    assert len(await log.read(EVENTS, 0, offsets[4])) == 6


async def test_a_tail_from_an_offset_that_is_gone_starts_at_the_first_retained_one(system: System) -> None:
    log = await system.open()
    offsets = await log.append([event(i) for i in range(10)])
    await system.trim(EVENTS, 0, offsets[4])
    async with aclosing(log.tail({(EVENTS, 0): 0, (EVENTS, 1): 0})) as tail:
        assert [record.offset for record in await take(tail, 6)] == offsets[4:]
        await log.append([event("new")])
        assert values(await take(tail, 1)) == [b"new"]


async def test_offsets_go_on_where_they_were_after_all_records_are_gone(system: System) -> None:
    log = await system.open()
    offsets = await log.append([event(i) for i in range(3)])
    await system.trim(EVENTS, 0, offsets[-1] + 1)

    assert await log.bounds(EVENTS, 0) == (offsets[-1] + 1, offsets[-1] + 1)
    with pytest.raises(OffsetGone):
        await log.read(EVENTS, 0, offsets[-1])
    async with aclosing(log.tail({(EVENTS, 0): 0})) as tail:
        (offset,) = await log.append([event("new")])
        assert offset == offsets[-1] + 1
        assert values(await take(tail, 1)) == [b"new"]


async def test_a_tail_that_is_closed_leaves_the_others_alone(system: System) -> None:
    log = await system.open()
    async with aclosing(log.tail({(EVENTS, 0): 0})) as staying:
        async with aclosing(log.tail({(EVENTS, 0): 0})) as leaving:
            await log.append([event(0)])
            await take(leaving, 1)
        cancelled = asyncio.create_task(anext(log.tail({(EVENTS, 0): 1})))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await log.append([event(1)])
        assert values(await take(staying, 2)) == [b"0", b"1"]


@pytest.mark.parametrize("system", ["in_postgres", pytest.param("in_kafka", marks=pytest.mark.kafka)], indirect=True)
async def test_closing_the_log_ends_its_tails_and_refuses_appends(system: System) -> None:
    log = await system.open()
    batches: list[list[Record]] = []

    async def follow() -> None:
        async for batch in log.tail({(EVENTS, 0): 0}):
            batches.append(batch)

    following = asyncio.create_task(follow())
    await log.append([event("x")])
    await eventually(lambda: bool(batches))
    await log.aclose()
    await following
    with pytest.raises(LogUnavailable, match="closed"):
        await log.append([event("late")])
