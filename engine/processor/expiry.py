"""Sweep of expired threads: every so often the partition's owner sends `thread.expire` to those whose ttl is over.

What is found here may be out of date: the thread's decider looks again, and leaves a thread on which something happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import ExpireThread
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.records import CommandEnvelope
from threadlog.engine.processor.ports import CoordinationStore, ExpiredThread

log = logging.getLogger(__name__)

# Commands under way at a time: a sweep of many threads leaves the partitions to their clients in between.
AT_A_TIME = 16
FIRST_SECONDS = 10.0
"""After a start, at most, so that an engine that is restarted again and again sweeps all the same."""


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """`checkpointer.ttl` of langgraph.json; the defaults are those of LangGraph Server."""

    interval_seconds: float = 300.0
    limit: int = 1000
    """Threads per sweep. The next sweep goes on behind the last one of them."""


class ExpirySweep:
    """Expires the threads of the owned partitions. `send` as for timers."""

    def __init__(
        self,
        coordination: CoordinationStore,
        send: Callable[[CommandEnvelope], Awaitable[None]],
        owned: Callable[[], Sequence[int]],
        options: SweepOptions,
    ) -> None:
        self._coordination, self._send, self._owned, self._options = coordination, send, owned, options
        self._after: ExpiredThread | None = None

    async def run(self) -> None:
        """A sweep every `interval_seconds`, until it is cancelled. Outages are waited out."""
        pause = min(self._options.interval_seconds, FIRST_SECONDS)
        while True:
            await asyncio.sleep(pause)
            pause = self._options.interval_seconds
            try:
                await self.sweep()
            except LogUnavailable as error:
                log.warning("expired threads are left to the next sweep: %s", error)
            except Exception:
                log.exception("expired threads are left to the next sweep")

    async def sweep(self) -> int:
        """One sweep; returns how many threads were told. Raises `LogUnavailable`."""
        partitions = self._owned()
        if not partitions:
            return 0
        expired = await self._coordination.expired_threads(partitions, self._options.limit, self._after)
        # What can't be expired for some reason is found again each time: it must not stand before the others for ever.
        self._after = expired[-1] if len(expired) == self._options.limit else None
        for start in range(0, len(expired), AT_A_TIME):
            some = expired[start : start + AT_A_TIME]
            await asyncio.gather(*(self._send(_command(thread)) for thread in some))
        return len(expired)


def _command(thread: ExpiredThread) -> CommandEnvelope:
    command = ExpireThread(thread_id=thread.thread_id)
    id_ = f"ttl:{thread.thread_id}:{thread.over_at}"
    return CommandEnvelope.of(command, id=id_, key=thread.thread_id, at=utc_now())
