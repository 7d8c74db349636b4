"""Owns partitions: takes their leases, decides the commands in their logs and of this process, tells what follows.

Three tasks: `_lead` renews and spreads leases and sends due timers and lost attempts; `_follow` reads the commands that
others append; `_work` is the only one that touches terms: it opens them, gathers what all partitions have to decide
into one turn each, and commits the turns together (group commit).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import ceil

from threadlog.engine.backoff import Backoff
from threadlog.engine.clock import utc_now
from threadlog.engine.domain.decider import States
from threadlog.engine.domain.limits import MESSAGE_BYTES
from threadlog.engine.log.port import Append, Log, LogUnavailable, Topic
from threadlog.engine.log.records import CommandEnvelope, RefusedEnvelope, partition_of
from threadlog.engine.metrics import METRICS
from threadlog.engine.processor.committer import MakeCommitter, Reply, Submission, Turn
from threadlog.engine.processor.expiry import ExpirySweep, SweepOptions
from threadlog.engine.processor.inbox import Inboxes
from threadlog.engine.processor.listeners import Listeners
from threadlog.engine.processor.ports import Batch, CoordinationStore, Decided, EventListener, Position
from threadlog.engine.processor.suspects import Suspects
from threadlog.engine.processor.term import Term, read_envelope
from threadlog.engine.processor.timers import STORE_SWEEP_SECONDS, TimerService

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
LEASE_SECONDS = 2.0  # of partitions: how long after the death of their owner they are taken over
RENEW_SECONDS = 0.5
QUIET_RENEW_SECONDS = 1.0
"""While there is neither an attempt nor a timer to look for, and no other processor that would take the partitions."""


class NotOwner(LogUnavailable):
    """The partition of this command belongs to another processor: send it through the log."""


class Processor:
    """One per process. `start`, then `ready`; `stop` gives the partitions back."""

    def __init__(
        self,
        source: Log,
        coordination: CoordinationStore,
        make_committer: MakeCommitter,
        *,
        owner: str,
        lease_seconds: float = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
        quiet_renew_seconds: float | None = None,
        max_attempts: int = 3,
        store_sweep_seconds: float = STORE_SWEEP_SECONDS,
        sweep: SweepOptions | None = None,
    ) -> None:
        """`owner`: unique among processors alive; one that starts again under the name of its dead predecessor takes
        its partitions at once. `quiet_renew_seconds`: instead of `renew_seconds` while nothing is to be looked for,
        where no other processor may be; None: as often as else. `max_attempts`: of a run whose executors die.
        `store_sweep_seconds`: between two looks for items of the store to remove; `sweep`: of expired threads. Whoever
        made the processor closes its `committer`, after `stop`."""
        self._log, self._coordination = source, coordination
        self.owner = owner
        self._lease_seconds, self._renew_seconds = lease_seconds, renew_seconds
        self._quiet_renew_seconds = quiet_renew_seconds or renew_seconds
        self._partitions = Inboxes()
        self._waiting: dict[int, deque[Submission]] = {}  # for partitions that are nobody's at the moment
        self._gained: list[Position] = []
        self._surplus: list[int] = []
        self._stolen: set[int] = set()
        self._suspects = Suspects()
        self._listeners = Listeners(source)
        self.max_attempts = max_attempts
        # Looked for at every renewal: twice as far ahead misses nothing.
        self._timers = TimerService(
            coordination,
            self.send,
            horizon_seconds=4 * renew_seconds,
            max_attempts=max_attempts,
            store_sweep_seconds=store_sweep_seconds,
        )
        self._expiry = ExpirySweep(coordination, self.send, lambda: self.owned, sweep or SweepOptions())
        self._sweeping: asyncio.Task[None] | None = None
        self._when_owned: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._look = asyncio.Event()
        self._ready = asyncio.Event()
        self._tail: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._processors = 1
        self.trouble: str | None = None  # why the last attempt to decide, or to open partitions, failed
        self.committer = make_committer(self._projected, self._wake.set)

    # --- for others --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take partitions."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._lead())]
        self._sweeping = asyncio.create_task(self._expiry.run())

    async def ready(self) -> None:
        """Wait until this processor has its share of the partitions and all of them can decide."""
        await self._ready.wait()

    async def stop(self) -> None:
        """Finish what is in flight and give the partitions back. Submissions still waiting get `NotOwner`."""
        self._stopping = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        self._wake.set()
        self._look.set()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._end_tail()
        await self._timers.stop()
        with suppress(LogUnavailable):
            await self._coordination.leave(self.owner)
        for p in self._partitions:
            self._forget(p)
        for submissions in self._waiting.values():
            _refuse(submissions)

    def owns(self, partition: int) -> bool:
        """Whether commands of this partition are decided here (in a moment, if a new term is being opened)."""
        return partition in self._partitions and not self._stopping

    def owns_key(self, key: str) -> bool:
        """Whether commands for this aggregate are decided here."""
        return self.owns(partition_of(key, self._log.partitions))

    @property
    def owned(self) -> list[int]:
        """The partitions this processor can decide for right now."""
        return sorted(self._partitions.terms())

    @property
    def alone(self) -> bool:
        """Whether no other processor is alive, so that a partition not owned yet soon will be."""
        return self._processors == 1

    @property
    def takes_submissions(self) -> bool:
        """Whether `submit` works: the log is in the same database as the read models."""
        return self.committer.takes_submissions

    async def submit(
        self, envelope: CommandEnvelope, value: bytes, *, reported: bool = False, frames: Sequence[Append] = ()
    ) -> Decided:
        """Decide a command of this process, in the partition's order; answers once its events are projected.

        `value`: the command's bytes (`CommandEnvelope.on_wire`); `reported`: it is an executor's, nobody waits for it;
        `frames`: stream records to append in the same transaction. Cancelling it may leave the command in the log.
        Raises `NotOwner` when another processor takes the partition before that, `AppendUnknown` when the same happens
        after an append of unknown outcome.
        """
        done: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        self.hand_in(envelope, value, done, reported=reported, frames=frames)
        return await done

    def hand_in(
        self,
        envelope: CommandEnvelope,
        value: bytes,
        done: Reply,
        *,
        reported: bool = False,
        frames: Sequence[Append] = (),
    ) -> None:
        """As `submit`, without waiting: `NotOwner` is raised at once, or is the answer."""
        if self._stopping or not self.takes_submissions:
            raise NotOwner("commands are taken from the log" if not self._stopping else "the processor is stopping")
        if len(value) > MESSAGE_BYTES:
            envelope = RefusedEnvelope.instead_of(envelope, f"it is larger than {MESSAGE_BYTES} bytes")
            value = envelope.encode()
        p = partition_of(envelope.key, self._log.partitions)
        submission = Submission(envelope, p, done, value, frames)
        one = self._partitions.get(p)
        if one is not None:
            (one.reports if reported else one.local).append(submission)
            self._partitions.busy(p)
            self._wake.set()
        else:
            waiting = self._waiting.setdefault(p, deque())
            while waiting and waiting[0].done.done():  # given up: they would gather while the database is away
                waiting.popleft()
            waiting.append(submission)

    def known(self, key: str) -> States | None:
        """See `Term.known`; None also where this processor does not decide."""
        one = self._partitions.get(partition_of(key, self._log.partitions))
        return None if one is None or one.term is None else one.term.known(key)

    def add_listener(self, listener: EventListener) -> None:
        """Tell it every projected record from now on; it must not block."""
        self._listeners.add(listener)

    def remove_listener(self, listener: EventListener) -> None:
        self._listeners.remove(listener)

    def when_owned(self, call: Callable[[], None]) -> None:
        """Call when this process can decide for other partitions than before, or owns some no longer."""
        self._when_owned.append(call)

    def look(self) -> None:
        """Look for lost attempts and due timers now, not at the next renewal: an executor is known to have died."""
        self._timers.anything_may_be()
        self._look.set()

    # --- leases ------------------------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        while not self._stopping:
            try:
                await self._beat()
            except LogUnavailable as error:
                log.warning("leases can't be renewed: %s", error)
            except Exception:
                log.exception("leases can't be renewed")
            pause = self._renew_seconds if self._timers.busy else self._quiet_renew_seconds
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), pause)
            self._look.clear()

    async def _beat(self) -> None:
        membership = await self._coordination.renew_lease(self.owner, self._lease_seconds)
        self._processors = membership.processors
        mine = set(self._partitions) | {position.partition for position in self._gained}
        if stolen := set(self._partitions) - set(membership.held):
            self._stolen |= stolen
            self._wake.set()
        share = ceil(self._log.partitions / membership.processors)
        if len(mine) > share:
            self._surplus = sorted(mine)[share:]
            self._wake.set()
        elif len(mine) < share:
            # Rows of this owner that it does not know are those of a former life, or of a take whose answer got lost.
            taken = await self._coordination.acquire(self.owner, self._lease_seconds, share - len(mine), sorted(mine))
            self._gained += taken
            if taken:
                log.info("took partitions %s", [position.partition for position in taken])
                self._wake.set()
        self._tell_ready()
        owned = self.owned
        if owned:
            await self._timers.look(owned)

    async def send(self, envelope: CommandEnvelope) -> None:
        """Send a command that follows from what this processor owns: returns when it is decided, or in the log. Nothing
        is sent for a partition of another."""
        p = partition_of(envelope.key, self._log.partitions)
        if p not in self._partitions:
            return  # its new owner sends it
        if self.takes_submissions:
            await self.submit(*await envelope.on_wire())
        else:
            await self._log.append([Append(Topic.COMMANDS, p, envelope.key, envelope.encode())])
            await asyncio.sleep(self._renew_seconds)  # until it is projected it would be found due again

    # --- commands of others ------------------------------------------------------------------------------------------

    async def _start_tail(self) -> None:
        await self._end_tail()
        self._partitions.unread()
        places = {(Topic.COMMANDS, p): self._partitions[p].next_command for p in self._partitions.terms()}
        if places:
            self._tail = asyncio.create_task(self._follow(places))

    async def _end_tail(self) -> None:
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)
            self._tail = None

    async def _follow(self, places: Mapping[tuple[Topic, int], int]) -> None:
        tail = self._log.tail(places)
        try:
            async for records in tail:
                for record in records:
                    one = self._partitions.get(record.partition)
                    if one is None or one.term is None or record.offset <= one.term.decided:
                        continue
                    envelope = await read_envelope(record.value, record.key, (record.partition, self._log.partitions))
                    envelope = self._suspects.judged(record.partition, record.offset, envelope)
                    if self._partitions.get(record.partition) is not one:
                        continue  # given up while it was read
                    self._partitions.read(record.partition, record.offset, envelope, len(record.value))
                    self._wake.set()
                await self._partitions.room()
        except Exception:
            log.exception("reading commands failed and begins anew")
            await asyncio.sleep(RETRY_SECONDS)
            self._tail = None
            self._wake.set()
        finally:
            await tail.aclose()

    # --- the one loop that touches terms -----------------------------------------------------------------------------

    async def _work(self) -> None:
        backoff = Backoff()
        while not self._stopping:
            self._wake.clear()
            try:
                await self._keep_house()
                turns = self._partitions.gather()
                if turns:
                    await self._take_turns(turns)
                self.trouble = None
                if not (turns or self._gained or self._surplus or self._stolen):
                    await self._wake.wait()
                backoff.reset()
            except LogUnavailable as error:
                log.warning("the engine waits: %s", error)
                self.trouble = f"it waits: {error}"
                await backoff.wait()
            except Exception as error:
                log.exception("the engine failed; its terms begin anew")
                self.trouble = f"it failed: {type(error).__name__}: {error}"
                for term in self._partitions.terms().values():
                    term.fail()
                await backoff.wait()
        await self.committer.settle()

    async def _keep_house(self) -> None:
        """Give up what is another's or too much, and open new terms."""
        for p in self._stolen:
            if p in self._partitions:
                log.warning("partition %d was taken by another processor", p, extra={"partition": p})
                self._forget(p)
        self._stolen.clear()
        if self._surplus:
            await self._give_back()
        positions, self._gained = self._gained, []
        if fallen := self._partitions.fallen():
            await self.committer.settle()
            for p in fallen:
                self._partitions[p].term = None
            try:
                retaken = await self._coordination.reacquire(self.owner, self._lease_seconds, fallen)
            except LogUnavailable:
                self._gained = positions
                raise
            positions += retaken
            for p in set(fallen) - {position.partition for position in retaken}:
                log.warning("partition %d was taken by another processor", p, extra={"partition": p})
                self._forget(p)
        if not positions:
            if self._tail is None and len(self._partitions):
                await self._start_tail()
            return
        await self._listeners.catch_up(positions)
        terms = [Term(position, at=utc_now()) for position in positions]
        for term in terms:
            one = self._partitions.open(term.partition)
            one.local.extend(self._waiting.pop(term.partition, ()))
            if one.local:
                self._partitions.busy(term.partition)
        METRICS.count("partition_takeovers", amount=len(terms))
        again = await self.committer.open(terms)
        for submission in reversed(again):
            self._partitions[submission.partition].local.appendleft(submission)
            self._partitions.busy(submission.partition)
        for term in terms:
            if not term.dead:
                self._partitions[term.partition].term = term
        self._timers.anything_may_be()
        self._tell_owned()
        await self._start_tail()
        self._tell_ready()
        if any(term.dead for term in terms):
            raise LogUnavailable("some partitions could not be opened")

    def _tell_owned(self) -> None:
        for call in self._when_owned:
            call()

    def _tell_ready(self) -> None:
        if len(self.owned) >= self._log.partitions // self._processors:
            self._ready.set()

    async def _give_back(self) -> None:
        surplus, self._surplus = [p for p in self._surplus if p in self._partitions], []
        await self.committer.settle()
        for p in surplus:
            self._forget(p)
        if surplus:
            log.info("giving back partitions %s", surplus)
            await self._coordination.release(self.owner, surplus)
            await self._start_tail()

    def _forget(self, p: int) -> None:
        one = self._partitions.close(p)
        if one.term is not None:
            one.term.fail()
        self.committer.abandon(p)
        _refuse(one.local)
        _refuse(one.reports)
        self._tell_owned()

    async def _take_turns(self, turns: Sequence[Turn]) -> None:
        try:
            await self.committer.provide(turns)
            await self.committer.commit(turns)
        except LogUnavailable:
            raise
        except Exception as error:
            self._partitions.one_by_one(self._suspects.failed(turns, error))
            raise
        else:
            self._suspects.passed(turns)
        finally:
            for turn in turns:
                if not self._partitions.put_back(turn):
                    _refuse(turn.local)

    # --- after a projection ------------------------------------------------------------------------------------------

    def _projected(self, batch: Batch, submissions: Mapping[int, Submission]) -> None:
        self._timers.projected()
        for accepted in batch.records:
            record = accepted.record
            submission = submissions.get(record.cmd_off) if submissions else None
            if submission is not None and not submission.done.done():
                submission.done.set_result(
                    Decided(batch.partition, accepted.offset, record.events, record.at, record.cmd_off)
                )
            for event in record.events:
                if event["type"] == "run.created" and event.get("due_at") is not None:
                    self._timers.expect(event)
                elif event.get("stopping"):
                    self._look.set()  # if no executor has claimed it, nobody else will say that it has stopped
        self._listeners.projected(batch)


def _refuse(submissions: deque[Submission] | list[Submission]) -> None:
    for submission in submissions:
        if not submission.done.done():
            submission.done.set_exception(NotOwner("another processor has taken the partition"))
