"""Exponential backoff: how long a loop waits before it tries again what has failed."""

from __future__ import annotations

import asyncio

FIRST_SECONDS = 0.05
MOST_SECONDS = 1.0


class Backoff:
    """Waits of one loop: each `factor` times as long as the one before, until something has succeeded."""

    def __init__(
        self, first_seconds: float = FIRST_SECONDS, most_seconds: float = MOST_SECONDS, *, factor: float = 2.0
    ) -> None:
        """`most_seconds`: no wait is longer, so an outage's end is noticed at most this much later."""
        self._first, self._most, self._factor = first_seconds, most_seconds, factor
        self._next = first_seconds

    def next(self) -> float:
        """The seconds to wait now, for a caller that waits in its own way."""
        seconds, self._next = self._next, min(self._factor * self._next, self._most)
        return seconds

    async def wait(self) -> None:
        """Sleep before the next try."""
        await asyncio.sleep(self.next())

    def reset(self) -> None:
        """A try has succeeded: the next wait is a short one."""
        self._next = self._first
