"""How many more attempts may begin in this process.

Attempts that may turn out to be short ones, the young, work side by side in small number: with more of them all end
late, and all at once. Whoever waits for something makes room for others, and is no short one any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

AT_MOST = 8  # young attempts that want the interpreter. 16 clients had 355 runs/s; with 16 of them 335, with 5 the same
_WAITING_SECONDS = 0.03  # no superstep passed for so long: it waits for something …
_WAITING_LAGS = 10  # … plus this many times the loop's lag: on a busy machine a superstep takes as much longer …
_WAITING_IDLE_SECONDS = 0.005  # … or makes room after this already, while the process has little to do, …
_IDLE_SHARE = 0.5  # … which is less than this of a core
_YOUNG_SECONDS = 1.0  # after this nobody is young any more
_SWEEP_SECONDS = 0.005


class NewAttempt(Protocol):
    """An attempt, as this has to know it."""

    started: float  # loop time

    @property
    def progress(self) -> float:
        """When it last passed a superstep (loop time)."""
        ...

    @property
    def working(self) -> bool:
        """Its graph still runs."""
        ...

    def settle(self) -> None:
        """It is not a short one."""
        ...


class AdmissionControl:
    """Knows the young attempts. `changed()` is called when there may be more room."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        """`cpu()`: CPU seconds that this process has used."""
        self._loop, self._changed, self._cpu = loop, changed, cpu
        self._young: dict[NewAttempt, None] = {}
        self._hungry = 0  # those of them that want the interpreter
        self._sweep: asyncio.TimerHandle | None = None
        self._swept = self._cpu_then = 0.0
        self._lag = 0.0

    @property
    def free(self) -> int:
        """How many more may begin now."""
        return AT_MOST - self._hungry

    def enter(self, attempt: NewAttempt) -> None:
        """It has begun."""
        self._young[attempt] = None
        self._hungry += 1
        if self._sweep is None:
            self._swept, self._cpu_then = self._loop.time(), self._cpu()
            self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._look)

    def leave(self, attempt: NewAttempt) -> None:
        """It has ended."""
        if attempt in self._young:
            del self._young[attempt]
            self._hungry = max(0, self._hungry - 1)
            self._changed()

    def _look(self) -> None:
        now, cpu = self._loop.time(), self._cpu()
        if self._sweep is not None:
            self._lag += (max(0.0, now - self._sweep.when()) - self._lag) * 0.3
        self._sweep = None
        idle = cpu - self._cpu_then < _IDLE_SHARE * (now - self._swept)
        self._swept, self._cpu_then = now, cpu
        waiting = _WAITING_SECONDS + _WAITING_LAGS * self._lag
        self._hungry = 0
        for attempt in list(self._young):
            if not attempt.working:
                del self._young[attempt]
            elif now - attempt.progress >= waiting or now - attempt.started >= _YOUNG_SECONDS:
                del self._young[attempt]
                attempt.settle()
            elif not idle or now - attempt.progress < _WAITING_IDLE_SECONDS:
                self._hungry += 1
        self._changed()
        if self._young:
            self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._look)
