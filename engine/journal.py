"""How decided records become durable and projected: the protocol, and the journal of a log that is not in Postgres.

The other one, `projections.journal.PostgresJournal`, does command, event and projection in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.log.port import Append, Log, LogUnavailable, Topic
from engine.log.records import CommandEnvelope, EventRecord
from engine.ports import Commit, Decided, Fenced, Ledger
from engine.term import Batch, Term

log = logging.getLogger(__name__)

# Appends of one journal that may be on their way at the same time; the next turn then waits.
MAX_APPENDS = 8

# What a take-over has in memory at a time, in bytes as they are in the log: of all its partitions together, unless that
# would be less than the second for each of them.
PIECE_BYTES = 8 * 1024 * 1024
MIN_READ_BYTES = 64 * 1024


@dataclass(slots=True, eq=False)
class Submission:
    """A command handed in by this process. `done` gets what became of it once that is projected.

    `held`: it may be in the log; its journal finds out when the partition is opened again. `value`: the envelope's
    bytes if they are known; `frames`: records of `stream` that go into the log with it.
    """

    envelope: CommandEnvelope
    partition: int
    done: asyncio.Future[Decided]
    held: bool = False
    value: bytes | None = None
    frames: Sequence[Append] = ()

    def refused(self, envelope: CommandEnvelope) -> None:
        """Put another command in its place: its own can't be stored."""
        self.envelope, self.value, self.frames = envelope, None, ()

    def encoded(self) -> bytes:
        if self.value is None:
            self.value = self.envelope.encode()
        return self.value


@dataclass(slots=True, eq=False)
class Turn:
    """What one partition has to decide: commands of its log in offset order, then commands of this process.

    The latter have no offset yet: they get the ones after all that others have appended.
    """

    term: Term
    commands: list[tuple[int, CommandEnvelope]] = field(default_factory=list)
    local: list[Submission] = field(default_factory=list)


OnProjected = Callable[[Commit, Mapping[int, Submission]], None]
"""Told of every projected batch, per partition in order, with the submissions in it by their command's offset."""

OnFailed = Callable[[], None]
"""Told that terms have died outside of a call."""


class Journal(Protocol):
    """Decides turns and makes the result durable and visible."""

    @property
    def takes_submissions(self) -> bool:
        """Whether turns may hold commands of this process that are not in the log yet."""
        ...

    def bind(self, projected: OnProjected, failed: OnFailed) -> None:
        """Called once, before anything else."""
        ...

    async def open(self, terms: Sequence[Term]) -> list[Submission]:
        """Announce the terms, read back, project what was not. Those that can't begin are dead afterwards.

        Answers the submissions of these partitions that were `held` and are not in the log: to be decided again.
        """
        ...

    def abandon(self, partition: int) -> None:
        """Another processor has this partition: what is `held` of it stays unknown."""
        ...

    async def commit(self, turns: Sequence[Turn]) -> None:
        """Decide the turns, whose states have been provided. May return before they are projected.

        Afterwards every command is on its way, or its term is dead. Raises `LogUnavailable` when nothing was decided on
        the terms that are alive: to be tried again later.
        """
        ...

    async def settle(self) -> None:
        """Wait until everything committed is projected or its term is dead."""
        ...

    async def aclose(self) -> None: ...


