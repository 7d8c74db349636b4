"""Admission control: how many more attempts may begin in this process.

Attempts that may turn out to be short ones work side by side in small number: with more of them all end late, and all
at once. One that goes on for longer than short ones do is told so, and makes room; while all of them do, twice as many
begin each time, until a short one ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

# Short attempts side by side. 16 clients had 355 runs/s; with 16 of these 335, with 5 the same
# (docs/performance/speed.md).
AT_MOST = 8
# The age of the longest short attempt, in ticks and not in seconds: on a loop that is behind, ticks are late, and short
# attempts take longer. A run of two nodes takes 4 ms by itself, eight of them side by side on one core 30 ms.
SHORT_TICKS = 8
# Attempts that may be short ones, after as many that were not. A thousand runs that sleep begin within 1.2 s in two
# executors; eight at a time, within 2.5 s (docs/performance/speed.md).
AT_MOST_AFTER_LONG_ONES = 64
_TICK_SECONDS = 0.005


class NewAttempt(Protocol):
    """What admission control has to know of an attempt."""

    @property
    def working(self) -> bool:
        """Whether its graph still runs."""
        ...

    def settle(self) -> None:
        """It is not a short one."""
        ...


class AdmissionControl:
    """Counts the attempts that may be short ones. `changed()` is called when more may begin."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None], *, short_ticks: int = SHORT_TICKS
    ) -> None:
        self._loop, self._changed = loop, changed
        self._short_ticks = short_ticks
        self._ages: dict[NewAttempt, int] = {}  # in ticks
        self._at_most = AT_MOST
        self._timer: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        """How many more may begin now."""
        return self._at_most - len(self._ages)

    def enter(self, attempt: NewAttempt) -> None:
        """It has begun."""
        self._ages[attempt] = 0
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    def leave(self, attempt: NewAttempt) -> None:
        """It has ended."""
        if self._ages.pop(attempt, None) is not None:
            self._at_most = AT_MOST
            self._changed()

    def _tick(self) -> None:
        before = len(self._ages)
        for attempt, age in list(self._ages.items()):
            if not attempt.working:
                del self._ages[attempt]
                self._at_most = AT_MOST
            elif age + 1 >= self._short_ticks:
                del self._ages[attempt]
                self._at_most = min(self._at_most + 1, AT_MOST_AFTER_LONG_ONES)
                attempt.settle()
            else:
                self._ages[attempt] = age + 1
        if len(self._ages) < before:
            self._changed()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick) if self._ages else None
