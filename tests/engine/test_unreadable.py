"""What is in `events` and is not an event record counts for no reader, wherever it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import orjson
import pytest
import zstandard

from tests.engine.engine_harness import PARTITIONS, EngineHarness, Heard, create_run, finish, new_id
from tests.engine.test_take_over import TABLES, taken
from tests.waiting import eventually
from threadlog.engine.compression.codec import pack_record, unpack_record
from threadlog.engine.gateway.event_tail import Applied, EventTail
from threadlog.engine.log import unreadable
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.history import LoggedHistory
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, Record, Topic
from threadlog.engine.log.records import EventRecord, Frames
from threadlog.engine.log.unreadable import UnreadableRecords, event_in, frames_in, reached_in

LAST = EventRecord(epoch=1, cmd_off=0, cmd_id="a", key="k", at="", events=[{"type": "t"}], after=-1)


def not_event_records() -> dict[str, bytes]:
    """Bytes that are not an event record, by what is wrong with them; most are much like one."""
    good = orjson.loads(EventRecord(9, 1, "b", "k", "", [{"type": "t"}], after=0).encode())
    odd = {
        "epoch": ("9", None, True, 1.5, [], 2**63), "cmd_off": ("1", None, 0.5, 2**63), "after": ("0", True, []),
        "key": (7, None), "cmd_id": (None, []), "at": (0,), "start": (1, None, "true"),
        "events": (None, {}, [7], [None], [{}], [{"type": 7}]),
    }  # fmt: skip
    wrong = {
        f"{name}={value!r}": orjson.dumps(good | {name: value}) for name, values in odd.items() for value in values
    }
    lacking = {
        f"without {name}": orjson.dumps({k: v for k, v in good.items() if k != name})
        for name in ("epoch", "cmd_off", "cmd_id", "key", "at")
    }
    value = orjson.dumps(good)
    return wrong | lacking | {
        "nothing": b"", "not text": b"\xff\x00", "a list": b"[]", "a number": b"7", "null": b"null",
        "deep": b"[" * 5000,
        "NaN": b'{"epoch": NaN}', "a half surrogate": value.replace(b'"k"', b'"\\ud800"'), "cut": value[:-1],
        "twice": value * 2, "begun later": value[1:], "another's": orjson.dumps(good | {"_value": 1, "epoch": "x"}),
    }  # fmt: skip


@pytest.mark.parametrize("trace", [7, [], {"a": 1}])
def test_a_trace_that_is_no_text_is_left_out_as_readers_from_before_it_do(trace: Any) -> None:
    value = orjson.dumps({**orjson.loads(LAST.encode()), "trace": trace})
    assert EventRecord.decode(value) == LAST


def no_frames() -> dict[str, bytes]:
    """Bytes that are no batch of stream frames, by what is wrong with them."""
    good = {"run_id": "run", "thread_id": "thread", "attempt": 1, "seq": 0}
    odd = {
        "run_id": (None, 7), "thread_id": ([], None), "attempt": ("1", None, True, 1.5, -1, 2**63),
        "seq": ("0", -1, None, {}, 2**63),
    }  # fmt: skip
    wrong = {
        f"{name}={value!r}": orjson.dumps(good | {name: value}) + b"\nvalues\n{}"
        for name, values in odd.items()
        for value in values
    }
    lacking = {f"without {name}": orjson.dumps({k: v for k, v in good.items() if k != name}) for name in good}
    head = orjson.dumps(good)
    return wrong | lacking | {
        "nothing": b"", "empty lines": b"\n\n", "not text": b"\xff\x00\n\n", "a list": b"[]", "null": b"null",
        "deep": b"[" * 5000, "cut": head[:-1], "a name alone": head + b"\nvalues",
        "without the last data": head + b"\nvalues\n{}\nvalues", "an event": LAST.encode(),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> UnreadableRecords:
    """What is counted in this test alone."""
    monkeypatch.setattr(unreadable, "UNREADABLE_FRAMES", UnreadableRecords("stream", "a batch of frames"))
    monkeypatch.setattr(unreadable, "UNREADABLE", UnreadableRecords("events", "an event record"))
    return unreadable.UNREADABLE


def at(offset: int, value: bytes) -> Record:
    return Record(Topic.EVENTS, 0, offset, "k", value, 0)


@pytest.mark.parametrize("what", no_frames())
def test_it_is_told_from_frames(what: str, caplog: pytest.LogCaptureFixture) -> None:
    record = Record(Topic.STREAM, 3, 7, "thread", no_frames()[what], 0)
    assert frames_in(record) is None and reached_in(record) is None and frames_in(record) is None
    assert list(unreadable.UNREADABLE_FRAMES.places) == [(3, 7)] and not unreadable.UNREADABLE.places
    assert caplog.text.count("stream[3] offset 7 is not a batch of frames") == 1


def test_what_executors_write_is_frames() -> None:
    for count in (0, 1, 7):
        frames = Frames("r", "t", 2, 5, [(b"values", b"{}")] * count)
        later = frames.encode().replace(b'{"run_id"', b'{"what a later version adds":[1],"run_id"', 1)
        for value in (frames.encode(), later):
            record = Record(Topic.STREAM, 0, 0, "t", value, 9)
            assert frames_in(record) == frames and reached_in(record) == ("r", (2, 5 + count))
    assert not unreadable.UNREADABLE_FRAMES.places


@pytest.mark.parametrize("what", not_event_records())
def test_it_is_told_from_one(what: str, counted: UnreadableRecords, caplog: pytest.LogCaptureFixture) -> None:
    rule = Acceptance()
    assert rule.accepts(LAST)
    for _ in range(2):
        record = event_in(at(7, not_event_records()[what]))
        assert record is None and not rule.accepts(record)
    assert (rule.epoch, rule.cmd_off) == (LAST.epoch, LAST.cmd_off)
    assert list(counted.places) == [(0, 7)]
    assert caplog.text.count("events[0] offset 7 is not an event record") == 1, "once, however often it is read"


def test_what_engines_write_is_one() -> None:
    for record in (LAST, EventRecord(epoch=4, cmd_off=-1, cmd_id="", key="", at="", start=True)):
        assert event_in(at(0, record.encode())) == record
    later = orjson.dumps(orjson.loads(LAST.encode()) | {"what a later version adds": [1]})
    assert event_in(at(0, later)) == LAST


def test_how_many_places_are_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    counted = UnreadableRecords("events", "an event record", places=5, lines=3)
    for offset in range(10):
        counted.add(0, offset, "it is x")
    assert len(counted.places) == 5 and len(caplog.records) == 3


def test_what_only_seems_compressed_comes_back_as_it_is() -> None:
    for stored in (b"\x01", b"\x01no zstd", b"\x02" + b"x" * 300, pack_record(b'{"key": "k"}' * 100)[:-9]):
        assert unpack_record(stored) == stored
        assert event_in(at(0, unpack_record(stored))) is None
    assert unpack_record(b"\x02" + zstandard.ZstdCompressor().compress(b"x" * 99)) == b"x" * 99


class _AllApplied:
    async def positions(self) -> Mapping[int, Applied]:
        return {0: Applied(-1, -1, 0)}

    async def follow(self) -> AsyncIterator[Mapping[int, int]]:
        yield {0: 1000}
        await asyncio.Event().wait()


async def test_tails_and_the_history_pass_it_over() -> None:
    log, heard = MemoryLog(1), Heard()
    tail = EventTail(log, _AllApplied())
    tail.add_listener(heard)
    await tail.start()
    after = EventRecord(epoch=1, cmd_off=1, cmd_id="b", key="k", at="", events=[{"type": "u"}], after=0)
    values = [LAST.encode(), *not_event_records().values(), after.encode()]
    await log.append([Append(Topic.EVENTS, 0, "k", value) for value in values])

    async def both() -> bool:
        return [record for _, _, record in heard.records] == [LAST, after]

    await eventually(both)
    await tail.stop()
    async with aclosing(LoggedHistory(log, [0]).until_now()) as past:
        assert [happened.record async for happened in past] == [LAST, after]


async def test_a_take_over_and_a_rebuild_pass_it_over(harness: EngineHarness, counted: UnreadableRecords) -> None:
    engine = await harness.engine()
    bad = list(not_event_records().values())
    for _ in range(2):
        run = create_run(new_id())
        await engine.submit(run)
        for p in range(PARTITIONS):
            await harness.log.append([Append(Topic.EVENTS, p, "k", value) for value in bad])
        await engine.submit(finish(run.thread_id, run.run_id))
    assert await harness.verify() == []
    # Behind everything, and with nothing projected yet.
    for p in range(PARTITIONS):
        await harness.log.append([Append(Topic.EVENTS, p, "k", value) for value in bad])
    await engine.stop()
    harness.engines.clear()
    await harness.pool.execute(f"TRUNCATE {TABLES}")
    await harness.pool.execute("UPDATE partitions SET ev_off = -1, cmd_off = -1, log_epoch = 0")
    terms, commits = await taken(harness, harness.log)
    assert all(term.ready and not term.dead and not term.unprojected for term in terms)
    assert sum(len(commit.records) for commit in commits) == 4
    assert await harness.verify() == []
    assert len(counted.places) == 3 * len(bad) * PARTITIONS

    await harness.pool.execute("DELETE FROM processors WHERE owner = 'two'")  # who took it over leaves
    again = await harness.engine()
    run = create_run(new_id())
    await again.submit(run)
    await again.submit(finish(run.thread_id, run.run_id))
    assert await harness.verify() == []
