"""Order, batches, repeats and back-pressure of the one appender."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.waiting import eventually
from threadlog.engine.executor.reporting.appender import BatchingAppender
from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.executor.reporting.outgoing import AppendLimits
from threadlog.engine.executor.reporting.reporter import AttemptReporter
from threadlog.engine.executor.reporting.spill import Spill
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Topic
from threadlog.engine.log.records import CommandEnvelope, Frames


class SlowLog(MemoryLog):
    """Counts appends, and holds them while `gate` is closed."""

    def __init__(self) -> None:
        super().__init__(4)
        self.appends: list[list[Append]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, records: Sequence[Append]) -> list[int]:
        self.appends.append(list(records))
        await self.gate.wait()
        return await super().append(records)


@pytest.fixture
async def log() -> SlowLog:
    return SlowLog()


@pytest.fixture
def limits() -> AppendLimits:
    return AppendLimits()


@pytest.fixture
async def appender(log: SlowLog, limits: AppendLimits) -> AsyncIterator[BatchingAppender]:
    opened = BatchingAppender(log, limits=limits)
    yield opened
    log.gate.set()
    await opened.aclose()


def frames_of(appender: BatchingAppender, run_id: str = "r", partition: int = 1) -> FrameQueue:
    return appender.frames(run_id=run_id, thread_id="t", attempt=1, partition=partition)


async def read(log: MemoryLog, partition: int = 1) -> list[tuple[int, bytes]]:
    """Frames with their numbers, repeats included."""
    found: list[tuple[int, bytes]] = []
    for record in await log.read(Topic.STREAM, partition, 0, max_bytes=1 << 30):
        batch = Frames.decode(record.value)
        found += [(batch.seq + i, data) for i, (_, data) in enumerate(batch.frames)]
    return found


async def test_frames_precede_the_command_that_speaks_of_them(log: SlowLog, appender: BatchingAppender) -> None:
    queue = frames_of(appender)
    for i in range(3):
        queue.put(b"values", b"%d" % i)
    done = appender.command(1, "t", b"{}")
    assert await done == 0
    assert [record.topic for batch in log.appends for record in batch] == [Topic.STREAM, Topic.COMMANDS]
    assert await read(log) == [(0, b"0"), (1, b"1"), (2, b"2")]
    assert queue.count == 3


async def test_what_gathers_during_an_append_is_one_append(log: SlowLog, appender: BatchingAppender) -> None:
    log.gate.clear()
    first = appender.command(1, "t", b"first")
    await eventually(lambda: log.appends)
    rest = [appender.command(p, "t", b"%d" % p) for p in range(4)]
    queue = frames_of(appender)
    queue.put(b"custom", b"1")
    log.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(batch) for batch in log.appends] == [1, 5]


async def test_threads_do_not_wait_for_the_appends_of_others_but_for_their_own(
    log: SlowLog, appender: BatchingAppender
) -> None:
    log.gate.clear()
    one, other = frames_of(appender), appender.frames(run_id="o", thread_id="other", attempt=1, partition=1)
    first = appender.command(1, "t", b"first")
    await eventually(lambda: len(log.appends) == 1)
    one.put(b"custom", b"1")
    second = appender.command(1, "t", b"second")
    other.put(b"custom", b"2")
    third = appender.command(1, "other", b"third")
    await eventually(lambda: len(log.appends) == 2)
    assert [(r.topic, r.key) for r in log.appends[1]] == [(Topic.STREAM, "other"), (Topic.COMMANDS, "other")]
    more = [appender.command(1, f"thread {i}", b"more") for i in range(10)]
    await eventually(lambda: len(log.appends) == 3)
    log.gate.set()
    await asyncio.gather(first, second, third, *more)
    assert [r.value for r in await log.read(Topic.COMMANDS, 1, 0) if r.key == "t"] == [b"first", b"second"]
    own = [r for batch in log.appends for r in batch if r.key == "t"]
    assert [r.topic for r in own] == [Topic.COMMANDS, Topic.STREAM, Topic.COMMANDS]


async def test_held_frames_of_a_short_attempt_are_in_the_append_of_its_report(
    log: SlowLog, appender: BatchingAppender
) -> None:
    queue = appender.frames(run_id="r", thread_id="t", attempt=1, partition=1, held=True)
    reporter = AttemptReporter(appender, queue, executor="e", applied=_not_applied)
    queue.put(b"values", b"1")
    await appender.command(2, "other", b"{}")
    queue.put(b"values", b"2")
    await reporter.finish({"status": "success"})
    assert [[record.topic for record in batch] for batch in log.appends] == [
        [Topic.COMMANDS],
        [Topic.STREAM, Topic.COMMANDS],
    ]
    assert await read(log) == [(0, b"1"), (1, b"2")]


async def test_held_frames_leave_when_the_attempt_is_no_short_one(log: SlowLog, appender: BatchingAppender) -> None:
    queue = appender.frames(run_id="r", thread_id="t", attempt=1, partition=1, held=True)
    reporter = AttemptReporter(appender, queue, executor="e", applied=_not_applied)
    queue.put(b"values", b"1")
    reporter.settle()
    queue.put(b"values", b"2")
    await appender.drained()
    queue.put(b"values", b"3")
    await appender.drained()
    assert await read(log) == [(0, b"1"), (1, b"2"), (2, b"3")]
    assert [record.topic for batch in log.appends for record in batch] == [Topic.STREAM, Topic.STREAM]


@pytest.mark.parametrize("limits", [AppendLimits(in_flight=2)])
async def test_no_more_than_some_appends_are_in_flight(log: SlowLog, appender: BatchingAppender) -> None:
    log.gate.clear()
    done = []
    for i in range(2):
        done.append(appender.command(1, f"thread {i}", b"x"))
        await eventually(lambda i=i: len(log.appends) == i + 1)
    done += [appender.command(1, f"thread {i}", b"x") for i in range(2, 9)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(log.appends) == 2
    log.gate.set()
    await asyncio.gather(*done)
    assert [len(batch) for batch in log.appends] == [1, 1, 7]


class _BreaksOnce(SlowLog):
    """The appends in flight when `broken` is set fail; `order` is what was tried afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = asyncio.Event()
        self.order: list[bytes] = []

    async def append(self, records: Sequence[Append]) -> list[int]:
        if not self.broken.is_set():
            self.appends.append(list(records))
            await self.broken.wait()
            raise AppendUnknown("the link broke")
        self.order += [record.value for record in records]
        return await super().append(records)


