"""Node threads that stream let the event loop go before them.

The interpreter runs one thread at a time and hands itself to any of those that wait, after a while. With eight nodes
that produce tokens in threads the loop gets every ninth turn, and everything that passes it waits: claims, runs that
begin, tokens that leave. So a thread that puts frames stops now and then until the loop has nothing left to do.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

# With 16 chat streams half of the first gave 4 % fewer tokens, and the first of them 3 ms sooner in one comparison, no
# sooner in two others (docs/performance/speed.md).
_EVERY_SECONDS = 0.001  # threads compute this long before they make way again …
_AT_MOST_SECONDS = 0.004  # … for this long, should the loop always have more to do
_IDLE_TURN_SECONDS = 0.0001  # a turn of the loop as short as this had nothing to do
BLOCKED_SECONDS = 0.01  # a loop that does not answer is blocked by user code: threads go on …
_BLOCKED_AGAIN_SECONDS = 0.05  # … and ask again after this


class LoopYield:
    """Made on the loop's thread; `yield_to_loop` is for all others."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
        *,
        blocked_seconds: float = BLOCKED_SECONDS,
    ) -> None:
        self._loop, self._clock, self._blocked_seconds = loop, clock, blocked_seconds
        self._free = threading.Event()  # threads may go on
        self._free.set()
        self._next = 0.0
        self._turn_began = self._until = 0.0

    def make_way(self, *, at_once: bool = False) -> None:
        """Wait until the loop has done what it has to do, if it is time for that or `at_once`. Not on its thread."""
        if self._free.is_set():
            if not at_once and self._clock() < self._next:
                return
            self._free.clear()
            self._loop.call_soon_threadsafe(self._begin)
        if not self._free.wait(self._blocked_seconds):
            self._release(_BLOCKED_AGAIN_SECONDS)

    def _begin(self) -> None:
        self._turn_began = self._clock()
        self._until = self._turn_began + _AT_MOST_SECONDS
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = self._clock()
        if now - self._turn_began < _IDLE_TURN_SECONDS or now >= self._until:
            self._release(_EVERY_SECONDS)
        else:
            self._turn_began = now
            self._loop.call_soon(self._turn)

    def _release(self, seconds: float) -> None:
        self._next = self._clock() + seconds
        self._free.set()
