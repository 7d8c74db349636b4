"""One term of one partition, without I/O: announce, read back, decide, hand out what to project, step down.

The processor does the I/O in this order (in the Postgres mode several steps share a transaction):

    term = Term(position)                         # the partitions row has been bumped
    append term.announcement to `events`
    until term.ready, a piece of `events` at a time, from position.ev_off + 1 on
        term.read_back(offset, record) of each record
        for key in term.needed(): term.provide(key, stored state or None)
        project term.batch() as below, until there is none
    repeat
        commands in offset order: provide term.missing(keys), term.recognise(those of term.doubted(commands) that the
            read models know), then record = term.decide(offset, envelope)
        append the records; each is term.acked(offset, record) in the order decided
        batch = term.batch(); project it, guarded by the epoch; term.projected(batch)

Whatever fails or stays unknown (an append, a projection) ends the term: `fail()`, and a new one starts from the row.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson

from threadlog.engine.domain import decider, limits
from threadlog.engine.domain.commands import Command, ImportHistory
from threadlog.engine.domain.decider import States
from threadlog.engine.domain.events import CommandRejected, CommandRepeated, Event
from threadlog.engine.domain.keyed_request import KEYED
from threadlog.engine.domain.text import storable, without_nul
from threadlog.engine.domain.wire import command_from_wire, event_to_wire, is_time
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.large import command_fields
from threadlog.engine.log.records import CommandEnvelope, EventRecord, RefusedEnvelope, partition_of
from threadlog.engine.offload.process import LARGE_BYTES
from threadlog.engine.processor.ports import Accepted, Batch, Fenced, Position
from threadlog.engine.tracing.active import TRACE_CHARACTERS

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    """A record of `events` that is not projected yet; `record` is None when it does not count.

    `states`: what its key holds after it (immutable, so that it can be stored later); None until the key is provided.
    `before`: what it held before, of own decisions.
    """

    offset: int
    record: EventRecord | None
    states: States | None
    changed: bool
    epoch: int
    cmd_off: int
    before: States | None = None


class Term:
    """See the module. Methods raise `Fenced` once the term is over; offsets must be passed in increasing order."""

    def __init__(self, position: Position, *, at: str = "", max_keys: int = 20_000) -> None:
        """`max_keys`: keys whose states stay in memory (those not yet projected always do)."""
        self.partition, self.epoch = position.partition, position.epoch
        self.announcement = EventRecord(epoch=position.epoch, cmd_off=-1, cmd_id="", key="", at=at, start=True)
        self.dead = False
        self.ready = False
        """Whether the own announcement has been read back: only then may commands be decided."""
        self._acceptance = Acceptance(position.log_epoch, position.cmd_off)
        self._last_offset = position.ev_off
        self._decided = position.cmd_off
        self._settled = (position.ev_off, position.cmd_off)  # of the last record projected
        self._max_keys = max_keys
        self._states: dict[str, States] = {}
        self._pins: dict[str, int] = {}
        self._backlog: dict[str, list[_Entry]] = {}
        self._in_flight: deque[_Entry] = deque()
        self._pending: deque[_Entry] = deque()
        # Ids of commands of keyed requests: that have changed something and are not projected; that are to be decided
        # next, and have changed something before.
        self._keyed: set[str] = set()
        self._recognised: set[str] = set()

    # --- taking over -------------------------------------------------------------------------------------------------

    @property
    def read_from(self) -> int:
        """The offset of `events` to read next while taking over."""
        return self._last_offset + 1

    @property
    def decided(self) -> int:
        """The offset of the last command decided, by whichever term; go on with the next one."""
        return self._decided

    def read_back(self, offset: int, record: EventRecord | None) -> bool:
        """Take in a record between the projected position and the own announcement; True when that is reached.

        `record` is None for bytes that are not an event record: they do not count.
        """
        self._alive()
        if self.ready:
            raise RuntimeError("the term has read back already")
        self._check(offset, record)
        if self._acceptance.accepts(record):
            entry = _Entry(offset, record, None, False, self._acceptance.epoch, record.cmd_off)
            self._decided = record.cmd_off
            self._pin(record.key)
            # A state provided early (by an eager caller) is folded at once, otherwise when the key is provided.
            if record.key in self._states:
                self._apply(entry)
            else:
                self._backlog.setdefault(record.key, []).append(entry)
        else:
            entry = self._skipped(offset)
        self._pending.append(entry)
        self.ready = record is not None and record.start and record.epoch == self.epoch
        return self.ready

    def needed(self) -> list[str]:
        """The keys whose stored state (as of what was projected last) must be provided before a batch."""
        return list(self._backlog)

    # --- states ------------------------------------------------------------------------------------------------------

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys whose state is not in memory, each once: provide them before deciding."""
        return [key for key in dict.fromkeys(keys) if key not in self._states]

    def known(self, key: str) -> States | None:
        """What is kept under a key after all that this term has decided, also what is not projected yet; None when that
        is what the projections hold."""
        return self._states.get(key)

    def provide(self, key: str, stored: Mapping[str, Any] | None) -> None:
        """The state the projections hold for a key (None: no row). Ignored when the term knows the key already.

        It must have been read after the last `projected` batch was committed and before the next is.
        """
        if key in self._states:
            return
        self._states[key] = decider.load(key, stored)
        for entry in self._backlog.pop(key, ()):
            self._apply(entry)

    def forget(self, key: str) -> None:
        """What was provided for a key was not what the projections hold: it is missing again. Nothing that was decided
        on it may be left (`retract`)."""
        if key in self._pins:
            raise RuntimeError(f"{key} has been decided on")
        self._states.pop(key, None)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def doubted(self, envelopes: Iterable[CommandEnvelope]) -> list[str]:
        """Of these commands, which are decided next and whose states have been provided, the ids that may have been
        carried out without being known here: of keyed requests, on aggregates that have had more such commands than
        they remember. Whether the read models have them must be found out after this call."""
        keyed = [e for e in envelopes if e.id.startswith(KEYED) and e.type != ImportHistory.type]
        self._recognised = {envelope.id for envelope in keyed} & self._keyed
        if not keyed:
            return []
        coming = Counter(envelope.key for envelope in keyed)
        return [
            envelope.id
            for envelope in keyed
            if envelope.id not in self._recognised
            and decider.may_forget(self._states[envelope.key], coming[envelope.key])
        ]

    def recognise(self, ids: Iterable[str]) -> None:
        """The `doubted` commands that have changed something: they are repeated."""
        self._recognised.update(ids)

    def decide(self, offset: int, envelope: CommandEnvelope) -> EventRecord | None:
        """Decide a command into the record to append; None when it has been decided before. Never refuses to decide:
        what can't be understood, decided or encoded is refused, so that it does not hold up the partition.

        Raises KeyError when the key's state is `missing`.
        """
        self._alive()
        if not self.ready:
            raise RuntimeError("the own announcement has not been read back")
        if offset <= self._decided:
            return None
        key, before = envelope.key, self._states.pop(envelope.key)
        try:
            # An import is known by its place in the log that it comes from; its id may be there several times.
            repeated = envelope.type != ImportHistory.type and (
                envelope.id in self._keyed or envelope.id in self._recognised
            )
            command, events = _decide(before, envelope, repeated=repeated)
            after = decider.fold(before, key, envelope.id, envelope.at, events)
            record = self._record(offset, envelope, events)
            if len(record.encode()) > limits.LARGE_BYTES:
                limits.check_large(command)
                check_size(record.encode())
        except Exception as error:
            after, record = self._refuse(offset, envelope, before, error)
        self._states[key] = after  # last in the dict: used most recently
        self._pin(key)
        entry = _Entry(-1, record, after, after is not before, self.epoch, offset, before)
        self._in_flight.append(entry)
        self._remember(entry)
        self._decided = offset
        return record

    def _record(self, offset: int, envelope: CommandEnvelope, events: Iterable[Event]) -> EventRecord:
        return EventRecord(
            epoch=self.epoch,
            cmd_off=offset,
            cmd_id=envelope.id,
            key=envelope.key,
            at=envelope.at,
            events=[event_to_wire(event) for event in events],
            after=self._decided,
            actor=envelope.actor,
            trace=envelope.trace,
        )

    def _refuse(
        self, offset: int, envelope: CommandEnvelope, before: States, error: Exception
    ) -> tuple[States, EventRecord]:
        """What stands in the place of a command that failed at whichever stage."""
        place = {**envelope.log_fields, "partition": self.partition, "offset": offset}
        if isinstance(error, ValueError):
            reason = str(error)
        elif isinstance(error, orjson.JSONEncodeError):
            reason = f"what it is decided to can't be written as JSON: {error}"
        else:
            log.exception("command %s at %d[%d] can't be decided", envelope.id, self.partition, offset, extra=place)
            reason = f"{type(error).__name__}: {error}"
        try:
            events = decider.refuse(before, envelope.key, envelope.type, envelope.body, reason, at=envelope.at)
            after = decider.fold(before, envelope.key, envelope.id, envelope.at, events)
            record = self._record(offset, envelope, events)
            record.encode()
        except Exception:
            log.exception(
                "command %s at %d[%d] can't be refused in detail", envelope.id, self.partition, offset, extra=place
            )
            after = before
            record = self._record(offset, envelope, [CommandRejected(code="invalid", detail="It can't be decided.")])
        return after, record

    def acked(self, offset: int, record: EventRecord) -> States:
        """An own record is in the log. The calls come in the order of `decide`, one per record. Returns what its key
        holds after it."""
        self._alive()
        if not self._in_flight or self._in_flight[0].record is not record:
            raise RuntimeError("acknowledged out of order")
        self._check(offset, record)
        entry = self._in_flight.popleft()
        if not self._acceptance.accepts(record):
            # Cannot be: it is the next of the newest term. Were it so, readers would drop it, and so must we.
            self.fail()
            raise Fenced([self.partition])
        entry.offset = offset
        self._pending.append(entry)
        assert entry.states is not None, "own decisions have them"
        return entry.states

    def retract(self) -> None:
        """Forget all decisions since the last `projected`: the transaction with them was rolled back.

        Nothing of them is in the log, so the commands may be decided anew. Not before the take-over is projected.
        """
        self._alive()
        for entry in reversed([*self._pending, *self._in_flight]):
            if entry.record is None or entry.before is None:
                raise RuntimeError("what was read back can't be retracted")
            self._states[entry.record.key] = entry.before
            self._unpin(entry.record.key)
            self._keyed.discard(entry.record.cmd_id)
        self._pending.clear()
        self._in_flight.clear()
        self._last_offset, self._decided = self._settled
        self._acceptance = Acceptance(self.epoch, self._decided)

    def observed(self, offset: int, record: EventRecord) -> None:
        """For a caller that reads `events` while it owns the partition: notices a newer term. Raises `Fenced`."""
        self._alive()
        if record.epoch > self.epoch:
            self.fail()
            raise Fenced([self.partition])

    def fail(self) -> None:
        """The term is over: an append or a projection failed or is unknown, or a newer term was seen."""
        self.dead = True

    # --- projecting --------------------------------------------------------------------------------------------------

    def batch(self, limit: int = 1000) -> Batch | None:
        """The next records to project, at most `limit` of the log; None when there are none. Repeatable until
        `projected`. Also while taking over: whether a record counts depends on nothing behind it.

        Raises RuntimeError when states are `needed`."""
        self._alive()
        if not self._pending:
            return None
        if self._backlog:
            raise RuntimeError(f"states are needed first: {self.needed()[:5]}")
        entries = list(islice(self._pending, limit))
        records: list[Accepted] = []
        stored: set[str] = set()
        for entry in reversed(entries):
            record, state = entry.record, None
            if record is None:
                continue
            if entry.changed and record.key not in stored and entry.states is not None:
                stored.add(record.key)
                state = decider.dump(entry.states)
            records.append(Accepted(entry.offset, record, state))
        records.reverse()
        last = entries[-1]
        return Batch(self.partition, self.epoch, records, last.offset, last.cmd_off, last.epoch, len(entries))

    def projected(self, batch: Batch) -> None:
        """The batch's transaction has been committed."""
        for _ in range(batch.length):
            entry = self._pending.popleft()
            if entry.record is not None:
                self._unpin(entry.record.key)
                self._keyed.discard(entry.record.cmd_id)
        self._settled = (batch.ev_off, batch.cmd_off)
        excess = len(self._states) - self._max_keys
        if excess > 0:
            oldest = [key for key in islice(self._states, excess + len(self._pins)) if key not in self._pins]
            for key in oldest[:excess]:
                del self._states[key]

    @property
    def unprojected(self) -> int:
        """How many records of the log are known and not projected yet (those awaiting their ack not included)."""
        return len(self._pending)

    @property
    def unacked(self) -> int:
        """How many decided records await their `acked`."""
        return len(self._in_flight)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _alive(self) -> None:
        if self.dead:
            raise Fenced([self.partition])

    def _check(self, offset: int, record: EventRecord | None) -> None:
        # A newer term in front of what is being taken in: nothing of ours counts from there on. An offset that does not
        # grow means that the log did not keep the order: what others read can't be told from here.
        if (record is not None and record.epoch > self.epoch) or offset <= self._last_offset:
            self.fail()
            raise Fenced([self.partition])
        self._last_offset = offset

    def _skipped(self, offset: int) -> _Entry:
        return _Entry(offset, None, None, False, self._acceptance.epoch, self._decided)

    def _pin(self, key: str) -> None:
        self._pins[key] = self._pins.get(key, 0) + 1

    def _unpin(self, key: str) -> None:
        self._pins[key] -= 1
        if not self._pins[key]:
            del self._pins[key]

    def _apply(self, entry: _Entry) -> None:
        record = entry.record
        assert record is not None
        before = self._states[record.key]
        entry.states = decider.fold_wire(before, record.key, record.cmd_id, record.at, record.events)
        entry.changed = entry.states is not before
        self._states[record.key] = entry.states
        self._remember(entry)

    def _remember(self, entry: _Entry) -> None:
        record = entry.record
        if entry.changed and record is not None and record.cmd_id.startswith(KEYED) and not record.imported:
            self._keyed.add(record.cmd_id)


