"""Cron service: fires the crons of the owned partitions at their times, and creates the run of each firing.

Both are driven by rows of the read models, which only events remove: `cron.fired` moves a cron to its next time and
leaves a firing, which stays until `cron.run_created` or `cron.run_refused`. The next owner of the partition goes on
with what is there. All commands have ids made of the cron and the time, and the deciders know what has been: two owners
at once, or one that repeats itself, change nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from threadlog.engine.clock import now
from threadlog.engine.crons.ports import CronStore, DueCron, Firing
from threadlog.engine.crons.runs import NoRun, command_id, run_of
from threadlog.engine.domain.commands import Command, CreateRun, DeleteCron, FireCron, JsonObject, RecordCronRun
from threadlog.engine.domain.events import CommandRejected, RunRefused
from threadlog.engine.encryption.handlers import HandlerFailed
from threadlog.engine.ids import fired_run_id, stateless_thread_id
from threadlog.engine.log.port import Log, LogUnavailable, Topic
from threadlog.engine.log.records import EventRecord, partition_of
from threadlog.engine.processor.ports import Gateway
from threadlog.engine.schedules import ScheduleError, next_due
from threadlog.engine.tracing import active as tracing

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""Between two looks at what is due. What is due within twice as long is fired on time."""

QUIET_SECONDS = 5.0
"""Between two looks while no cron is due within twice as long; events of crons and other partitions end that."""

AT_A_TIME = 64
"""Commands of crons under way at the same time, so that those of clients come between them however many are due."""

ORPHANS_SECONDS = 30.0
"""Between two looks for crons whose thread or assistant is gone. The api deletes them at once, unless it crashes."""

ENOUGH = 1000
"""Firings under way above which the service does not look for more: it would read what it knows already."""

STREAM_POSITION_SECONDS = 10.0
"""How long the end of a partition's `stream` is taken for a position before a new run's first frame."""


