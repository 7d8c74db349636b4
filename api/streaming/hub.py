"""Publish/subscribe hub: delivers projected events and stream frames to the subscribers of a thread, in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from threadlog.api.streaming.event_opener import EventOpener
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.log.port import Log, Record, Topic
from threadlog.engine.log.records import EventRecord, Frames
from threadlog.engine.log.unreadable import frames_in, reached_in

logger = logging.getLogger(__name__)

_MAX_RUNS = 10_000
_CONCURRENT_LOOKUPS = 2


class Subscriber(Protocol):
    """Receives frames and events of one thread, synchronously, on the loop; `run_id` None: of all its runs."""

    thread_id: str
    run_id: str | None

    def on_frames(self, offset: int, size: int, frames: Frames) -> None:
        """A record of the `stream` topic, `size` bytes long."""
        ...

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        """A projected event of the thread (of any of its runs)."""
        ...

    def on_shutdown(self) -> None:
        """The server stops: end now."""
        ...


class WakeUp:
    """A wake-up call for the one task that waits for it."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[bool] | None = None

    def notify(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(True)

    async def wait(self, seconds: float) -> bool:
        """True when notified, False when `seconds` have passed. A notification while no task waits is lost."""
        loop = asyncio.get_running_loop()
        future = self._future = loop.create_future()
        timer = loop.call_later(seconds, _expire, future)
        try:
            notified: bool = await future
            return notified
        finally:
            timer.cancel()
            self._future = None


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)


class StreamHub:
    """Tails the `stream` topic and receives projected events (`engine.processor.ports.EventListener`).

    Call `start` before the first request, and `subscribe` before submitting the command whose effects are awaited.
    """

    def __init__(self, log: Log, keyring: Keyring | None = None) -> None:
        """`keyring`: content of events is encrypted; `log` hands out frames decrypted."""
        self._log = log
        self._opener = None if keyring is None else EventOpener(keyring, self._tell)
        self._subscribers: dict[str, list[Subscriber]] = {}
        self._next = [0] * log.partitions
        self._progress: dict[str, tuple[int, int]] = {}
        self._shared: list[Callable[[dict[str, Any]], None]] = []
        self._threads: list[Callable[[str, list[dict[str, Any]]], None]] = []
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    async def start(self) -> None:
        """Begin at the end of the log. Raises `LogUnavailable`."""
        few = asyncio.Semaphore(_CONCURRENT_LOOKUPS)  # a connection each, which would be kept
        self._next = await asyncio.gather(*(self._end_of(p, few) for p in range(self._log.partitions)))
        self._task = asyncio.create_task(self._follow(), name="threadlog.api.streaming.hub")

    async def _end_of(self, partition: int, few: asyncio.Semaphore) -> int:
        async with few:
            return (await self._log.bounds(Topic.STREAM, partition))[1]

    async def aclose(self) -> None:
        """Stop tailing the log; every subscriber is shut down."""
        self.shutdown()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def shutdown(self) -> None:
        """Shut down every subscriber; a client whose stream was not complete resumes at another server."""
        self.closing = True
        for subscribers in list(self._subscribers.values()):
            for subscriber in list(subscribers):
                subscriber.on_shutdown()

    # --- subscribing

    @property
    def subscriber_count(self) -> int:
        """Requests that wait for something of a thread, or stream it."""
        return sum(map(len, self._subscribers.values()))

    def subscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.setdefault(subscriber.thread_id, []).append(subscriber)
        if self.closing:
            subscriber.on_shutdown()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        subscribers = self._subscribers.get(subscriber.thread_id)
        if subscribers is not None and subscriber in subscribers:
            subscribers.remove(subscriber)
            if not subscribers:
                del self._subscribers[subscriber.thread_id]

    def on_shared(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call `listener` with every event of an assistant or a graph (to drop what was cached of it)."""
        self._shared.append(listener)

    def on_thread(self, listener: Callable[[str, list[dict[str, Any]]], None]) -> None:
        """Call `listener(thread_id, events)` with the projected events of every thread."""
        self._threads.append(listener)

    def stream_position(self, partition: int) -> int:
        """The offset of `stream` from which on frames are handed out live; no frame yet to come is before it."""
        return self._next[partition]

    def progress(self, run_id: str) -> tuple[int, int] | None:
        """`(attempt, number of the next frame)` of a run whose frames passed by lately."""
        return self._progress.get(run_id)

    # --- what happens

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        events = record.events
        if not events:
            return
        for on_thread in self._threads:
            _guarded(on_thread, record.key, events)
        if record.key in self._subscribers:
            if self._opener is not None:
                self._opener.take(record.key, offset, events)
            else:
                self._tell(record.key, offset, events)
        elif events[0]["type"].startswith(("assistant.", "graph.")):
            for event in events:
                for listener in self._shared:
                    _guarded(listener, event)

    def _tell(self, key: str, offset: int, events: list[dict[str, Any]]) -> None:
        for event in events:
            for subscriber in tuple(self._subscribers.get(key, ())):
                _guarded(subscriber.on_event, offset, event)

    async def _follow(self) -> None:
        while True:
            batches = self._log.tail({(Topic.STREAM, p): offset for p, offset in enumerate(self._next)})
            try:
                async for batch in batches:
                    for record in batch:
                        self._next[record.partition] = record.offset + 1
                        _guarded(self._hand_out, record)
            except Exception:
                logger.exception("following the stream topic failed; trying again")
                await asyncio.sleep(1)
            finally:
                close = getattr(batches, "aclose", None)
                if close is not None:
                    await close()

    def _hand_out(self, record: Record) -> None:
        subscribers = self._subscribers.get(record.key)
        if subscribers is None:
            if (passed := reached_in(record)) is not None:
                self._note(*passed)
            return
        frames = frames_in(record)
        if frames is None:
            return
        self._note(frames.run_id, (frames.attempt, frames.seq + len(frames.frames)))
        for subscriber in tuple(subscribers):
            if subscriber.run_id is None or subscriber.run_id == frames.run_id:
                _guarded(subscriber.on_frames, record.offset, len(record.value), frames)

    def _note(self, run_id: str, reached: tuple[int, int]) -> None:
        previous = self._progress.get(run_id)
        if previous is None or reached > previous:
            self._progress[run_id] = reached
            if len(self._progress) > _MAX_RUNS:
                del self._progress[next(iter(self._progress))]


def _guarded(call: Callable[..., None], *args: Any) -> None:
    """Call, and log an exception: one listener's error must not stop the other listeners or the tail."""
    try:
        call(*args)
    except Exception:
        logger.exception("a live listener failed")
