"""Memory of attempts that have ended: given back soon, however they ended.

An exception holds the frames it came through, and these what nodes had in their variables. LangGraph leaves reference
cycles there (an interrupt's traceback in a variable of a frame of that traceback), and Python's collector, which counts
objects and not bytes, finds a few large ones after hours. So frames are cleared where the exception is at hand, and the
collector runs after attempts that leave such cycles, and after those during which the process has grown; what the C
allocator holds although it is free is returned then, too. A collection
frees nothing that another thread still refers to, as a node's thread does to the exception that it has just handed to
the loop, until the interpreter gives it a turn: so the collector runs again while the attempt's saver, which the cycles
refer to through the run's config, is still alive.
"""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from threadlog.engine.allocator import trim

# A collection takes 3 ms with 40 000 objects made since the start (those before are frozen), 84 ms with ten times as
# many. After attempts that leave cycles the collector may have …
_SHARE = 0.05  # … so much of the time, which delays a collection while many such attempts end
_GROWTH_BYTES = 64 * 1024 * 1024  # since the last collection: worth another one
_LOOK_SECONDS = 1.0  # how often growth is looked for, at most
_AGAIN_SECONDS = (0.1, 0.4, 1.6, 6.4, 25.6)  # after a collection that left something alive; then user code holds it


@dataclass(slots=True)
class _Remains:
    """What tells whether an attempt's memory has been freed, and how many collections have left it alive."""

    witness: weakref.ref[object]
    survived: int = 0


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
        trim: Callable[[], object] = trim,
    ) -> None:
        self._loop, self._collect, self._resident, self._clock, self._trim = loop, collect, resident, clock, trim
        self._timer: asyncio.TimerHandle | None = None
        self._next = self._look_next = 0.0  # loop time
        self._resident_then = resident()
        self._remains: list[_Remains] = []

    def attempt_ended(self, *, cycles: bool, witness: object | None = None) -> None:
        """`cycles`: it failed, was stopped or interrupted. `witness`: an object that the cycles refer to."""
        now = self._loop.time()
        if not cycles:
            if now < self._look_next:
                return
            self._look_next = now + _LOOK_SECONDS
            if self._resident() - self._resident_then < _GROWTH_BYTES:
                return
        if witness is not None:
            self._remains.append(_Remains(weakref.ref(witness)))
        self._schedule(now)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, when: float) -> None:
        """Collect at this time (the loop's), or when the share allows it."""
        when = max(when, self._next)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._run)

    def _run(self) -> None:
        self._timer = None
        began = self._clock()
        self._collect()
        resident = self._resident()
        if resident - self._resident_then >= _GROWTH_BYTES:  # the collector's part may be free, and still held
            self._trim()
            resident = self._resident()
        self._resident_then = resident
        now = self._loop.time()
        self._next = now + (self._clock() - began) / _SHARE
        self._look_again(now)

    def _look_again(self, now: float) -> None:
        """Have what this collection left alive collected later, unless it has survived too many."""
        alive = []
        for remains in self._remains:
            if remains.survived < len(_AGAIN_SECONDS) and remains.witness() is not None:
                remains.survived += 1
                alive.append(remains)
        self._remains = alive
        if alive:
            self._schedule(now + min(_AGAIN_SECONDS[remains.survived - 1] for remains in alive))
