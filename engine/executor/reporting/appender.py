"""The one appender of an executor process: stream frames and commands of all its runs leave through here, in batches.

The first thing posted goes out almost at once; what gathers while some appends are in flight goes out with the next.
A thread is in one append at a time, so that its frames and commands keep their order: frames posted before a command
reach the log before it or in the same append. Appends that fail are repeated, the same bytes, until they work, and
nothing new is sent meanwhile: the processor drops a repeated command id, readers a repeated `(run, attempt, seq)`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from threadlog.engine.executor.loop_yield import LoopYield
from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Topic
from threadlog.engine.log.records import Frames

logger = logging.getLogger(__name__)

_LINGER_IDLE_SECONDS = 0.001  # frames wait this long for more (a short run then needs one append, not two) …
_LINGER_BUSY_SECONDS = 0.004  # … and this long after the previous append, …
_FIRST_TOKEN = 1  # … but for an attempt's second frame (its first says that it runs): somebody looks at an empty page
_BATCH_BYTES = 2 * 1024 * 1024
_RECORD_BYTES = 256 * 1024  # of one run's frames: a reader never has to take more at once
_RESEND_SECONDS = 2.0  # stream appends are not flushed to disk by a Postgres log: wal_writer_delay x 3 = 0.6 s at most
_RESEND_BYTES = 64 * 1024 * 1024
_BACK_OFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
LOST_FRAME = b"~lost"  # stands for a frame the log refused
_IN_FLIGHT = 4  # appends: a run's last report does not wait for the whole of one that has just left
FULL_BYTES = 32 * 1024 * 1024  # above this, runs wait between supersteps and threads that write wait at once


class Appending(Protocol):
    """What the outbox needs of a log."""

    def append(self, records: Sequence[Append]) -> Coroutine[Any, Any, list[int]]: ...


@dataclass(slots=True)
class _Command:
    record: Append
    done: asyncio.Future[int]


@dataclass(slots=True)
class _Batch:
    """One append: its commands come last in `records`."""

    records: list[Append]
    commands: list[_Command]
    threads: set[str]
    unknown: bool = False  # the log was away: it may have forgotten what it had


def _without_data(record: Append) -> Append:
    """The same frames without what is in them, so that readers do not wait for their numbers for ever."""
    batch = Frames.decode(record.value)
    empty = replace(batch, frames=[(LOST_FRAME, b"null")] * len(batch.frames))
    return replace(record, value=empty.encode())


class BatchingAppender:
    """Appends for one process. Made and closed on its event loop."""

    def __init__(self, log: Appending, *, loop_yield: bool = True) -> None:
        """`log` may return anything as the offset of a stream record. `loop_yield`: see `LoopYield`."""
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._dirty: deque[FrameQueue] = deque()
        self._sending: set[str] = set()  # threads that are in an append under way
        self._in_flight: set[asyncio.Task[list[int]]] = set()
        self._failed: list[_Batch] = []
        self._commands: deque[_Command] = deque()
        self._recovery: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._due = 0.0  # of the timer
        self._closed = False
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._recent: deque[tuple[float, Append]] = deque()
        self._recent_bytes = 0
        self._again: list[Append] = []
        self._last_append = 0.0
        self.queued_bytes = 0
        self.precedence = LoopYield(self._loop) if loop_yield else None

    # --- posting ---------------------------------------------------------------------------------

    def frames(self, *, run_id: str, thread_id: str, attempt: int, partition: int, held: bool = False) -> FrameQueue:
        return FrameQueue(self, run_id=run_id, thread_id=thread_id, attempt=attempt, partition=partition, held=held)

    def wake(self, queue: FrameQueue) -> None:
        """`queue` has frames. Any thread."""
        if self.on_loop:
            self._wake(queue)
        else:
            self._loop.call_soon_threadsafe(self._wake, queue)

    def _wake(self, queue: FrameQueue) -> None:
        self._idle.clear()
        self._dirty.append(queue)
        self._soon(self._linger(queue))

    def command(self, partition: int, key: str, value: bytes) -> asyncio.Future[int]:
        """Append an encoded command envelope; the future holds its offset once it is durably in the log.

        It holds an exception when the log refuses this very record, whatever the reason.
        """
        done: asyncio.Future[int] = self._loop.create_future()
        self._commands.append(_Command(Append(Topic.COMMANDS, partition, key, value), done))
        self.queued_bytes += len(value)
        self._idle.clear()
        self._soon()
        return done

    # --- back-pressure -----------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self.queued_bytes > FULL_BYTES

    @property
    def on_loop(self) -> bool:
        """Called on the loop's thread."""
        return threading.get_ident() == self._thread

    async def room(self, queue: FrameQueue) -> None:
        """Wait while too much is queued, in all or of this queue."""
        while queue.full:
            self._room.clear()
            await self._room.wait()

    async def drained(self) -> None:
        """Wait until everything posted so far is in the log."""
        await asyncio.sleep(0)  # what threads put is known to the loop now
        await self._idle.wait()

    # --- the appender ------------------------------------------------------------------------------

    def connection_lost(self) -> None:
        """The database went away: send the stream's last seconds again, it may have forgotten them."""
        since = time.monotonic() - _RESEND_SECONDS
        self._again = [record for at, record in self._recent if at >= since] + self._again
        self._recent.clear()
        self._recent_bytes = 0
        if self._again:
            self._idle.clear()
            self._soon()

    async def aclose(self) -> None:
        """Stop; what is not in the log by now is dropped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._in_flight, *([self._recovery] if self._recovery else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for command in self._commands:
            command.done.cancel()

    def _soon(self, seconds: float = 0.0) -> None:
        """Send what there is in so many seconds at the latest."""
        if self._closed:
            return
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._flush) if seconds > 0 else self._loop.call_soon(self._flush)

    def _linger(self, queue: FrameQueue) -> float:
        """How long frames wait for company; a command does not."""
        if queue.seq <= _FIRST_TOKEN:
            return 0.0 if queue.seq else _LINGER_IDLE_SECONDS
        return max(_LINGER_IDLE_SECONDS, self._last_append + _LINGER_BUSY_SECONDS - time.monotonic())

    def _flush(self) -> None:
        self._timer = None
        if self._recovery is not None:
            return  # at its end
        if self._failed or self._again:
            self._recovery = self._loop.create_task(self._recover(), name="outbox recovery")
            return
        more = True
        while more and len(self._in_flight) < _IN_FLIGHT:
            batch, more = self._collect()
            if not batch.records:
                break
            self._sending |= batch.threads
            self._last_append = time.monotonic()
            append = self._loop.create_task(self._log.append(batch.records))
            self._in_flight.add(append)
            append.add_done_callback(partial(self._ended, batch))
        self._look_idle()

    def _ended(self, batch: _Batch, append: asyncio.Task[list[int]]) -> None:
        self._in_flight.discard(append)
        if append.cancelled():
            return
        error = append.exception()
        if error is None:
            return self._landed(batch, append.result())
        if isinstance(error, LogUnavailable):
            known = "unknown whether" if isinstance(error, AppendUnknown) else "not"
            logger.warning("append of %d records failed (%s in the log): %s", len(batch.records), known, error)
            batch.unknown = True
        self._failed.append(batch)
        self._soon()

    def _landed(self, batch: _Batch, offsets: Sequence[int]) -> None:
        first = len(batch.records) - len(batch.commands)
        for command, offset in zip(batch.commands, offsets[first:], strict=True):
            if not command.done.done():
                command.done.set_result(offset)
        self._remember(batch.records[:first])
        self._over(batch)

    def _over(self, batch: _Batch) -> None:
        self._sending -= batch.threads
        self._last_append = time.monotonic()
        if self.queued_bytes <= FULL_BYTES // 2:
            self._room.set()  # who waits for its own queue looks again
        if self._commands:
            self._soon()
        elif self._dirty:
            self._soon(min(map(self._linger, self._dirty)))
        self._look_idle()

    def _look_idle(self) -> None:
        waiting = self._dirty or self._commands or self._again or self._failed
        if not waiting and not self._sending:
            self.queued_bytes = 0
            self._idle.set()

    async def _recover(self) -> None:
        """What failed is sent again, in order, behind what the log may have forgotten; one append at a time."""
        try:
            await self._send_again()
        finally:
            self._recovery = None
            self._soon()

    async def _send_again(self) -> None:
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        failed, self._failed = self._failed, []
        if any(batch.unknown for batch in failed):
            self.connection_lost()
        for batch in failed or [_Batch([], [], set())]:
            batch.records, self._again = self._again + batch.records, []
            await self._persist(batch)

    def _collect(self) -> tuple[_Batch, bool]:
        """What goes into the next append: frames first, then the commands that may speak of them."""
        batch, size = _Batch([], [], set()), 0
        busy: list[FrameQueue] = []
        while self._dirty and size < _BATCH_BYTES:
            queue = self._dirty.popleft()
            if queue.thread_id in self._sending:
                busy.append(queue)
                continue
            queue.waiting = False  # before taking: a frame put from now on wakes us again
            batch.threads.add(queue.thread_id)
            size += self._take(queue, batch.records)
            if not queue.frames and queue.spill is not None:
                self.queued_bytes += queue.refill()
            if queue.frames and not queue.waiting:
                queue.waiting = True
                self._dirty.append(queue)
        more = bool(self._dirty)
        if not more:
            later: list[_Command] = []
            while self._commands and size < _BATCH_BYTES:
                command = self._commands.popleft()
                if command.record.key in self._sending:
                    later.append(command)
                    continue
                size += len(command.record.value)
                batch.threads.add(command.record.key)
                batch.records.append(command.record)
                batch.commands.append(command)
            more = bool(self._commands)
            self._commands.extendleft(reversed(later))
        self._dirty.extendleft(reversed(busy))
        self.queued_bytes -= size
        return batch, more

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

    async def _persist(self, batch: _Batch) -> None:
        failures = 0
        records, commands = batch.records, batch.commands
        while True:
            try:
                offsets = await self._log.append(records)
                break
            except LogUnavailable as error:
                if failures in (0, 10) or failures % 60 == 0:
                    logger.warning("append of %d records failed again: %s", len(records), error)
                self.connection_lost()
                records = self._again + records
                self._again = []
                await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)])
                failures += 1
            except Exception as error:
                if len(records) > 1:  # one of them is at fault; the others must not suffer
                    for record in records[: len(records) - len(commands)]:
                        await self._persist(_Batch([record], [], set()))
                    for command in commands:
                        await self._persist(_Batch([command.record], [command], set()))
                    return self._over(batch)
                logger.exception("a record of %d bytes cannot be appended", len(records[0].value))
                if commands:
                    if not commands[0].done.done():
                        commands[0].done.set_exception(error)
                    return self._over(batch)
                records = [_without_data(records[0])]
                failures += 1
                if failures > 3:
                    return self._over(batch)
        if failures:
            logger.info("the log takes appends again")
        self._landed(_Batch(records, commands, batch.threads), offsets)

    def _remember(self, records: list[Append]) -> None:
        now = time.monotonic()
        for record in records:
            self._recent.append((now, record))
            self._recent_bytes += len(record.value)
        since = now - _RESEND_SECONDS
        while self._recent and (self._recent[0][0] < since or self._recent_bytes > _RESEND_BYTES):
            _, record = self._recent.popleft()
            self._recent_bytes -= len(record.value)
