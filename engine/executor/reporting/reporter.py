"""What one attempt has to say, as `run.report` commands: a short run says everything in one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Protocol

from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import ReportRun
from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.encryption.content import sealed_item, sealed_outcome
from threadlog.engine.executor.reporting.appender import BatchingAppender
from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.log.records import EXECUTOR, CommandEnvelope

_GATHER_SECONDS = 0.01  # items of a run that goes on wait this long for more


class ReportApplied(Protocol):
    """Waits until the command at this offset of the partition is projected."""

    async def __call__(self, partition: int, offset: int) -> None: ...


class AttemptReporter:
    """Collects what an attempt reports and posts it in order, one report in flight at a time.

    Nothing leaves before `settle`, `flush` or `finish`, nor do held frames: until then the attempt may be a short
    one, all of which is one append.
    """

    def __init__(
        self,
        appender: BatchingAppender,
        frames: FrameQueue,
        *,
        executor: str,
        applied: ReportApplied,
        key: DataKey | None = None,
    ) -> None:
        """`key`: encrypts the content of what leaves."""
        self._appender, self._frames, self._applied, self._key = appender, frames, applied, key
        self._started: dict[str, Any] | None = {"executor": executor, "at": utc_now()}
        self._items: list[dict[str, Any]] = []
        self.trace: str | None = None
        """The trace context of the attempt, which its reports carry."""
        self._number = 0
        self._in_flight: asyncio.Future[int] | None = None
        self._last: asyncio.Future[int] | None = None  # the report with the outcome
        self._last_offset: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._settled = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    # --- what the checkpointer uses ------------------------------------------------------------------

    def add(self, item: dict[str, Any]) -> None:
        """Report this, after everything added before. Buffered. Any thread, one at a time."""
        self._items.append(item)
        if self._settled and self._timer is None and self._in_flight is None:
            if threading.get_ident() == self._thread:
                self._gather()
            else:  # for a loop that user code blocks
                self._loop.call_soon_threadsafe(self._gather)

    @property
    def empty(self) -> bool:
        """Nothing was added yet."""
        return self._number == 0 and not self._items

    async def flush(self) -> None:
        """Everything added so far is durably in the log when this returns."""
        while self._items or self._in_flight is not None:
            if self._in_flight is not None:
                await self._landed(self._in_flight)
            else:
                self._post(None)

    async def applied(self) -> None:
        """Everything added so far is in the log and projected when this returns."""
        await self.flush()
        if self._last_offset is not None:
            await self._applied(self._frames.partition, self._last_offset)

    # --- what the runner uses --------------------------------------------------------------------------

    def settle(self) -> None:
        """The attempt is not a short one: report from now on as it goes."""
        if not self._settled and not self._closed:
            self._settled = True
            self._frames.release()
            if self._items:
                self._gather(0.0)

    async def finish(self, outcome: dict[str, Any]) -> None:
        """Post the last report; it is durably in the log when this returns.

        Called again it waits for the one that was posted, and posts another one only if that was refused.
        """
        self._closed = True
        self._cancel_timer()
        if self._last is None or (self._last.done() and not self.finished):
            if self._in_flight is not None:
                await self._landed(self._in_flight)
            self._last = self._post(outcome)
        await self._landed(self._last)

    @property
    def finished(self) -> bool:
        """The last report is durably in the log."""
        last = self._last
        return last is not None and last.done() and not last.cancelled() and last.exception() is None

    def forget(self) -> None:
        """Drop the items that were not posted."""
        self._items.clear()

    def abandon(self) -> None:
        """Say nothing more: the attempt belongs to somebody else now."""
        self._closed = True
        self._cancel_timer()
        self._items.clear()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _gather(self, seconds: float = _GATHER_SECONDS) -> None:
        if self._timer is None and self._in_flight is None and not self._closed:
            self._timer = self._loop.call_later(seconds, self._post_gathered)

    def _post_gathered(self) -> None:
        self._timer = None
        if self._in_flight is None and not self._closed and self._items:
            self._post(None)

    def _post(self, outcome: dict[str, Any] | None) -> asyncio.Future[int]:
        self._cancel_timer()
        frames = self._frames
        items, self._items = self._items, []
        if (key := self._key) is not None:
            items = [sealed_item(item, key) for item in items]
            outcome = None if outcome is None else sealed_outcome(outcome, key)
        report = ReportRun(
            thread_id=frames.thread_id,
            run_id=frames.run_id,
            attempt=frames.attempt,
            started=self._started,
            items=items,
            outcome=outcome,
        )
        envelope = CommandEnvelope.of(
            report,
            id=f"{frames.run_id}:{frames.attempt}:{self._number}",
            key=frames.thread_id,
            at=utc_now(),
            actor=EXECUTOR,
            trace=self.trace,
        )
        self._started = None
        self._number += 1
        frames.release()  # they are in the log before the report that counts them, or in its append
        self._in_flight = self._appender.command(frames.partition, frames.thread_id, envelope.encode())
        self._in_flight.add_done_callback(self._acked)
        return self._in_flight

    async def _landed(self, report: asyncio.Future[int]) -> None:
        try:
            await asyncio.shield(report)
        finally:
            if report.done():
                self._acked(report)  # its callback may come only after us

    def _acked(self, done: asyncio.Future[int]) -> None:
        if self._in_flight is not done:
            return
        self._in_flight = None
        if not done.cancelled() and done.exception() is None:
            self._last_offset = done.result()
            if self._settled and self._items:
                self._gather()
