"""How decided records become durable and projected: the protocol, and the committer of a log that is not in Postgres.

The other one, `projections.commit.single_transaction.SingleTransactionCommitter`, does command, event and projection
in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from threadlog.engine.log.port import Append, Log, LogUnavailable, RecordRefused, Topic
from threadlog.engine.log.records import CommandEnvelope, EventRecord, RefusedEnvelope
from threadlog.engine.log.unreadable import read_event
from threadlog.engine.processor.ports import Batch, CoordinationStore, Decided, Fenced, Unprojectable
from threadlog.engine.processor.run_ends import end_marks
from threadlog.engine.processor.term import Term

log = logging.getLogger(__name__)

# Appends of one committer that may be on their way at the same time; the next turn then waits.
MAX_APPENDS = 8

# Records of a partition in one projection.
BATCH_RECORDS = 1000

# What a take-over has in memory at a time, in bytes as they are in the log: of all its partitions together, unless that
# would be less than the second for each of them.
PIECE_BYTES = 8 * 1024 * 1024
MIN_READ_BYTES = 64 * 1024


class Reply(Protocol):
    """What a `Submission` is answered with, once; as a future, but its sender may learn of it in the call."""

    def done(self) -> bool:
        """Whether it has been answered, or its sender has given it up."""
        ...

    def set_result(self, result: Decided, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


@dataclass(slots=True, eq=False)
class Submission:
    """A command handed in by this process. `done` gets what became of it once that is projected.

    `value`: the envelope's bytes; `frames`: records of `stream` that go into the log with it; `held`: it may be in the
    log, its committer finds out when the partition is opened again.
    """

    envelope: CommandEnvelope
    partition: int
    done: Reply
    value: bytes
    frames: Sequence[Append] = ()
    held: bool = False

    def refuse(self, reason: str) -> None:
        """Put a refusal in its place: it can't be stored."""
        self.envelope = RefusedEnvelope.instead_of(self.envelope, reason)
        self.value, self.frames = self.envelope.encode(), ()

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.value) + sum(len(frame.value) for frame in self.frames)


@dataclass(slots=True, eq=False)
class Turn:
    """What one partition has to decide: commands of its log in offset order, then commands of this process.

    The latter have no offset yet: they get the ones after all that others have appended.
    """

    term: Term
    commands: list[tuple[int, CommandEnvelope]] = field(default_factory=list)
    local: list[Submission] = field(default_factory=list)

    @property
    def envelopes(self) -> list[CommandEnvelope]:
        """All of them, in order."""
        return [envelope for _, envelope in self.commands] + [one.envelope for one in self.local]


OnProjected = Callable[[Batch, Mapping[int, Submission]], None]
"""Called with every projected batch, per partition in order, and the submissions in it by their command's offset."""

OnFailed = Callable[[], None]
"""Called when terms have died outside of a call."""


class Committer(Protocol):
    """Decides turns and makes the result durable and visible."""

    @property
    def takes_submissions(self) -> bool:
        """Whether turns may hold commands of this process that are not in the log yet."""
        ...

    async def open(self, terms: Sequence[Term]) -> list[Submission]:
        """Announce the terms, read back, project what was not. Those that can't begin are dead afterwards.

        Answers the submissions of these partitions that were `held` and are not in the log: to be decided again.
        """
        ...

    def abandon(self, partition: int) -> None:
        """Another processor has this partition: what is `held` of it stays unknown."""
        ...

    async def provide(self, turns: Sequence[Turn]) -> None:
        """Load the states that the terms lack to decide these turns. Raises `LogUnavailable`."""
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


# The processor hands its callbacks to the committer it makes. `commit` can't return what was projected instead: a log
# that is elsewhere has several appends on their way, and what is decided meanwhile does not wait for their projection.
MakeCommitter = Callable[[OnProjected, OnFailed], Committer]


Load = Callable[[Sequence[str]], Awaitable[Mapping[str, Mapping[str, Any]]]]
"""The stored states of these keys, of those that have one."""


