"""Waiters: subscribers that wait for one result, the end of a run with its last values, or one event."""

from __future__ import annotations

import asyncio
from typing import Any

from threadlog.api.streaming.cursor import VALUES, EndOfRun, FrameCursor, RunEnd
from threadlog.api.streaming.hub import WakeUp
from threadlog.engine.log.records import Frames


class FinalValuesWaiter:
    """Subscriber that keeps only a run's newest values and its end, so it never falls behind.

    `from_start`: it subscribed before the run existed, so that it sees every frame, and waits for them at the end.
    """

    def __init__(self, thread_id: str, run_id: str, *, from_start: bool, frame_wait_seconds: float) -> None:
        self.thread_id = thread_id
        self.run_id: str | None = run_id
        self.values: bytes | None = None
        self.closed = False
        self._from_start = from_start
        self._run_end = EndOfRun(run_id, frame_wait_seconds, FrameCursor((0, 0) if from_start else None))
        self._waiter = WakeUp()

    @property
    def end(self) -> RunEnd | None:
        """How the run ended, None while it has not."""
        return self._run_end.end

    @property
    def complete(self) -> bool:
        """Whether every frame of the run was seen: then `values` are its final ones."""
        return self._from_start and self._run_end.has_all_frames()

    def ended(self, end: RunEnd | None) -> None:
        """Note how the run ended, as its row tells (None: it had not); events note it by themselves."""
        self._run_end.set(end)

    async def wait(self, seconds: float) -> bool:
        """Returns True once the run has ended and its frames are here or given up, or after `close`; False after
        `seconds`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self.closed and not self._is_over():
            left = until - loop.time()
            if left <= 0:
                return False
            await self._waiter.wait(self._run_end.seconds_to_wait(left))
        return True

    def close(self) -> None:
        """End the wait: the client has disconnected, or the server stops."""
        self.closed = True
        self._waiter.notify()

    def _is_over(self) -> bool:
        return self._run_end.is_over() if self._from_start else self.end is not None

    # --- Subscriber

    def on_frames(self, offset: int, size: int, frames: Frames) -> None:
        first = self._run_end.cursor.admit(frames)
        if first is None:
            return
        for name, data in frames.frames[first:]:
            if name in VALUES:
                self.values = data
        if self.end is not None:
            self._waiter.notify()

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        if self._run_end.on_event(event):
            self._waiter.notify()

    def on_shutdown(self) -> None:
        self.close()


class EventWaiter:
    """Subscriber that waits for one event: the first of these types whose `fields`, where it has them, are these."""

    def __init__(self, thread_id: str, *types: str, **fields: str) -> None:
        self.thread_id = thread_id
        self.run_id: str | None = ""  # no frames
        self.event: dict[str, Any] | None = None
        self.closed = False
        self._types = types
        self._fields = fields
        self._waiter = WakeUp()

    async def wait(self, seconds: float) -> dict[str, Any] | None:
        """Returns the event; None after `seconds`, or when the server stops."""
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