async def take_over(source: Log, ledger: Ledger, terms: Sequence[Term], projected: OnProjected) -> None:
    """Announce these terms and bring the read models up to their announcements; a term that fails to is dead.

    What was not projected is read back and projected in pieces of `PIECE_BYTES`, however much it is. Should the
    take-over end between two of them, the next one goes on there.
    """
    try:
        appends = [Append(Topic.EVENTS, term.partition, "", term.announcement.encode()) for term in terms]
        ends = {term.partition: end for term, end in zip(terms, await source.append(appends), strict=True)}
        while reading := [term for term in terms if not (term.ready or term.dead)]:
            size = max(PIECE_BYTES // len(reading), MIN_READ_BYTES)
            await asyncio.gather(*(_read_back(source, term, ends[term.partition], size) for term in reading))
            reading = [term for term in reading if not term.dead]
            keys = [key for term in reading for key in term.needed()]
            stored = await ledger.load(keys) if keys else {}
            for term in reading:
                for key in term.needed():
                    term.provide(key, stored.get(key))
            while batches := [batch for term in reading if not term.dead and (batch := term.batch()) is not None]:
                await project(ledger, reading, batches, projected)
    except LogUnavailable as error:
        log.warning("the take-over of %s failed: %s", [term.partition for term in terms], error)
        for term in terms:
            term.fail()


async def _read_back(source: Log, term: Term, end: int, max_bytes: int) -> None:
    """The next piece of a term, at most up to its announcement at `end`."""
    try:
        records = await source.read(Topic.EVENTS, term.partition, term.read_from, end=end + 1, max_bytes=max_bytes)
        if not records:
            raise LogUnavailable(f"events[{term.partition}] ends before {end}, where the announcement is")
        for record in records:
            if term.read_back(record.offset, EventRecord.decode(record.value)):
                return
    except Fenced:
        log.info("partition %d was taken by a newer term", term.partition)


async def project(ledger: Ledger, terms: Sequence[Term], batches: Sequence[Batch], projected: OnProjected) -> None:
    """Project the batches of these terms; fenced ones die, the others are projected all the same."""
    by_partition = {term.partition: term for term in terms}
    while batches:
        try:
            await ledger.project(batches)
        except Fenced as fenced:
            for p in fenced.partitions:
                by_partition[p].fail()
            left = [batch for batch in batches if not by_partition[batch.partition].dead]
            if len(left) == len(batches):
                raise
            batches = left
            continue
        for batch in batches:
            by_partition[batch.partition].projected(batch)
            projected(batch, {})
        return


@dataclass(slots=True, eq=False)
class _Sent:
    """Records of one turn on their way to the log."""

    records: list[tuple[Term, EventRecord]]
    offsets: asyncio.Task[list[int]]


class LogJournal:
    """Appends to the log, then projects in one guarded transaction; the next turns are decided meanwhile."""

    def __init__(self, source: Log, ledger: Ledger) -> None:
        self._log = source
        self._ledger = ledger
        self._sent: asyncio.Queue[_Sent] = asyncio.Queue(MAX_APPENDS)
        self._projector: asyncio.Task[None] | None = None
        self._projected: OnProjected
        self._failed: OnFailed

    @property
    def takes_submissions(self) -> bool:
        return False

    def bind(self, projected: OnProjected, failed: OnFailed) -> None:
        self._projected, self._failed = projected, failed

    async def open(self, terms: Sequence[Term]) -> list[Submission]:
        await take_over(self._log, self._ledger, terms, self._projected)
        return []

    def abandon(self, partition: int) -> None:
        """Nothing is held: commands come from the log only."""

    async def commit(self, turns: Sequence[Turn]) -> None:
        if self._projector is None:
            self._projector = asyncio.create_task(self._project_acked())
        decided: list[tuple[Term, EventRecord]] = []
        for turn in turns:
            if turn.local:
                raise ValueError("this journal takes commands from the log only")
            try:
                for offset, envelope in turn.commands:
                    if (record := turn.term.decide(offset, envelope)) is not None:
                        decided.append((turn.term, record))
            except Fenced:
                continue
        if not decided:
            return
        appends = [Append(Topic.EVENTS, term.partition, record.key, record.encode()) for term, record in decided]
        # Begun before this returns: overlapping appends of one process keep their order.
        await self._sent.put(_Sent(decided, asyncio.create_task(_append(self._log, appends))))

    async def settle(self) -> None:
        await self._sent.join()

    async def aclose(self) -> None:
        if self._projector is not None:
            self._projector.cancel()
            await asyncio.gather(self._projector, return_exceptions=True)

    async def _project_acked(self) -> None:
        while True:
            sent = [await self._sent.get()]
            try:
                await self._acknowledge(sent[0])
                while not self._sent.empty():
                    more = self._sent.get_nowait()
                    sent.append(more)
                    if not more.offsets.done():
                        await self._project(sent[:-1])
                    await self._acknowledge(more)
                await self._project(sent)
            except Exception:
                # Nothing is known of what was projected: whoever takes the partitions next finds out.
                log.exception("projecting failed")
                _fail(sent)
            finally:
                for _ in sent:
                    self._sent.task_done()
            if any(term.dead for one in sent for term, _ in one.records):
                self._failed()

    async def _acknowledge(self, sent: _Sent) -> None:
        try:
            offsets = await sent.offsets
        except LogUnavailable as error:
            log.warning("an append failed, stepping down: %s", error)
            return _fail([sent])
        for (term, record), offset in zip(sent.records, offsets, strict=True):
            if not term.dead:
                try:
                    term.acked(offset, record)
                except Fenced:
                    log.info("partition %d was taken by a newer term", term.partition)

    async def _project(self, sent: Sequence[_Sent]) -> None:
        terms = list({id(term): term for one in sent for term, _ in one.records}.values())
        try:
            while batches := [batch for term in terms if not term.dead and (batch := term.batch()) is not None]:
                await project(self._ledger, terms, batches, self._projected)
        except LogUnavailable as error:
            log.warning("projecting failed, stepping down: %s", error)
            _fail(sent)


async def _append(source: Log, appends: Sequence[Append]) -> list[int]:
    return await source.append(appends)


def _fail(sent: Sequence[_Sent]) -> None:
    for one in sent:
        for term, _ in one.records:
            term.fail()