async def provide_states(coordination: CoordinationStore, turns: Sequence[Turn], load: Load | None = None) -> None:
    """Load what the terms lack to decide these turns, with `load` instead of the store's own, if there is one. Raises
    `LogUnavailable`."""
    envelopes = [(turn.term, turn.envelopes) for turn in turns]
    lacking = [(term, key) for term, some in envelopes for key in term.missing(one.key for one in some)]
    if lacking:
        stored = await (load or coordination.load)([key for _, key in lacking])
        for term, key in lacking:
            term.provide(key, stored.get(key))
    doubted = [(term, ids) for term, some in envelopes if (ids := term.doubted(some))]
    if doubted:
        known = await coordination.carried_out([id for _, ids in doubted for id in ids])
        for term, ids in doubted:
            term.recognise(known.intersection(ids))


async def take_over(
    source: Log,
    coordination: CoordinationStore,
    terms: Sequence[Term],
    projected: OnProjected,
    *,
    piece_bytes: int = PIECE_BYTES,
    least_bytes: int = MIN_READ_BYTES,
) -> None:
    """Announce these terms and bring the read models up to their announcements; a term that fails to is dead.

    What was not projected is read back and projected in pieces of `piece_bytes`, but at least
    `least_bytes` of each partition, however much it is. Should the
    take-over end between two of them, the next one goes on there.
    """
    try:
        appends = [Append(Topic.EVENTS, term.partition, "", term.announcement.encode()) for term in terms]
        ends = {term.partition: end for term, end in zip(terms, await source.append(appends), strict=True)}
        while reading := [term for term in terms if not (term.ready or term.dead)]:
            size = max(piece_bytes // len(reading), least_bytes)
            await asyncio.gather(*(_read_back(source, term, ends[term.partition], size) for term in reading))
            reading = [term for term in reading if not term.dead]
            keys = [key for term in reading for key in term.needed()]
            stored = await coordination.load(keys) if keys else {}
            for term in reading:
                for key in term.needed():
                    term.provide(key, stored.get(key))
            await project(coordination, reading, projected)
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
            if term.read_back(record.offset, await read_event(record)):
                return
    except Fenced:
        _taken(term)


def _taken(term: Term) -> None:
    log.info("partition %d was taken by a newer term", term.partition, extra={"partition": term.partition})


async def project(coordination: CoordinationStore, terms: Sequence[Term], projected: OnProjected) -> None:
    """Project what these terms have; fenced ones die, the others are projected all the same.

    An event that the read models can't take holds up nothing: it is found by projecting less and less at a time, and
    left out. What is in the log has been decided, so that it is too late to refuse it.
    """
    limits: dict[Term, int] = {}  # of terms with such an event: at most so many records at a time
    while batches := [
        (term, batch)
        for term in terms
        if not term.dead and (batch := term.batch(limits.get(term, BATCH_RECORDS))) is not None
    ]:
        apart = [one for one in batches if one[0] in limits]
        for some in [[one] for one in apart] or [batches]:
            await _project(coordination, some, limits, projected)


async def _project(
    coordination: CoordinationStore, batches: list[tuple[Term, Batch]], limits: dict[Term, int], projected: OnProjected
) -> None:
    try:
        if len(batches) == 1 and limits.get(batches[0][0]) == 1:
            await coordination.project_singly(batches[0][1])
        else:
            await coordination.project([batch for _, batch in batches])
    except Fenced as fenced:
        for term, _ in batches:
            if term.partition in fenced.partitions:
                term.fail()
        if not any(term.dead for term, _ in batches):
            raise
        return
    except Unprojectable as error:
        log.warning("a projection failed and is tried in smaller pieces: %s", error)
        for term, batch in batches:
            # The partitions apart first, then half as many records each time.
            limits[term] = max(1, batch.length if len(batches) > 1 else batch.length // 2)
        return
    for term, batch in batches:
        term.projected(batch)
        projected(batch, {})
        if term in limits:
            limits[term] *= 2
            if limits[term] > BATCH_RECORDS:
                del limits[term]


@dataclass(slots=True, eq=False)
class _Sent:
    """Records of one turn on their way to the log."""

    records: list[tuple[Term, EventRecord]]
    offsets: asyncio.Task[list[int]]


class LogCommitter:
    """Appends to the log, then projects in one guarded transaction; the next turns are decided meanwhile."""

    def __init__(
        self, source: Log, coordination: CoordinationStore, *, projected: OnProjected, failed: OnFailed
    ) -> None:
        self._log, self._coordination = source, coordination
        self._projected, self._failed = projected, failed
        self._sent: asyncio.Queue[_Sent] = asyncio.Queue(MAX_APPENDS)
        self._projector: asyncio.Task[None] | None = None
        # Of commands (partition, offset) whose event records were in an append that the log refused: those to append
        # alone, to learn whose fault it was, and of those whose own it was, why. Another process finds out for itself.
        self._alone: set[tuple[int, int]] = set()
        self._refused: dict[tuple[int, int], str] = {}
        self._marking: set[asyncio.Task[None]] = set()

    @property
    def takes_submissions(self) -> bool:
        return False

    async def open(self, terms: Sequence[Term]) -> list[Submission]:
        await take_over(self._log, self._coordination, terms, self._projected)
        return []

    def abandon(self, partition: int) -> None:
        """Nothing is held: commands come from the log only."""
        self._alone = {place for place in self._alone if place[0] != partition}
        self._refused = {place: why for place, why in self._refused.items() if place[0] != partition}

    async def provide(self, turns: Sequence[Turn]) -> None:
        await provide_states(self._coordination, turns)

    async def commit(self, turns: Sequence[Turn]) -> None:
        if self._projector is None:
            self._projector = asyncio.create_task(self._project_acked())
        decided: list[tuple[Term, EventRecord]] = []
        for turn in turns:
            if turn.local:
                raise ValueError("this committer takes commands from the log only")
            try:
                for offset, envelope in turn.commands:
                    if self._refused and (why := self._refused.get((turn.term.partition, offset))) is not None:
                        envelope = RefusedEnvelope.instead_of(envelope, why)
                    if (record := turn.term.decide(offset, envelope)) is not None:
                        decided.append((turn.term, record))
            except Fenced:
                continue
        for some in self._groups(decided):
            appends = [Append(Topic.EVENTS, term.partition, record.key, record.encode()) for term, record in some]
            # Begun before this returns: overlapping appends of one process keep their order.
            await self._sent.put(_Sent(some, asyncio.create_task(_append(self._log, appends))))

    def _groups(self, decided: list[tuple[Term, EventRecord]]) -> list[list[tuple[Term, EventRecord]]]:
        """What is appended together: all of it, but for those of which one was refused."""
        if not self._alone:
            return [decided] if decided else []
        return [[one] for one in decided]

    async def settle(self) -> None:
        await self._sent.join()

    async def aclose(self) -> None:
        if self._projector is not None:
            self._projector.cancel()
            await asyncio.gather(self._projector, return_exceptions=True)
        await asyncio.gather(*self._marking)

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
        except RecordRefused as error:
            return self._find_out(sent, error)
        marks: list[Append] = []
        for (term, record), offset in zip(sent.records, offsets, strict=True):
            if not term.dead:
                try:
                    marks += end_marks(record, term.partition, term.acked(offset, record))
                except Fenced:
                    _taken(term)
            if self._alone or self._refused:
                self._alone.discard((term.partition, record.cmd_off))
                self._refused.pop((term.partition, record.cmd_off), None)
        if marks:
            task = asyncio.create_task(self._mark(marks))
            self._marking.add(task)
            task.add_done_callback(self._marking.discard)

    async def _mark(self, marks: Sequence[Append]) -> None:
        """Append marks of runs' ends. Nothing waits for them, and nothing is lost without them but their place."""
        try:
            await self._log.append(marks)
        except (LogUnavailable, RecordRefused) as error:
            log.warning("the ends of %d runs have no mark: %s", len(marks), error)

    def _find_out(self, sent: _Sent, error: RecordRefused) -> None:
        """The log does not take a record. The next term appends those of this append one by one, and decides the
        command whose record is refused then to a refusal."""
        places = [(term.partition, record.cmd_off) for term, record in sent.records]
        log.error("the log refuses an event record, of the commands %s: %s", places, error)
        if len(places) == 1:
            self._alone.discard(places[0])
            self._refused[places[0]] = f"what it is decided to can't be appended: {error}"
        else:
            self._alone |= set(places)
        _fail([sent])

    async def _project(self, sent: Sequence[_Sent]) -> None:
        terms = list({id(term): term for one in sent for term, _ in one.records}.values())
        try:
            await project(self._coordination, terms, self._projected)
        except LogUnavailable as error:
            log.warning("projecting failed, stepping down: %s", error)
            _fail(sent)


async def _append(source: Log, appends: Sequence[Append]) -> list[int]:
    return await source.append(appends)


def _fail(sent: Sequence[_Sent]) -> None:
    for one in sent:
        for term, _ in one.records:
            term.fail()
