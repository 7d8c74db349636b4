"""Memory of attempts that have ended: given back soon, however they ended.

An exception holds the frames it came through, and these what nodes had in their variables. LangGraph leaves reference
cycles there (an interrupt's traceback in a variable of a frame of that traceback), and Python's collector, which counts
objects and not bytes, finds a few large ones after hours. So frames are cleared where the exception is at hand, and the
collector runs after attempts that leave such cycles, and after those during which the process has grown.
"""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
from collections.abc import Callable

import psutil

# A collection takes 3 ms with 40 000 objects made since the start (those before are frozen), 84 ms with ten times as
# many. After attempts that leave cycles the collector may have …
_SHARE = 0.05  # … so much of the time, which delays a collection while many such attempts end
_GROWTH_BYTES = 64 * 1024 * 1024  # since the last collection: worth another one
_LOOK_SECONDS = 1.0  # how often growth is looked for, at most


def clear_frames(error: BaseException | None) -> None:
    """Forget the local variables of all frames that this exception, and those it came from, went through."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        traceback.clear_frames(found.__traceback__)
        waiting += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


class Collector:
    """Decides when the garbage collector runs beside its own thresholds. On the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        collect: Callable[[], object] = gc.collect,
        resident: Callable[[], int] = _resident_bytes,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop, self._collect, self._resident, self._clock = loop, collect, resident, clock
        self._timer: asyncio.TimerHandle | None = None
        self._next = self._look_next = 0.0  # loop time
        self._resident_then = resident()

    def attempt_ended(self, *, cycles: bool) -> None:
        """`cycles`: it failed, was stopped or interrupted."""
        now = self._loop.time()
        if not cycles:
            if now < self._look_next:
                return
            self._look_next = now + _LOOK_SECONDS
            if self._resident() - self._resident_then < _GROWTH_BYTES:
                return
        if self._timer is None:
            self._timer = self._loop.call_at(max(now, self._next), self._run)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        self._timer = None
        began = self._clock()
        self._collect()
        self._next = self._loop.time() + (self._clock() - began) / _SHARE
        self._resident_then = self._resident()
