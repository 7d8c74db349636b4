"""Waiters: subscribers that wait for one result, the end of a run with its last values, or one event."""

from __future__ import annotations

import asyncio
from typing import Any

from threadlog.api.streaming.cursor import FrameCursor, RunEnd, run_end_of
from threadlog.api.streaming.hub import WakeUp
from threadlog.engine.log.records import Frames

# A run whose stream modes lack `values` sends its final ones under a name that clients never see.
_VALUES = frozenset((b"values", b"~output"))


class FinalValuesWaiter:
    """Subscriber that keeps only a run's newest values and its end, so it never falls behind."""

    def __init__(self, thread_id: str, run_id: str, *, from_start: bool, frame_wait_seconds: float) -> None:
        self.thread_id = thread_id
        self.run_id: str | None = run_id
        self.values: bytes | None = None
        self.end: RunEnd | None = None
        self.closed = False
        self._from_start = from_start
        self._progress = FrameCursor()
        self._waiter = WakeUp()
        self._frame_wait_seconds = frame_wait_seconds
        self._give_up_at: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every frame of the run was seen: then `values` are its final ones."""
        return self._from_start and self.end is not None and self._progress.reached(self.end)

    async def wait(self, seconds: float) -> bool:
        """True once the run has ended and its frames are here (or won't come any more); False after `seconds`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            if self.closed:
                return True
            if self.end is not None:
                if not self._from_start or self._progress.reached(self.end):
                    return True
                if self._give_up_at is None:
                    self._give_up_at = loop.time() + self._frame_wait_seconds
                elif loop.time() >= self._give_up_at:
                    return True
            left = min(until, self._give_up_at or until) - loop.time()
            if left <= 0 and loop.time() >= until:
                return False
            await self._waiter.wait(max(left, 0))

    def close(self) -> None:
        """End the wait: the client has disconnected, or the server stops."""
        self.closed = True
        self._waiter.notify()

    # --- Subscriber

    def on_frames(self, offset: int, size: int, frames: Frames) -> None:
        first = self._progress.admit(frames)
        if first is None:
            return
        for name, data in frames.frames[first:]:
            if name in _VALUES:
                self.values = data
        if self.end is not None:
            self._waiter.notify()

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        if self.end is None and (end := run_end_of(event, str(self.run_id))) is not None:
            self.end = end
            self._waiter.notify()

    def on_shutdown(self) -> None:
        self.close()


class EventWaiter:
    """Subscriber that waits for one event: the first of these types whose fields, where it has them, are these."""

    def __init__(self, thread_id: str, *types: str, **fields: str) -> None:
        self.thread_id = thread_id
        self.run_id: str | None = ""  # no frames
        self.event: dict[str, Any] | None = None
        self.closed = False
        self._types = types
        self._fields = fields
        self._waiter = WakeUp()

    async def wait(self, seconds: float) -> dict[str, Any] | None:
        """The event, or None after `seconds` or at shutdown."""
        if self.event is None and not self.closed:
            await self._waiter.wait(seconds)
        return self.event

    def on_frames(self, offset: int, size: int, frames: Frames) -> None:
        pass

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        if event["type"] in self._types and all(event.get(k, v) == v for k, v in self._fields.items()):
            self.event = self.event or event
            self._waiter.notify()

    def on_shutdown(self) -> None:
        self.closed = True
        self._waiter.notify()