class CronService:
    """Give it to the processor as a listener, then `start`."""

    def __init__(
        self,
        store: CronStore,
        gateway: Gateway,
        source: Log,
        owned: Callable[[], Sequence[int]],
        *,
        thread_ttl: JsonObject | None = None,
        look_seconds: float = LOOK_SECONDS,
        orphans_seconds: float = ORPHANS_SECONDS,
    ) -> None:
        """`owned`: the partitions that this process decides for. `thread_ttl`: of threads that crons make and leave."""
        self._thread_ttl = thread_ttl
        self._look_seconds, self._orphans_seconds = look_seconds, orphans_seconds
        self._store, self._gateway, self._log, self._owned = store, gateway, source, owned
        self._waiting: dict[tuple[str, str], asyncio.TimerHandle] = {}  # by cron and time, as the next two
        self._firing: set[tuple[str, str]] = set()
        self._starting: dict[tuple[str, str], Firing] = {}
        self._to_start: deque[Firing] = deque()
        self._more_to_start = asyncio.Event()
        self._few = asyncio.Semaphore(AT_A_TIME)
        self._positions: dict[int, tuple[float, int]] = {}
        self._orphans_at = 0.0
        self._within = 2 * QUIET_SECONDS
        self._quiet_for: frozenset[int] | None = None  # these partitions, nothing is due soon
        self._heard = asyncio.Event()  # what may be due has changed since the last look
        self._loops: list[asyncio.Task[None]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._loops = [
            asyncio.create_task(self._look_for_ever(), name="threadlog.crons.look"),
            asyncio.create_task(self._start_runs(), name="threadlog.crons.runs"),
        ]

    async def stop(self) -> None:
        """What is under way is left: another owner goes on with it."""
        for timer in self._waiting.values():
            timer.cancel()
        tasks = [*self._loops, *self._sending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Look at what is due within `look_seconds`, quiet as it may be: the clock has been moved, or this process has
        other partitions."""
        self._heard.set()

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        """A firing of an owned partition has its run at once, not at the next look."""
        for event in record.events:
            kind = event["type"]
            if kind.startswith("cron."):
                self._heard.set()
                if kind == "cron.fired":
                    self._begin(Firing(event["cron_id"], event["due_at"], event["run_id"], event["thread_id"]))

    # --- looking -----------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self._look()
            except LogUnavailable as error:
                log.warning("crons wait: %s", error)
            except Exception:
                log.exception("looking for due crons failed")
            await asyncio.sleep(self._look_seconds)
            if self._quiet_for == frozenset(self._owned()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS - self._look_seconds):
                        await self._heard.wait()

    async def _look(self) -> None:
        self._quiet_for = None
        self._heard.clear()
        partitions = self._owned()
        if not partitions or len(self._firing) + len(self._starting) > ENOUGH:
            return
        far = self._within > 2 * self._look_seconds
        due = await self._store.due(partitions, self._within)
        self._within = 2 * (self._look_seconds if due else QUIET_SECONDS)
        for cron in due:
            known = (cron.cron_id, cron.due_at)
            if cron.in_seconds <= 0 and (early := self._waiting.pop(known, None)) is not None:
                early.cancel()  # it is due by the database's clock, which counts: one of the two was set
            if known not in self._waiting and known not in self._firing:
                later = asyncio.get_running_loop().call_later
                self._waiting[known] = later(max(0.0, cron.in_seconds), self._is_due, cron)
        firings = await self._store.firings(partitions)
        for firing in firings:
            self._begin(firing)
        if far and not due and not firings:
            self._quiet_for = frozenset(partitions)
        now = asyncio.get_running_loop().time()
        if now >= self._orphans_at:
            self._orphans_at = now + self._orphans_seconds
            for cron_id in await self._store.orphans(partitions):
                log.info("cron %s is deleted: its thread or its assistant is gone", cron_id)
                await self._submit(DeleteCron(cron_id=cron_id), f"cron:{cron_id}:orphan")

    # --- firing ------------------------------------------------------------------------------------------------------

    def _is_due(self, cron: DueCron) -> None:
        known = (cron.cron_id, cron.due_at)
        del self._waiting[known]
        self._firing.add(known)
        self._spawn(partial(self._fire, cron), f"cron {cron.cron_id} could not be fired and will be found due again")

    async def _fire(self, cron: DueCron) -> None:
        try:
            async with self._few:
                if partition_of(f"cron:{cron.cron_id}", self._log.partitions) in self._owned():
                    await self._submit(fire(cron, now()), f"cron:{cron.cron_id}:{cron.due_at}")
        finally:
            self._firing.discard((cron.cron_id, cron.due_at))

    # --- creating runs -----------------------------------------------------------------------------------------------

    def _begin(self, firing: Firing) -> None:
        known = (firing.cron_id, firing.due_at)
        if known not in self._starting:
            self._starting[known] = firing
            self._to_start.append(firing)
            self._more_to_start.set()

    async def _start_runs(self) -> None:
        while True:
            await self._more_to_start.wait()
            self._more_to_start.clear()
            while self._to_start:
                some = [self._to_start.popleft() for _ in range(min(AT_A_TIME, len(self._to_start)))]
                try:
                    contexts = await self._store.contexts(some)
                    await asyncio.gather(*(self._position(firing.thread_id) for firing in some))
                except Exception as error:
                    for firing in some:
                        del self._starting[firing.cron_id, firing.due_at]
                    if not isinstance(error, LogUnavailable):
                        log.exception("runs of %d crons can't be created, they are tried again", len(some))
                    continue
                for firing, context in zip(some, contexts, strict=True):
                    try:
                        stream_from = await self._position(firing.thread_id)
                        command: CreateRun | str = run_of(firing, context, stream_from, self._thread_ttl)
                    except NoRun as error:
                        command = str(error)
                    except Exception as error:  # of this cron alone
                        log.exception("the run of cron %s at %s can't be made", firing.cron_id, firing.due_at)
                        command = f"{type(error).__name__}: {error}"
                    await self._few.acquire()
                    self._spawn(
                        partial(self._create, firing, command),
                        f"the run of cron {firing.cron_id} at {firing.due_at} is tried again",
                    )

    async def _create(self, firing: Firing, command: CreateRun | str) -> None:
        """Create the run, then record what became of it. `command`: or why there can be none."""
        span = error = None
        try:
            if (spans := tracing.active()) is not None:
                from threadlog.engine.crons.spans import FiringSpan

                span = FiringSpan(spans, firing)
            if isinstance(command, str):
                error = {"error": "NoRun", "message": command}
            else:
                command = command if span is None else span.carried(command)
                try:
                    decided = await self._gateway.submit(command, id=command_id(firing))
                    if (refusal := refusal_of(decided.events)) is not None:
                        error = {"error": refusal["code"], "message": refusal["detail"]}
                except HandlerFailed as failed:  # a handler of the application's, which fails for this cron alone
                    error = {"error": "HandlerFailed", "message": str(failed)}
            if error is not None:
                log.warning("cron %s has no run for %s: %s", firing.cron_id, firing.due_at, error["message"])
            record = RecordCronRun(cron_id=firing.cron_id, due_at=firing.due_at, error=error)
            await self._submit(record, f"cron:{firing.cron_id}:{firing.due_at}:recorded")
        finally:
            if span is not None:
                span.end(None if error is None else error["message"])
            self._few.release()
            self._starting.pop((firing.cron_id, firing.due_at), None)

    async def _position(self, thread_id: str) -> int:
        """A position of the `stream` topic before the first frame of a run that is yet to be created."""
        p = partition_of(thread_id, self._log.partitions)
        now = asyncio.get_running_loop().time()
        at, position = self._positions.get(p, (-STREAM_POSITION_SECONDS, 0))
        if now - at >= STREAM_POSITION_SECONDS:
            position = (await self._log.bounds(Topic.STREAM, p))[1]
            self._positions[p] = (now, position)
        return position

    # --- both --------------------------------------------------------------------------------------------------------

    async def _submit(self, command: Command, id: str) -> None:
        await self._gateway.submit(command, id=id)

    def _spawn(self, work: Callable[[], Awaitable[None]], failure: str) -> None:
        task = asyncio.create_task(self._guarded(work, failure))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _guarded(self, work: Callable[[], Awaitable[None]], failure: str) -> None:
        with suppress(asyncio.CancelledError):
            try:
                await work()
            except LogUnavailable as error:
                log.warning("%s: %s", failure, error)
            except Exception:
                log.exception("%s", failure)


def refusal_of(events: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The refusal among the events that a cron's `run.create` was decided to."""
    refusals = (event for event in events if event["type"] in (CommandRejected.type, RunRefused.type))
    return next(refusals, None)


def fire(cron: DueCron, at: datetime) -> FireCron:
    """The command for a cron that is due. Times missed meanwhile are passed over: the next one is after `at`."""
    next_due_at = error = None
    try:
        next_due_at = next_due(
            cron.schedule, cron.timezone, max(at, datetime.fromisoformat(cron.due_at)), cron.end_time
        )
    except ScheduleError as invalid:  # it was in order when it was created: time zones change
        error = str(invalid)
    except Exception as failed:
        log.exception("the next time of cron %s can't be found", cron.cron_id)
        error = f"{type(failed).__name__}: {failed}"
    run_id = fired_run_id(cron.cron_id, cron.due_at)
    return FireCron(
        cron_id=cron.cron_id,
        due_at=cron.due_at,
        run_id=run_id,
        thread_id=cron.thread_id or stateless_thread_id(run_id),
        next_due_at=next_due_at,
        schedule_error=error,
    )
