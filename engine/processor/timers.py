"""Commands that nobody asks for: of due timers, of attempts whose executor is gone, of items of the store that have
expired; each sent once at its time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Any

from threadlog.engine.clock import now, utc_now
from threadlog.engine.domain.commands import ExpireItems
from threadlog.engine.domain.store_namespace import key_of_namespace
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.records import ENGINE, CommandEnvelope
from threadlog.engine.processor.ports import CoordinationStore

log = logging.getLogger(__name__)

STORE_SWEEP_SECONDS = 300.0
"""LangGraph's default of `store.ttl.sweep_interval_minutes`."""
QUIET_SECONDS = 5.0
"""Between two looks for timers while none is due within twice as long: what is created meanwhile is expected."""
_NAMESPACES = 1000  # swept at a time; when there are more, the next look goes on

Send = Callable[[CommandEnvelope], Awaitable[None]]


class TimerService:
    """Finds what is due in the owned partitions and sends it; ids are deterministic, so sending twice is a no-op."""

    def __init__(
        self,
        coordination: CoordinationStore,
        send: Send,
        *,
        horizon_seconds: float,
        max_attempts: int,
        store_sweep_seconds: float = STORE_SWEEP_SECONDS,
    ) -> None:
        """`send` answers when it need not be sent again, raises `LogUnavailable` when it has to. What is due within
        `horizon_seconds` is sent on time; `look` has to be called at least four times in that while it is `busy`, and
        `projected` and `expect` of what is projected in between. Items of the store that have expired, which readers
        leave out already, are looked for every `store_sweep_seconds`."""
        self._coordination, self._send = coordination, send
        self._horizon_seconds = horizon_seconds
        self._max_attempts = max_attempts
        self._sweep_seconds, self._sweep_at = store_sweep_seconds, 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._sending: dict[str, asyncio.Task[None]] = {}
        # When the timers of these partitions, those looked at last, have to be looked at again, and how far ahead.
        self._timers_at, self._looked_at = 0.0, frozenset[int]()
        self._within = horizon_seconds
        self._far = max(horizon_seconds, 2 * QUIET_SECONDS)
        self._attempts = True  # whether there may be any, so that some may be lost

    @property
    def busy(self) -> bool:
        """Whether something may be due or lost before the next look for timers that are further ahead."""
        return self._attempts or self._within == self._horizon_seconds

    async def look(self, partitions: Sequence[int]) -> None:
        """Look what is, or soon will be, due in these partitions, as far as something can be."""
        if not self._looked_at.issuperset(partitions):
            self.anything_may_be()
        if time.monotonic() >= self._timers_at:
            await self._look_at_timers(partitions)
        if self._attempts:
            await self._look_at_attempts(partitions)
        self._looked_at = frozenset(partitions)
        if time.monotonic() >= self._sweep_at:
            await self._sweep_items(partitions)

    def projected(self) -> None:
        """Events of an owned partition are in the read models: an attempt may be new, which none is without them."""
        self._attempts = True

    def anything_may_be(self) -> None:
        """The next look looks at everything: what is in the read models was not told, or the clock has been moved."""
        self._attempts, self._timers_at = True, 0.0

    async def _look_at_timers(self, partitions: Sequence[int]) -> None:
        begun, within = time.monotonic(), self._within
        self._timers_at = begun + within / 2  # before the look, so that what is told meanwhile counts
        try:
            timers = await self._coordination.timers(partitions, within)
        except BaseException:
            self._timers_at = 0.0
            raise
        for timer in timers:
            self._set(timer.id, timer.type, timer.key, timer.body, timer.in_seconds)
        self._within = self._horizon_seconds if timers else self._far
        if timers:
            self._timers_at = min(self._timers_at, begun + self._horizon_seconds / 2)

    async def _look_at_attempts(self, partitions: Sequence[int]) -> None:
        self._attempts = False  # what is projected from now on may come too late for this look
        try:
            look = await self._coordination.look_at_attempts(partitions)
        except BaseException:
            self._attempts = True
            raise
        self._attempts = self._attempts or look.any_left
        for lost in look.lost:
            body = {
                "thread_id": lost.thread_id,
                "run_id": lost.run_id,
                "attempt": lost.attempt,
                "executor": lost.executor,
                "max_attempts": self._max_attempts,
            }
            self._set(f"lease:{lost.run_id}:{lost.attempt}", "run.expire_lease", lost.thread_id, body, 0)

    async def _sweep_items(self, partitions: Sequence[int]) -> None:
        expired = await self._coordination.expired_items(partitions, _NAMESPACES)
        for items in expired:
            labels = items.namespace.split(".")
            name = blake2b(items.namespace.encode(), digest_size=16).hexdigest()
            body = {"namespace": labels, "before": items.before}
            self._set(f"expire:{name}:{items.before}", ExpireItems.type, key_of_namespace(labels), body, 0)
        if len(expired) < _NAMESPACES:
            self._sweep_at = time.monotonic() + self._sweep_seconds

    def expect(self, created: Mapping[str, Any]) -> None:
        """A delayed run was created: should it be due before the next look, it is sent on time."""
        seconds = (datetime.fromisoformat(created["due_at"]) - now()).total_seconds()
        if seconds < self._far:  # the next look is soon, however many of them there are: none need be kept here
            self._within = self._horizon_seconds
            self._timers_at = min(self._timers_at, time.monotonic() + self._horizon_seconds / 2)
        if seconds < self._horizon_seconds:
            thread_id, run_id = created["thread_id"], created["run_id"]
            self._set(f"due:{run_id}", "run.due", thread_id, {"thread_id": thread_id, "run_id": run_id}, seconds)

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        sending = list(self._sending.values())
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    def _set(self, id_: str, type_: str, key: str, body: Mapping[str, Any], in_seconds: float) -> None:
        if in_seconds <= 0 and (early := self._timers.pop(id_, None)) is not None:
            early.cancel()  # it is due by the database's clock, which counts: one of the two was set
        if id_ not in self._timers and id_ not in self._sending:
            delay = max(0.0, in_seconds)
            fire = asyncio.get_running_loop().call_later
            self._timers[id_] = fire(delay, self._fire, CommandEnvelope(id_, type_, key, "", dict(body), ENGINE))

    def _fire(self, envelope: CommandEnvelope) -> None:
        del self._timers[envelope.id]
        self._sending[envelope.id] = asyncio.create_task(self._send_once(envelope))

    async def _send_once(self, envelope: CommandEnvelope) -> None:
        try:
            await self._send(replace(envelope, at=utc_now()))
        except LogUnavailable as error:
            log.warning(
                "%s could not be sent and will be found due again: %s", envelope.id, error, extra=envelope.log_fields
            )
        finally:
            del self._sending[envelope.id]
