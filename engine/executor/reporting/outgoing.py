"""Outgoing buffer of an executor process: frames and commands that no append has taken yet, and the next batch of them.

A thread is in one append at a time, so that its frames and commands keep their order: frames put before a command are
in its batch or in one before.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.executor.reporting.spill import SPILL_BYTES
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import Frames

_BATCH_BYTES = 2 * 1024 * 1024
_RECORD_BYTES = 256 * 1024  # of one run's frames: a reader never has to take more at once


@dataclass(frozen=True, slots=True)
class AppendLimits:
    """What an executor process keeps back of what it has to append."""

    in_flight: int = 4
    """Appends at a time: a run's last report does not wait for the whole of one that has just left."""
    full_bytes: int = 32 * 1024 * 1024
    """Bytes queued above which runs wait between supersteps, and threads that write wait at once."""
    spill_bytes: int = SPILL_BYTES
    """Bytes of one run's frames on disk; a node that is so far ahead of the log will not be caught up with."""


@dataclass(slots=True)
class QueuedCommand:
    record: Append
    done: asyncio.Future[int]


@dataclass(slots=True)
class AppendBatch:
    """One append: its commands come last in `records`."""

    records: list[Append]
    commands: list[QueuedCommand]
    threads: set[str]
    unknown: bool = False  # the log was away: it may have forgotten what it had


class OutgoingBuffer:
    """What waits to be appended. Made on the event loop; queues put frames from any thread.

    `posted(queue)` is called on the loop when a queue has frames that were not announced, `posted(None)` for a command.
    """

    def __init__(self, posted: Callable[[FrameQueue | None], None], limits: AppendLimits | None = None) -> None:
        self.limits = limits or AppendLimits()
        self._posted = posted
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._commands: deque[QueuedCommand] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self.queues: deque[FrameQueue] = deque()  # those that have frames
        self.queued_bytes = 0

    # --- putting into it

    def wake(self, queue: FrameQueue) -> None:
        """`queue` has frames. Any thread."""
        if self.on_loop:
            self._wake(queue)
        else:
            self._loop.call_soon_threadsafe(self._wake, queue)

    def _wake(self, queue: FrameQueue) -> None:
        self.queues.append(queue)
        self._posted(queue)

    def command(self, record: Append) -> asyncio.Future[int]:
        """Add a command; the future is for its offset."""
        done: asyncio.Future[int] = self._loop.create_future()
        self._commands.append(QueuedCommand(record, done))
        self.queued_bytes += len(record.value)
        self._posted(None)
        return done

    @property
    def on_loop(self) -> bool:
        """Called on the loop's thread."""
        return threading.get_ident() == self._thread

    @property
    def has_commands(self) -> bool:
        return bool(self._commands)

    @property
    def empty(self) -> bool:
        return not (self.queues or self._commands)

    def cancel(self) -> None:
        """Nothing more is appended: cancel the futures of commands."""
        for command in self._commands:
            command.done.cancel()

    # --- back-pressure

    @property
    def spill_bytes(self) -> int:
        return self.limits.spill_bytes

    @property
    def full(self) -> bool:
        return self.queued_bytes > self.limits.full_bytes

    async def room(self, queue: FrameQueue) -> None:
        """Wait while too much is queued, in all or of this queue."""
        while queue.full:
            self._room.clear()
            await self._room.wait()

    def appended(self) -> None:
        """An append has ended: queues that wait for room look again, if there is."""
        if self.queued_bytes <= self.limits.full_bytes // 2:
            self._room.set()

    # --- taking from it

    def collect(self, sending: set[str]) -> tuple[AppendBatch, bool]:
        """The next batch, without the threads that are `sending`; whether more could follow at once.

        Frames first, then the commands that may speak of them.
        """
        batch, size = AppendBatch([], [], set()), 0
        busy: list[FrameQueue] = []
        while self.queues and size < _BATCH_BYTES:
            queue = self.queues.popleft()
            if queue.thread_id in sending:
                busy.append(queue)
                continue
            queue.waiting = False  # before taking: a frame put from now on wakes us again
            batch.threads.add(queue.thread_id)
            size += self._take(queue, batch.records)
            if not queue.frames and queue.spill is not None:
                self.queued_bytes += queue.refill()
            if queue.frames and not queue.waiting:
                queue.waiting = True
                self.queues.append(queue)
        more = bool(self.queues)
        if not more:
            size, more = self._take_commands(batch, size, sending)
        self.queues.extendleft(reversed(busy))
        self.queued_bytes -= size
        return batch, more

    def _take_commands(self, batch: AppendBatch, size: int, sending: set[str]) -> tuple[int, bool]:
        later: list[QueuedCommand] = []
        while self._commands and size < _BATCH_BYTES:
            command = self._commands.popleft()
            if command.record.key in sending:
                later.append(command)
                continue
            size += len(command.record.value)
            batch.threads.add(command.record.key)
            batch.records.append(command.record)
            batch.commands.append(command)
        more = bool(self._commands)
        self._commands.extendleft(reversed(later))
        return size, more

    @staticmethod
    def _take(queue: FrameQueue, records: list[Append]) -> int:
        frames, taken, size = queue.frames, [], 0
        for _ in range(len(frames)):
            frame = frames.popleft()
            taken.append(frame)
            size += len(frame[1])
            if size >= _RECORD_BYTES:
                break
        if taken:
            batch = Frames(
                run_id=queue.run_id, thread_id=queue.thread_id, attempt=queue.attempt, seq=queue.seq, frames=taken
            )
            records.append(Append(Topic.STREAM, queue.partition, queue.thread_id, batch.encode()))
            queue.seq += len(taken)
        return size
