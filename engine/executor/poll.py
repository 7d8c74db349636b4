"""Poll interval of an executor: how long it waits before it looks again for what notifications may have missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from threadlog.engine.executor.leases import LEASE_SECONDS

# Longer than what could not be claimed waits for the end of another executor's lease: nothing is notified of that.
CALM_SECONDS = LEASE_SECONDS + 1.0
CALM_POLL_SECONDS = 5.0


class PollInterval:
    """`seconds`, and `calm_poll_seconds` when there has been nothing to do for `calm_seconds`.

    `idle()`: whether there is nothing to do, and what there is to do will be told by more than the database.
    """

    def __init__(
        self,
        seconds: float,
        idle: Callable[[], bool],
        *,
        calm_seconds: float = CALM_SECONDS,
        calm_poll_seconds: float = CALM_POLL_SECONDS,
    ) -> None:
        self._seconds, self._idle = seconds, idle
        self._calm_seconds, self._calm_poll_seconds = calm_seconds, calm_poll_seconds
        self._stirred = asyncio.Event()
        self._stirred_at = asyncio.get_running_loop().time()

    def stir(self) -> None:
        """Something was heard: the next poll is soon."""
        self._stirred.set()

    async def wait(self) -> None:
        """Return when it is time for the next poll."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._seconds)
            if self._stirred.is_set() or not self._idle():
                self._stirred_at = now()
            self._stirred.clear()
            if now() - self._stirred_at < self._calm_seconds:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._calm_poll_seconds - self._seconds):
                    await self._stirred.wait()
                    continue
            return
