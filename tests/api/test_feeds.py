"""Feeds: whatever the pace of emitting, reading and the log's tail, every frame is handed on once and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping

import pytest

from tests.engine.test_unreadable import no_frames
from tests.waiting import eventually
from threadlog.api.streaming.cursor import EventId, FrameCursor, RunEnd, run_end_of
from threadlog.api.streaming.hub import StreamHub
from threadlog.api.streaming.subscriptions import NewFrames, RunDone, RunSubscription, ThreadSubscription
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, Record, Topic
from threadlog.engine.log.records import EventRecord, Frames

THREAD = "thread"


def record(run_id: str, seq: int, count: int, *, attempt: int = 1, size: int = 10) -> Append:
    frames = Frames(run_id, THREAD, attempt, seq, [(b"custom", b"%d.%0*d" % (seq + i, size, 0)) for i in range(count)])
    return Append(Topic.STREAM, 0, THREAD, frames.encode())


def tell(hub: StreamHub, event: dict[str, object]) -> None:
    hub.projected(0, 0, EventRecord(1, 0, "c", THREAD, "2026-11-21T00:00:00+00:00", [{"thread_id": THREAD, **event}]))


def succeeded(frames: int, *, attempt: int = 1) -> dict[str, object]:
    return {"type": "run.succeeded", "run_id": "run", "attempt": attempt, "frames": frames}


def run_feed(
    hub: StreamHub, log: MemoryLog, buffer_bytes: int = 1_000_000, frame_wait_seconds: float = 2
) -> RunSubscription:
    return RunSubscription(hub, log, THREAD, "run", buffer_bytes=buffer_bytes, frame_wait_seconds=frame_wait_seconds)


def numbers(items: list[object]) -> list[int]:
    found = []
    for item in items:
        if isinstance(item, NewFrames):
            found += [item.frames.seq + i for i in range(item.first, len(item.frames.frames))]
    return found


async def drain(subscription: RunSubscription, pause: float = 0) -> list[int]:
    found: list[int] = []
    while (items := await subscription.next(1)) is not None:
        found += numbers(items)
        await asyncio.sleep(pause)
    return found


@pytest.mark.parametrize("seed", range(20))
async def test_every_frame_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    total = 400
    joined_at = rng.randrange(total)
    written = asyncio.Event()

    async def emit() -> None:
        seq = 0
        while seq < total:
            count = min(rng.randint(1, 20), total - seq)
            batch = [record("run", seq, count)]
            if rng.random() < 0.3:  # an append that was repeated
                batch.append(record("run", max(0, seq - 5), min(5, seq) + count))
            if rng.random() < 0.5:
                batch.append(record("another", seq, count))
            await log.append(batch)
            seq += count
            if seq > joined_at:
                written.set()
            await asyncio.sleep(0)
        tell(hub, succeeded(total))

    feeds = [run_feed(hub, log, buffer_bytes=rng.choice((1, 500, 1_000_000))) for _ in range(4)]
    emitting = None
    with feeds[0], feeds[1], feeds[2]:
        feeds[0].start()
        feeds[1].start()
        feeds[2].start()
        readers = [
            asyncio.create_task(drain(subscription, pause))
            for subscription, pause in zip(feeds, (0, 0.001, 0.003), strict=False)
        ]
        emitting = asyncio.create_task(emit())
        await written.wait()
        with feeds[3]:
            feeds[3].from_start()
            feeds[3].start_at(0)
            readers.append(asyncio.create_task(drain(feeds[3], 0.001)))
            found = await asyncio.gather(*readers)
        await emitting
    assert found == [list(range(total))] * 4
    assert hub.subscriber_count == 0
    await hub.aclose()
    await log.aclose()


async def test_a_slow_reader_holds_little_and_misses_nothing() -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    with run_feed(hub, log, buffer_bytes=2_000) as subscription:
        subscription.start()
        for seq in range(200):
            await log.append([record("run", seq, 1, size=500)])
        while hub.stream_position(0) < 200:
            await asyncio.sleep(0)
        assert subscription.queued_bytes <= 2_000
        tell(hub, succeeded(200))
        assert await drain(subscription) == list(range(200))
    await hub.aclose()
    await log.aclose()


@pytest.mark.parametrize("gone", [4, 10])
async def test_what_retention_has_removed_is_not_waited_for(gone: int) -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await log.append([record("run", seq, 1) for seq in range(10)])
    log.trim(Topic.STREAM, 0, gone)
    await hub.start()
    with run_feed(hub, log, frame_wait_seconds=3600) as subscription:
        subscription.from_start()
        subscription.start_at(0)
        subscription.ended(RunEnd("success", 1, 10))
        async with asyncio.timeout(60):
            assert await drain(subscription) == list(range(gone, 10))
    await hub.aclose()
    await log.aclose()


@pytest.mark.parametrize(("offset", "number"), [(9, 9), (10, 4), (900, 4), (900, 900), (900, 9), (7, 2)])
async def test_an_id_from_elsewhere_ends_with_what_there_is(offset: int, number: int) -> None:
    """Of a frame yet to come, of another run, or made up: what follows the number counts, and nothing is waited for."""
    log = MemoryLog(1)
    hub = StreamHub(log)
    await log.append([record("run", seq, 1) for seq in range(10)])
    await hub.start()
    with run_feed(hub, log, frame_wait_seconds=3600) as subscription:
        subscription.continue_after(EventId(offset, 1, number))
        subscription.start_near(offset, 0)
        subscription.ended(RunEnd("success", 1, 10))
        async with asyncio.timeout(60):
            found = await drain(subscription)
    missed = range(number + 1, offset) if offset < 10 else []  # what was skipped, and later ones were there
    assert found == [n for n in range(number + 1, 10) if n not in missed]
    await hub.aclose()
    await log.aclose()


class LateTail(MemoryLog):
    """Its readers hear nothing of it live until `goes`."""

    def __init__(self) -> None:
        super().__init__(1)
        self.goes = asyncio.Event()

    async def tail(self, positions: Mapping[tuple[Topic, int], int]) -> AsyncGenerator[list[Record], None]:
        await self.goes.wait()
        async for batch in super().tail(positions):
            yield batch


async def test_a_client_that_is_ahead_of_a_server_that_lags_misses_nothing() -> None:
    log = LateTail()
    hub = StreamHub(log)
    await log.append([record("run", seq, 1) for seq in range(3)])
    await hub.start()
    await log.append([record("run", seq, 1) for seq in range(3, 10)])
    with run_feed(hub, log, frame_wait_seconds=3600) as subscription:
        assert hub.stream_position(0) == 3
        subscription.continue_after(EventId(7, 1, 7))  # which it has from another server
        subscription.start_near(7, 0)
        subscription.ended(RunEnd("success", 1, 10))
        assert await subscription.next(0.01) == []
        log.goes.set()
        async with asyncio.timeout(60):
            assert await drain(subscription) == [8, 9]
    await hub.aclose()
    await log.aclose()


async def test_frames_that_never_come_do_not_hold_the_end_for_ever() -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    subscription = RunSubscription(hub, log, THREAD, "run", buffer_bytes=1000, frame_wait_seconds=0.05)
    with subscription:
        subscription.start()
        tell(hub, succeeded(5))
        assert await drain(subscription) == []
    await hub.aclose()
    await log.aclose()


async def test_a_new_attempt_ends_the_one_before() -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    with run_feed(hub, log) as subscription:
        subscription.start()
        await log.append([record("run", 0, 3), record("run", 0, 2, attempt=2), record("run", 3, 3)])
        tell(hub, succeeded(2, attempt=2))
        assert await drain(subscription) == [0, 1, 2, 0, 1]
    await hub.aclose()
    await log.aclose()


async def test_a_slow_reader_of_a_thread_sees_each_run_end_after_its_frames() -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    with ThreadSubscription(hub, log, THREAD, buffer_bytes=100, frame_wait_seconds=2) as subscription:
        for n in range(5):
            for seq in range(4):
                await log.append([record(f"run-{n}", seq, 1)])
            tell(hub, {**succeeded(4), "run_id": f"run-{n}"})
            await asyncio.sleep(0)
        found: list[object] = []
        while len(found) < 25:
            items = await subscription.next(5)
            assert items
            for item in items:
                if isinstance(item, RunDone):
                    found.append(item.run_id)
                elif isinstance(item, NewFrames):
                    found += [(item.frames.run_id, number) for number in numbers([item])]
    expected: list[object] = []
    for n in range(5):
        expected += [*((f"run-{n}", seq) for seq in range(4)), f"run-{n}"]
    assert found == expected
    await hub.aclose()
    await log.aclose()


async def test_a_run_of_a_thread_ends_after_its_frames_however_late_these_are() -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    with ThreadSubscription(hub, log, THREAD, buffer_bytes=1000, frame_wait_seconds=60) as subscription:
        tell(hub, {"type": "run.created", "run_id": "run"})
        tell(hub, succeeded(2))
        assert await subscription.next(0.001) == []
        await log.append([record("run", 0, 2)])
        items: list[object] = []
        while not any(isinstance(item, RunDone) for item in items):
            items += await subscription.next(5) or []
        assert numbers(items[:1]) == [0, 1] and len(items) == 2
    await hub.aclose()
    await log.aclose()


async def test_frames_of_a_threads_run_that_never_come_do_not_hold_its_end_for_ever() -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    with ThreadSubscription(hub, log, THREAD, buffer_bytes=1000, frame_wait_seconds=0.01) as subscription:
        tell(hub, {"type": "run.created", "run_id": "run"})
        tell(hub, succeeded(2))
        assert await subscription.next(60) == [RunDone("run", RunEnd("success", 1, 2))]
    await hub.aclose()
    await log.aclose()


async def test_one_faulty_listener_harms_nobody() -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()

    class Faulty:
        thread_id = THREAD
        run_id = None

        def on_frames(self, offset: int, size: int, frames: Frames) -> None:
            raise RuntimeError

        def on_event(self, offset: int, event: dict[str, object]) -> None:
            raise RuntimeError

        def on_shutdown(self) -> None:
            pass

    hub.subscribe(Faulty())
    with run_feed(hub, log) as subscription:
        subscription.start()
        await log.append([record("run", 0, 3)])
        tell(hub, succeeded(3))
        assert await drain(subscription) == [0, 1, 2]
    await hub.aclose()
    await log.aclose()


def test_a_frame_id_is_read_as_it_is_written() -> None:
    for known in (EventId(0, 1, 0), EventId(12, 3, 999_999), EventId(5, 1, 2, sub_index=3)):
        assert EventId.parse(str(known)) == known
    for strange in ("", "-1", "1", "a-b", "1-2-3-4", "1-", "²-1"):
        assert EventId.parse(strange) is None


async def test_what_is_no_batch_of_frames_ends_no_stream_and_is_in_none(caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog(1)
    hub = StreamHub(log)
    await hub.start()
    bad = [Append(Topic.STREAM, 0, THREAD, value) for value in no_frames().values()]
    await log.append([record("run", 0, 2), *bad])
    await eventually(lambda: hub.stream_position(0) == 1 + len(bad))
    with run_feed(hub, log) as late, run_feed(hub, log) as live:
        late.from_start()
        late.start_at(0)
        live.continue_after(EventId(0, 1, 1))
        await log.append([*bad, record("run", 2, 1), *bad])
        await eventually(lambda: hub.stream_position(0) == 2 + 3 * len(bad))
        tell(hub, succeeded(3))
        assert await drain(late) == [0, 1, 2]
        assert await drain(live) == [2]
    assert "a live listener failed" not in caplog.text
    await hub.aclose()
    await log.aclose()


def test_what_ends_a_run() -> None:
    assert run_end_of({"type": "run.succeeded", "run_id": "r", "attempt": 2, "frames": 3}, "r") == RunEnd(
        "success", 2, 3
    )
    assert run_end_of({"type": "run.succeeded", "run_id": "other", "attempt": 2, "frames": 3}, "r") is None
    assert run_end_of({"type": "thread.deleted"}, "r") == RunEnd("gone")
    assert run_end_of({"type": "run.started", "run_id": "r"}, "r") is None
    progress = FrameCursor((0, 0))
    assert progress.reached(RunEnd("interrupted")) and not progress.reached(RunEnd("success", 1, 1))
