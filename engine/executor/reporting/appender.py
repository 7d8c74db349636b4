"""The one appender of an executor process: stream frames and commands of all its runs leave through here, in batches.

The first thing posted goes out almost at once; what gathers while some appends are in flight goes out with the next.
A thread is in one append at a time, so that its frames and commands keep their order: frames posted before a command
reach the log before it or in the same append. Appends that fail are repeated, the same bytes, until they work, and
nothing new is sent meanwhile: the processor drops a repeated command id, readers a repeated `(run, attempt, seq)`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.executor.loop_yield import LoopYield
from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.executor.reporting.outgoing import AppendBatch, AppendLimits, OutgoingBuffer
from threadlog.engine.executor.reporting.recent import RecentRecords
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Topic
from threadlog.engine.log.records import Frames
from threadlog.engine.metrics import METRICS

logger = logging.getLogger(__name__)

_LINGER_IDLE_SECONDS = 0.001  # frames wait this long for more (a short run then needs one append, not two) …
_LINGER_BUSY_SECONDS = 0.004  # … and this long after the previous append, …
_FIRST_TOKEN = 1  # … but for an attempt's second frame (its first says that it runs): somebody looks at an empty page
_BACK_OFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
LOST_FRAME = b"~lost"  # stands for a frame the log refused


class Appending(Protocol):
    """What the appender needs of a log."""

    def append(self, records: Sequence[Append]) -> Awaitable[list[int]]: ...


def _without_data(record: Append) -> Append:
    """The same frames without what is in them, so that readers do not wait for their numbers for ever."""
    batch = Frames.decode(record.value)
    empty = replace(batch, frames=[(LOST_FRAME, b"null")] * len(batch.frames))
    return replace(record, value=empty.encode())


class BatchingAppender:
    """Appends for one process. Made and closed on its event loop."""

    def __init__(self, log: Appending, *, loop_yield: bool = True, limits: AppendLimits | None = None) -> None:
        """`log` may return anything as the offset of a stream record. `loop_yield`: see `LoopYield`."""
        self._log = log
        self._loop = asyncio.get_running_loop()
        self.buffer = OutgoingBuffer(self._posted, limits)
        self._sending: set[str] = set()  # threads that are in an append under way
        self._in_flight: set[asyncio.Future[list[int]]] = set()
        self._failed: list[AppendBatch] = []
        self._recovery: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._due = 0.0  # of the timer
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._recent = RecentRecords()
        self._again: list[Append] = []
        self._last_append = 0.0
        self.precedence = LoopYield(self._loop) if loop_yield else None

    # --- posting ---------------------------------------------------------------------------------

    def frames(
        self,
        *,
        run_id: str,
        thread_id: str,
        attempt: int,
        partition: int,
        held: bool = False,
        key: DataKey | None = None,
    ) -> FrameQueue:
        return FrameQueue(
            self.buffer, run_id=run_id, thread_id=thread_id, attempt=attempt, partition=partition, held=held, key=key
        )

    def command(self, partition: int, key: str, value: bytes) -> asyncio.Future[int]:
        """Append an encoded command envelope; the future holds its offset once it is durably in the log.

        It holds an exception when the log refuses this very record, whatever the reason.
        """
        return self.buffer.command(Append(Topic.COMMANDS, partition, key, value))

    def _posted(self, queue: FrameQueue | None) -> None:
        self._idle.clear()
        self._soon(0.0 if queue is None else self._linger(queue))

    async def drained(self) -> None:
        """Wait until everything posted so far is in the log."""
        await asyncio.sleep(0)  # what threads put is known to the loop now
        await self._idle.wait()

    # --- the appender ------------------------------------------------------------------------------

    def connection_lost(self) -> None:
        """The database went away: send the stream's last seconds again, it may have forgotten them."""
        self._again = self._recent.take() + self._again
        if self._again:
            self._idle.clear()
            self._soon()

    async def aclose(self) -> None:
        """Stop; what is not in the log by now is dropped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks: list[asyncio.Future[Any]] = [*self._in_flight, *([self._recovery] if self._recovery else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.buffer.cancel()

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
            self._recovery = self._loop.create_task(self._recover(), name="append recovery")
            return
        more = True
        while more and len(self._in_flight) < self.buffer.limits.in_flight:
            batch, more = self.buffer.collect(self._sending)
            if not batch.records:
                break
            self._sending |= batch.threads
            started = self._last_append = time.monotonic()
            append = asyncio.ensure_future(self._log.append(batch.records))
            self._in_flight.add(append)
            append.add_done_callback(partial(self._ended, batch, started))
        self._look_idle()

    def _ended(self, batch: AppendBatch, started: float, append: asyncio.Future[list[int]]) -> None:
        self._in_flight.discard(append)
        if append.cancelled():
            return
        error = append.exception()
        if error is None:
            METRICS.observe("stream_publish_latency", (time.monotonic() - started) * 1000)
            return self._landed(batch, append.result())
        if isinstance(error, LogUnavailable):
            known = "unknown whether" if isinstance(error, AppendUnknown) else "not"
            logger.warning("append of %d records failed (%s in the log): %s", len(batch.records), known, error)
            batch.unknown = True
        self._failed.append(batch)
        self._soon()

    def _landed(self, batch: AppendBatch, offsets: Sequence[int]) -> None:
        first = len(batch.records) - len(batch.commands)
        for command, offset in zip(batch.commands, offsets[first:], strict=True):
            if not command.done.done():
                command.done.set_result(offset)
        self._recent.add(batch.records[:first])
        self._over(batch)

    def _over(self, batch: AppendBatch) -> None:
        self._sending -= batch.threads
        self._last_append = time.monotonic()
        self.buffer.appended()
        if self.buffer.has_commands:
            self._soon()
        elif self.buffer.queues:
            self._soon(min(map(self._linger, self.buffer.queues)))
        self._look_idle()

    def _look_idle(self) -> None:
        waiting = self._again or self._failed or self._sending
        if not waiting and self.buffer.empty:
            self.buffer.queued_bytes = 0
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
        for batch in failed or [AppendBatch([], [], set())]:
            batch.records, self._again = self._again + batch.records, []
            await self._persist(batch)

    async def _persist(self, batch: AppendBatch) -> None:
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
                        await self._persist(AppendBatch([record], [], set()))
                    for command in commands:
                        await self._persist(AppendBatch([command.record], [command], set()))
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
        self._landed(AppendBatch(records, commands, batch.threads), offsets)
