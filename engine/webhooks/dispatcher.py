"""Dispatcher: delivers the webhooks of the partitions that this process owns, and reports what became of each attempt.

What is due is found in the read models; nothing of a run waits for it. A receiver has at most `PER_RECEIVER` attempts
under way, one that did not respond one, and attempts after the first share half of all: a receiver that hangs keeps
others waiting for less than the time limit of an attempt.

At least once: a process that ends between a POST and its report leaves the attempt to the partition's next owner, which
sends it again under the same `webhook-id`. This process does not: what it has sent once it only reports again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from threadlog.engine.backoff import Backoff
from threadlog.engine.clock import now, utc_now
from threadlog.engine.domain.commands import ReportWebhook
from threadlog.engine.domain.webhooks import waits
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.records import CommandEnvelope, EventRecord
from threadlog.engine.metrics import METRICS
from threadlog.engine.postgres.errors import FAILED
from threadlog.engine.tracing import active as tracing
from threadlog.engine.webhooks.guard import NamesBusy
from threadlog.engine.webhooks.ports import DueWebhook, PartitionOwner, WebhookStore
from threadlog.engine.webhooks.schedule import RetrySchedule
from threadlog.engine.webhooks.sender import Delivery

log = logging.getLogger(__name__)

IN_ALL = 64
PER_RECEIVER = 4
IN_FLIGHT_BYTES = 128 * 1024 * 1024
"""Bodies in memory; no further one is made above that."""

LOOK_SECONDS = 5.0
"""How often it is looked at the latest."""

REPORT_SECONDS = 5.0
"""Seconds after which a report is sent again that has not been projected."""

NAMES_SECONDS = 5.0
"""Seconds after which a webhook is looked at again that was not begun, as every look-up of a name was busy."""

_STOP_SECONDS = 3.0
_EVENTS = frozenset({"webhook.requested", "webhook.failed", "webhook.delivered", "webhook.dead"})

Send = Callable[[str, str, bytes], Awaitable[Delivery]]
"""POST: URL, id, body. Raises `NamesBusy`: nothing was begun."""


class WebhookDispatcher:
    """`start` it, `stop` it before the processor."""

    def __init__(self, store: WebhookStore, owner: PartitionOwner, send: Send, schedule: RetrySchedule) -> None:
        self._store, self._owner, self._send, self._schedule = store, owner, send, schedule
        self._wake = asyncio.Event()
        self._in_flight: dict[str, DueWebhook] = {}
        self._put_off: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported: dict[str, asyncio.Event] = {}
        self._silent: set[str] = set()  # receivers that did not respond last time
        self._bytes = 0
        self._loading = asyncio.Semaphore(2)
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        self._owner.add_listener(self)
        self._looking = asyncio.create_task(self._run(), name="webhooks")

    async def stop(self) -> None:
        """Wait a moment for what is under way; what takes longer is the next owner's, who sends it again."""
        self._stopping = True  # `wait_for` of Python 3.11 may swallow the cancellation
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def look(self) -> None:
        """Look at what is due at once: the clock has been moved, or a take-over has brought some."""
        self._wake.set()

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        """A listener's, see `engine.processor.ports.EventListener`."""
        for event in record.events:
            if event["type"] in _EVENTS:
                if (reported := self._reported.get(event["run_id"])) is not None:
                    reported.set()
                self._wake.set()

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping:
            self._wake.clear()
            try:
                seconds = await self._look()
                backoff.reset()
            except (*FAILED, LogUnavailable) as error:
                log.warning("webhooks can't be looked for: %s", error)
                seconds = backoff.next()
            except Exception:
                log.exception("webhooks can't be looked for")
                seconds = LOOK_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), seconds)

    async def _look(self) -> float:
        """Begin what is due and may be begun; returns for how many seconds there is nothing more to do."""
        owned, free = self._owner.owned, IN_ALL - len(self._in_flight)
        if not owned or free <= 0 or self._bytes > IN_FLIGHT_BYTES:
            return LOOK_SECONDS  # the end of an attempt wakes it
        under_way = Counter(due.receiver for due in self._in_flight.values())
        again = sum(due.attempt > 1 for due in self._in_flight.values())
        full = [receiver for receiver, count in under_way.items() if count >= self._most(receiver)]
        look = await self._store.look(
            owned, without=[*self._in_flight, *self._put_off], full=full, per_receiver=PER_RECEIVER, limit=free
        )
        begun = 0
        for due in look.due:
            if under_way[due.receiver] >= self._most(due.receiver) or (due.attempt > 1 and again >= IN_ALL // 2):
                continue
            under_way[due.receiver] += 1
            again += due.attempt > 1
            begun += 1
            self._begin(due)
        if begun == free:
            return LOOK_SECONDS
        return LOOK_SECONDS if look.next_seconds is None else min(LOOK_SECONDS, max(0.05, look.next_seconds))

    def _most(self, receiver: str) -> int:
        return 1 if receiver in self._silent else PER_RECEIVER

    def _begin(self, due: DueWebhook) -> None:
        self._in_flight[due.run_id] = due
        task = asyncio.create_task(self._deliver(due), name=f"webhook {due.run_id}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(due, done))

    def _ended(self, due: DueWebhook, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        del self._in_flight[due.run_id]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the webhook of run %s was not delivered", due.run_id, exc_info=error)

    async def _deliver(self, due: DueWebhook) -> None:
        async with self._loading:
            while self._bytes > IN_FLIGHT_BYTES:
                await asyncio.sleep(0.05)
            try:
                message = await self._store.message(due, self._owner.owner)
            except FAILED as error:
                log.warning("the webhook of run %s can't be read yet: %s", due.run_id, error)
                return await asyncio.sleep(1.0)
            if message is None or not self._still_due(due):
                # Taken over, delivered, or read too early in a take-over: looked at again in a moment.
                return await asyncio.sleep(0.5)
            self._bytes += (size := len(message.body))
        span = None
        if (spans := tracing.active()) is not None:
            from threadlog.engine.webhooks import spans as webhook_spans

            span = webhook_spans.begin(spans, due, message.trace)
        try:
            delivery = await self._send(message.url, due.run_id, message.body)
        except NamesBusy as busy:
            if span is not None:
                webhook_spans.end(span, Delivery("failed", reason=str(busy)))
            return await self._later(due)
        finally:
            self._bytes -= size
        if span is not None:
            webhook_spans.end(span, delivery)
        del message
        self._remember(due, delivery)
        await self._report(due, self._report_of(due, delivery))

    async def _later(self, due: DueWebhook) -> None:
        """This was no attempt. Others have their turn before it is looked at again; the moment that it stays in flight
        bounds how many are put off."""
        self._put_off.add(due.run_id)
        asyncio.get_running_loop().call_later(NAMES_SECONDS, self._no_longer_put_off, due.run_id)
        await asyncio.sleep(0.5)

    def _no_longer_put_off(self, run_id: str) -> None:
        self._put_off.discard(run_id)
        self._wake.set()

    def _still_due(self, due: DueWebhook) -> bool:
        """What was decided here counts before it is projected."""
        known = self._owner.known(due.thread_id)
        return self._owner.owns(due.partition) and (known is None or waits(known, due.run_id, due.attempt))

    def _remember(self, due: DueWebhook, delivery: Delivery) -> None:
        if delivery.answered:
            self._silent.discard(due.receiver)
        elif len(self._silent) < 10_000:
            self._silent.add(due.receiver)

    def _report_of(self, due: DueWebhook, delivery: Delivery) -> ReportWebhook:
        outcome, due_at = delivery.outcome, None
        if outcome == "failed":
            seconds = self._schedule.wait(due.attempt, random.random(), delivery.retry_after_seconds)
            if seconds is None:
                outcome = "dead"
            else:
                due_at = (now() + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
        METRICS.count("webhook_attempts", outcome)
        if outcome != "delivered":
            log.warning(
                "the webhook of run %s, attempt %d, is %s: %s", due.run_id, due.attempt, outcome,
                delivery.reason or f"HTTP {delivery.status}",
            )  # fmt: skip
        return ReportWebhook(
            thread_id=due.thread_id, run_id=due.run_id, attempt=due.attempt, outcome=outcome, status=delivery.status,
            reason=delivery.reason, due_at=due_at,
        )  # fmt: skip

    async def _report(self, due: DueWebhook, report: ReportWebhook) -> None:
        """Send the report until it is projected, or the partition is another's."""
        reported = self._reported[due.run_id] = asyncio.Event()
        id = f"webhook:{due.run_id}:{due.attempt}"
        backoff = Backoff()
        try:
            while self._owner.owns(due.partition):
                try:
                    await self._owner.send(CommandEnvelope.of(report, id=id, key=due.thread_id, at=utc_now()))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(reported.wait(), REPORT_SECONDS)
                except LogUnavailable as error:
                    log.warning("%s could not be reported and is again: %s", id, error)
                    await backoff.wait()
                if reported.is_set():
                    return
                known = self._owner.known(due.thread_id)
                if known is not None and not waits(known, due.run_id, due.attempt):
                    return
        finally:
            del self._reported[due.run_id]