async def test_when_appends_fail_nothing_new_overtakes_them() -> None:
    log = _BreaksOnce()
    appender = BatchingAppender(log)
    try:
        done = []
        for i in range(3):
            done.append(appender.command(1, f"thread {i}", b"old %d" % i))
            await eventually(lambda i=i: len(log.appends) == i + 1)
        log.gate.clear()
        log.broken.set()
        await eventually(lambda: log.order)
        done += [appender.command(1, f"thread {i}", b"new %d" % i) for i in range(3, 6)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert log.order == [b"old 0"]
        log.gate.set()
        await asyncio.gather(*done)
        assert log.order[:3] == [b"old 0", b"old 1", b"old 2"]
        assert sorted(log.order[3:]) == [b"new 3", b"new 4", b"new 5"]
    finally:
        await appender.aclose()


async def test_closed_while_it_sends_again_it_sends_nothing_more() -> None:
    log = _BreaksOnce()
    appender = BatchingAppender(log)
    appender.command(1, "t", b"old")
    await eventually(lambda: log.appends)
    log.gate.clear()
    log.broken.set()
    await eventually(lambda: log.order == [b"old"])
    appender.command(1, "other", b"new")
    await asyncio.sleep(0)  # it waits for the other one by now
    await appender.aclose()
    log.gate.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert log.order == [b"old"]


async def test_failed_appends_are_repeated_with_the_same_bytes(log: SlowLog, appender: BatchingAppender) -> None:
    queue = frames_of(appender)
    queue.put(b"custom", b"0")
    await appender.drained()
    log.fail_next(LogUnavailable("away"))
    log.fail_next(AppendUnknown("no answer"), landed=True)
    queue.put(b"custom", b"1")
    await appender.command(1, "t", b"command")
    records = await log.read(Topic.COMMANDS, 1, 0)
    assert [record.value for record in records] == [b"command", b"command"]
    numbers = [number for number, _ in await read(log)]
    assert sorted(set(numbers)) == [0, 1] and numbers[-1] == 1


async def test_the_last_seconds_of_the_stream_are_sent_again_when_the_database_was_lost(log, appender) -> None:
    queue = frames_of(appender)
    for i in range(5):
        queue.put(b"custom", b"%d" % i)
    await appender.drained()
    appender.connection_lost()
    await appender.drained()
    assert [data for _, data in await read(log)] == [b"%d" % i for i in (*range(5), *range(5))]


async def test_frames_from_threads_keep_their_order_and_none_is_lost(log: SlowLog, appender: BatchingAppender) -> None:
    queues = [frames_of(appender, f"run-{n}", n) for n in range(4)]

    def write(queue: FrameQueue) -> None:
        for i in range(5000):
            queue.put(b"custom", b"%d" % i)

    threads = [threading.Thread(target=write, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        await asyncio.sleep(0.001)
    await appender.drained()
    for n, queue in enumerate(queues):
        assert await read(log, n) == [(i, b"%d" % i) for i in range(5000)]
        assert queue.count == 5000


async def test_large_batches_are_split(log: SlowLog, appender: BatchingAppender) -> None:
    queue = frames_of(appender)
    big = b"x" * 100_000
    for _ in range(60):
        queue.put(b"values", big)
    await appender.command(1, "t", b"after")
    assert len(await read(log)) == 60
    assert max(sum(len(r.value) for r in batch) for batch in log.appends) < 3 * 1024 * 1024
    assert max(len(r.value) for r in await log.read(Topic.STREAM, 1, 0, max_bytes=1 << 30)) < 400_000
    assert log.appends[-1][-1].topic == Topic.COMMANDS


@pytest.mark.parametrize("limits", [AppendLimits(full_bytes=1000)])
async def test_when_very_much_is_queued_there_is_no_room(log: SlowLog, appender: BatchingAppender) -> None:
    log.gate.clear()
    queue = frames_of(appender)
    for _ in range(4):
        queue.put(b"values", b"x" * 500)
    await eventually(lambda: log.appends)
    for _ in range(4):
        queue.put(b"values", b"x" * 500)
    assert appender.buffer.full
    waiting = asyncio.create_task(queue.room())
    log.gate.set()
    await waiting
    assert not appender.buffer.full


class PickyLog(SlowLog):
    """Refuses records that are too large, as no retry can help."""

    async def append(self, records: Sequence[Append]) -> list[int]:
        if any(len(record.value) > 10_000 for record in records):
            raise ValueError("too large")
        return await super().append(records)


async def test_a_record_the_log_refuses_harms_no_other() -> None:
    log = PickyLog()
    appender = BatchingAppender(log)
    good, bad = frames_of(appender, "good", 0), frames_of(appender, "bad", 1)
    good.put(b"values", b"1")
    bad.put(b"values", b"x" * 20_000)
    bad.put(b"values", b"2")
    fine = appender.command(2, "t", b"fine")
    refused = appender.command(3, "t", b"x" * 20_000)
    assert await fine == 0
    with pytest.raises(ValueError, match="too large"):
        await refused
    await appender.drained()
    assert await read(log, 0) == [(0, b"1")]
    assert await read(log, 1) == [(0, b"null"), (1, b"null")]
    bad.put(b"values", b"3")
    await appender.drained()
    assert (await read(log, 1))[-1] == (2, b"3")
    await appender.aclose()


async def _not_applied(partition: int, offset: int) -> None:
    raise AssertionError("nobody asked")


def reporter_of(appender: BatchingAppender, applied: Any = _not_applied) -> AttemptReporter:
    return AttemptReporter(appender, frames_of(appender), executor="e", applied=applied)


async def reports(log: MemoryLog) -> list[dict[str, Any]]:
    return [CommandEnvelope.decode(r.value).body for r in await log.read(Topic.COMMANDS, 1, 0)]


async def test_a_report_that_ends_a_short_attempt_holds_everything(log: SlowLog, appender: BatchingAppender) -> None:
    reporter = reporter_of(appender)
    reporter.add({"kind": "checkpoint", "n": 1})
    reporter.add({"kind": "tasks", "n": 2})
    await reporter.finish({"status": "success"})
    (report,) = await reports(log)
    assert report["started"]["executor"] == "e" and report["outcome"] == {"status": "success"}
    assert [item["n"] for item in report["items"]] == [1, 2]


async def test_flush_and_applied_wait_for_what_they_promise(log: SlowLog, appender: BatchingAppender) -> None:
    asked: list[tuple[int, int]] = []

    async def applied(partition: int, offset: int) -> None:
        asked.append((partition, offset))

    reporter = reporter_of(appender, applied)
    reporter.add({"n": 1})
    await reporter.flush()
    assert len(await reports(log)) == 1
    await reporter.flush()
    assert len(await reports(log)) == 1
    reporter.add({"n": 2})
    await reporter.applied()
    assert asked == [(1, 1)]


async def test_after_settling_items_are_reported_as_they_come_one_report_in_flight(log, appender) -> None:
    reporter = reporter_of(appender)
    reporter.add({"n": -1})
    reporter.settle()
    await eventually(lambda: log.appends)
    log.gate.clear()
    for n in range(3):
        reporter.add({"n": n})
    await eventually(lambda: len(log.appends) == 2)
    reporter.add({"n": 3})
    log.gate.set()
    await reporter.finish({"status": "success"})
    bodies = await reports(log)
    assert [[i["n"] for i in b.get("items", [])] for b in bodies] in (
        [[-1], [0, 1, 2], [3]],
        [[-1], [0, 1, 2], [3], []],
    )
    assert bodies[0]["started"] and bodies[-1]["outcome"]
    ids = [CommandEnvelope.decode(r.value).id for r in await log.read(Topic.COMMANDS, 1, 0)]
    assert ids == [f"r:1:{n}" for n in range(len(ids))]


@pytest.mark.parametrize("limits", [AppendLimits(full_bytes=50_000)])
async def test_what_is_put_on_the_loop_while_the_log_cannot_keep_up_waits_on_disk(
    log: SlowLog, appender: BatchingAppender
) -> None:
    log.gate.clear()
    queue = frames_of(appender)
    frames = [b"%d " % i + b"x" * 10_000 for i in range(300)]
    frames[200] += b"y" * 3_000_000  # more than is read at once
    for i, data in enumerate(frames[:150]):
        queue.put(b"custom", data)
        if i == 20:
            await eventually(lambda: log.appends)
    in_memory = sum(len(data) for _, data in queue.frames)
    assert in_memory <= 60_000 and queue.spill is not None and queue.full
    await asyncio.to_thread(lambda: [queue.put(b"custom", data) for data in frames[150:]])
    assert queue.count == 300, "in memory, on disk and under way"
    waiting = asyncio.create_task(queue.room())
    done = appender.command(1, "t", b"{}")
    log.gate.set()
    await done
    await waiting
    assert queue.spill is None
    assert await read(log) == list(enumerate(frames))


@pytest.mark.parametrize("limits", [AppendLimits(full_bytes=10_000)])
async def test_a_full_appender_does_not_hold_up_a_run_that_has_nothing_waiting(
    log: SlowLog, appender: BatchingAppender
) -> None:
    log.gate.clear()
    greedy, modest = frames_of(appender), frames_of(appender, "other")
    for _ in range(20):
        greedy.put(b"custom", b"x" * 1000)
    modest.put(b"custom", b"y")
    log.gate.set()
    await appender.drained()
    assert (greedy.seq, modest.seq) == (20, 1)


@pytest.mark.parametrize("limits", [AppendLimits(full_bytes=10_000)])
async def test_frames_stay_in_order_when_threads_put_while_the_disk_is_read(
    log: SlowLog, appender: BatchingAppender
) -> None:
    queue = frames_of(appender)
    log.gate.clear()
    for i in range(50):
        queue.put(b"custom", b"%06d" % i + b"x" * 1000)
    log.gate.set()

    def put() -> None:
        for i in range(50, 3000):
            queue.put(b"custom", b"%06d" % i + b"x" * 1000)

    await asyncio.to_thread(put)
    await appender.drained()
    assert [(seq, int(data[:6])) for seq, data in await read(log)] == [(i, i) for i in range(3000)]


def test_frames_the_disk_does_not_take_come_after_those_it_took(monkeypatch) -> None:
    spill = Spill()
    assert spill.put(b"custom", b"1") and not spill.too_large
    monkeypatch.setattr("os.pwrite", lambda *_: (_ for _ in ()).throw(OSError("full")))
    assert spill.put(b"custom", b"2")
    monkeypatch.undo()
    assert spill.put(b"custom", b"3")
    assert spill.too_large and spill.count == 3
    assert [data for _ in range(2) for _, data in spill.take()] == [b"1", b"2", b"3"]
    assert spill.ended and not spill.put(b"custom", b"4")
