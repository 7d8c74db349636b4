"""Stream: acknowledges a value when its agent asks for the next one, and not when the agent failed or was stopped.

Faust's own acknowledges in a `finally`: what an agent raised at, or was cancelled at, counts as done and never comes
again. That is at most once for exactly those values that need another try.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from faust import Stream


class _Dropped:
    """Stands for a message that does not count: it is acknowledged, and no agent sees it."""


DROPPED: Final = _Dropped()


class SubscriberStream(Stream):  # type: ignore[misc]
    """At least once. `async for value in stream`, `stream.events()`, and `stream.batches(…)` instead of `take`."""

    enable_acks: bool
    _acks: bool | None = None  # as `noack` left it

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._one_by_one()

    async def _one_by_one(self) -> AsyncGenerator[Any, None]:
        async with aclosing(self._unacknowledged()) as values:
            async for value in values:
                event = self.current_event
                yield value
                if self._acks and event is not None:
                    await self.ack(event)

    async def batches(self, most: int) -> AsyncGenerator[list[Any], None]:
        """What has arrived, up to `most` values at a time and at least one; waits for none but the first.

        The values of a batch are acknowledged when the agent asks for the next one.
        """
        async with aclosing(self._unacknowledged()) as values:
            batch: list[Any] = []
            events: list[Any] = []
            async for value in values:
                batch.append(value)
                events.append(self.current_event)
                if len(batch) < most and self._has_more():
                    continue
                yield batch
                if self._acks:
                    for event in events:
                        await self.ack(event)
                batch, events = [], []

    def take(self, *_: object, **__: object) -> Any:
        raise NotImplementedError("take() acknowledges what its agent failed at: use batches()")

    async def _unacknowledged(self) -> AsyncGenerator[Any, None]:
        if self._acks is None:
            self._acks, self.enable_acks = self.enable_acks, False
        if self.app.crashed:  # its supervisor restarts an agent that failed: nothing may overtake what it failed at
            await self.app.wait_until_stopped()
            return
        async with aclosing(Stream.__aiter__(self)) as values:
            async for value in values:
                yield value

    def _has_more(self) -> bool:
        """Whether another value can be had without waiting: one of those that wait is not a dropped one."""
        return any(event.value is not DROPPED for event in self.channel.queue._queue)