def envelope_of(value: bytes, key: str, place: tuple[int, int] | None = None) -> CommandEnvelope:
    """The envelope in a record of `commands`; what is none, or is not where it belongs, is one that will be refused.

    `place`: the record's partition, and how many there are. NUL characters become U+FFFD: Postgres' jsonb can't hold
    them.
    """
    try:
        check_size(value)
        fields = orjson.loads(without_nul(value))
    except ValueError as error:  # orjson's JSONDecodeError is one
        return _unreadable(key, f"it is not a command: {error}")
    return _envelope_of(fields, key, place)


async def read_envelope(value: bytes, key: str, place: tuple[int, int] | None = None) -> CommandEnvelope:
    """`envelope_of`, for a loop that others wait for: what a client has sent stays JSON text in a large command."""
    if not LARGE_BYTES < len(value) <= limits.MESSAGE_BYTES:
        return envelope_of(value, key, place)
    try:
        fields = await command_fields(value)
    except ValueError as error:
        return _unreadable(key, f"it is not a command: {error}")
    return _envelope_of(fields, key, place)


def _envelope_of(fields: Any, key: str, place: tuple[int, int] | None) -> CommandEnvelope:
    try:
        envelope = CommandEnvelope(**fields)
    except TypeError as error:
        return _unreadable(key, f"it is not a command: {error}")
    texts = (envelope.id, envelope.type, envelope.key, envelope.at)
    actor = envelope.actor
    if not all(isinstance(text, str) for text in texts) or not isinstance(envelope.body, dict):
        return _unreadable(key, "it is not a command: a field of its envelope has the wrong type")
    if max(map(len, texts)) > limits.ID_CHARACTERS and (long := _too_long(envelope)) is not None:
        return long
    if actor is not None and (not isinstance(actor, str) or len(actor) > limits.ACTOR_CHARACTERS):
        reason = f"its actor is not a text of at most {limits.ACTOR_CHARACTERS} characters"
        return RefusedEnvelope(*texts, {}, reason=reason)
    trace = envelope.trace
    if trace is not None and (not isinstance(trace, str) or len(trace) > TRACE_CHARACTERS):
        envelope = replace(envelope, trace=None)  # no reason to refuse a command
    if place is not None and partition_of(envelope.key, place[1]) != place[0]:
        # The owner of the key's own partition decides for it, and nobody else.
        return RefusedEnvelope(*texts, {}, reason="it is in another partition than its key's")
    return envelope


def check_size(value: bytes) -> None:
    """Raise ValueError when a command, or what it was decided to, is more than the log takes."""
    if len(value) > limits.MESSAGE_BYTES:
        raise ValueError(f"it is larger than {limits.MESSAGE_BYTES} bytes")


def _unreadable(key: str, reason: str) -> RefusedEnvelope:
    return RefusedEnvelope(id="", type="", key=storable(key[: limits.ID_CHARACTERS]), at="", body={}, reason=reason)


def _too_long(envelope: CommandEnvelope) -> RefusedEnvelope | None:
    """A refusal, if it is more than the key that is long: that is the domain's to judge, up to what an index holds."""
    short = [field[: limits.ID_CHARACTERS] for field in (envelope.id, envelope.type, envelope.at)]
    try:
        limits.check_indexed("key", envelope.key)
        if short == [envelope.id, envelope.type, envelope.at]:
            return None
        key, reason = envelope.key, f"its id, type or time is longer than {limits.ID_CHARACTERS} characters"
    except ValueError as error:
        key, reason = envelope.key[: limits.ID_CHARACTERS], str(error)
    return RefusedEnvelope(short[0], short[1], key, short[2], {}, reason=reason)


def _decide(states: States, envelope: CommandEnvelope, *, repeated: bool) -> tuple[Command, list[Event]]:
    if type(envelope) is RefusedEnvelope:
        raise ValueError(envelope.reason)
    try:
        command = command_from_wire(envelope.type, envelope.body)
    except KeyError:
        raise ValueError("the command's type is unknown") from None
    except TypeError as error:
        raise ValueError(str(error).partition(" ")[2]) from None
    limits.check_limits(command)
    if decider.key_of(command) != envelope.key:
        raise ValueError("the envelope's key is not the id in the body")
    if not is_time(envelope.at):
        raise ValueError("`at` must be a time in UTC")
    if repeated:
        return command, [CommandRepeated()]
    return command, decider.decide(states, envelope.key, command, cmd_id=envelope.id, at=envelope.at)
