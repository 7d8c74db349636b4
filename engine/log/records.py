"""Bytes of the records: command envelopes, event records, stream frames. The formats are public (ARCHITECTURE.md)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.events import HistoryImported
from threadlog.engine.domain.text import has_nul
from threadlog.engine.domain.upcasting import UPCASTERS, upcast
from threadlog.engine.domain.wire import to_body
from threadlog.engine.log.encodable import encodable
from threadlog.engine.log.large import holds_nul
from threadlog.engine.offload.process import LARGE_BYTES
from threadlog.engine.tracing import active as tracing


def partition_of(key: str, partitions: int) -> int:
    """The partition of an aggregate: CRC-32 of its key's UTF-8 modulo the partition count (stable for ever)."""
    return zlib.crc32(key.encode()) % partitions


# Who wants commands that no client does. A user's are by `user:<identity>`, those of clients that act for the server
# itself (`get_client()` in the application) by `server`.
ENGINE = "engine"
EXECUTOR = "executor"


@dataclass(frozen=True, slots=True)
class CommandEnvelope:
    """A command with its id (idempotency key), aggregate key, actor and time (ISO-8601 UTC).

    `trace`: where traces are made, the trace context of what has sent it (`engine.tracing.spans`). It decides nothing.
    """

    id: str
    type: str
    key: str
    at: str
    body: dict[str, Any]
    actor: str | None = None
    trace: str | None = None

    @property
    def log_fields(self) -> dict[str, object]:
        """What names the command in lines of the process's log."""
        return {"command_id": self.id, "command": self.type, "key": self.key}

    def encode(self) -> bytes:
        """The one gate by which commands leave, whoever makes them. Never raises: what JSON can't hold is replaced
        (`engine.log.encodable`). NUL characters are left to the reader (`engine.processor.term.envelope_of`)."""
        try:
            return orjson.dumps(self)
        except TypeError:  # what orjson raises
            return self._replaced()

    async def on_wire(self) -> tuple[CommandEnvelope, bytes]:
        """The command as its reader gets it, and its bytes: for a command that is not read back."""
        try:
            value = orjson.dumps(self)
        except TypeError:
            pass
        else:
            if not (has_nul(value) if len(value) <= LARGE_BYTES else await holds_nul(value)):
                return self, value
        value = self._replaced()
        return CommandEnvelope.decode(value), value

    def _replaced(self) -> bytes:
        names = ("id", "type", "key", "at", "body", "actor", "trace")
        return orjson.dumps({name: encodable(getattr(self, name)) for name in names})

    @staticmethod
    def decode(value: bytes) -> CommandEnvelope:
        return CommandEnvelope(**orjson.loads(value))

    @staticmethod
    def of(
        command: Command, *, id: str, key: str, at: str, actor: str | None = None, trace: str | None = None
    ) -> CommandEnvelope:
        """`trace` None: the current one."""
        return CommandEnvelope(id, command.type, key, at, to_body(command), actor, trace or tracing.current())


@dataclass(frozen=True, slots=True)
class RefusedEnvelope(CommandEnvelope):
    """A command that is decided to a refusal, whatever it says, because of `reason`: its bytes can't be understood, or
    what was decided can't be stored."""

    reason: str = ""

    def encode(self) -> bytes:
        return self._replaced()  # without the reason

    async def on_wire(self) -> tuple[CommandEnvelope, bytes]:
        return self, self.encode()

    @staticmethod
    def instead_of(envelope: CommandEnvelope, reason: str) -> RefusedEnvelope:
        """With the ids of its body only: the rest of it may be what can't be stored."""
        body = {name: envelope.body[name] for name in _IDENTITY if isinstance(envelope.body.get(name), str | int)}
        texts = (envelope.id, envelope.type, envelope.key, envelope.at)
        return RefusedEnvelope(*texts, body, envelope.actor, envelope.trace, reason=reason)


_IDENTITY = ("thread_id", "run_id", "attempt", "job_id", "assistant_id", "cron_id")


_EVENT_FIELDS = frozenset({"epoch", "cmd_off", "cmd_id", "key", "at"})  # those every event record has
_NO_TRACE = b',"trace":null}'
_BIGINT = 2**63  # what Postgres keeps of an epoch and an offset is below this


@dataclass(frozen=True, slots=True)
class EventRecord:
    """What one command was decided to, or the announcement of an engine's term (`start`, no events).

    `epoch`: the writer's term; `cmd_off`: offset of the command in `commands` of the same partition; `after`: the
    `cmd_off` of the record this one was decided after (None: not told), so that a record that got into the log although
    an earlier one of its term did not is recognised. `actor`, `trace`: the command's, who wanted it, and in which trace
    (None: not told).
    """

    epoch: int
    cmd_off: int
    cmd_id: str
    key: str
    at: str
    events: list[dict[str, Any]] = field(default_factory=list)
    start: bool = False
    after: int | None = None
    actor: str | None = None
    trace: str | None = None
    _value: bytes | None = field(default=None, init=False, repr=False, compare=False)  # orjson leaves it out: a "_"

    @property
    def imported(self) -> bool:
        """Whether its events happened in another installation, at the record's time: nothing follows from them here."""
        return bool(self.events) and self.events[0]["type"] == HistoryImported.type

    def encode(self) -> bytes:
        """JSON, made once. Raises TypeError, as orjson does, for what can't be written."""
        value = self._value
        if value is None:
            value = orjson.dumps(self)
            if self.trace is None:  # the last field; it would be 7 % of a small record, stored for ever
                value = value.removesuffix(_NO_TRACE) + b"}"
            object.__setattr__(self, "_value", value)
        return value

    @staticmethod
    def decode(value: bytes) -> EventRecord:
        """Raises ValueError for bytes that are not an event record. Fields that a later version added are left out.

        A reader of the topic uses `engine.log.unreadable.event_in`.
        """
        return EventRecord.of(orjson.loads(value))

    @staticmethod
    def of(said: Any) -> EventRecord:
        """The record of its JSON. Raises ValueError, as `decode`."""
        try:
            record = EventRecord(**said)
        except TypeError:
            if type(said) is not dict or not said.keys() >= _EVENT_FIELDS:
                raise ValueError("it is not an object with the fields of an event record") from None
            record = EventRecord(
                **{
                    name: said[name]
                    for name in (*_EVENT_FIELDS, "events", "start", "after", "actor", "trace")
                    if name in said
                }
            )
        record._check_types()
        if UPCASTERS:
            object.__setattr__(record, "events", [upcast(event) for event in record.events])
        if record.trace is not None and type(record.trace) is not str:
            object.__setattr__(record, "trace", None)  # for readers of before the field the record counts: for all
        return record

    def _check_types(self) -> None:
        """Raises ValueError when a field has another type than it says: JSON can hold anything."""
        for number in (self.epoch, self.cmd_off) if self.after is None else (self.epoch, self.cmd_off, self.after):
            if type(number) is not int or not -_BIGINT <= number < _BIGINT:
                raise ValueError("its epoch or an offset is not an integer of 64 bits")
        for text in (self.cmd_id, self.key, self.at):
            if type(text) is not str:
                raise ValueError("its cmd_id, key or time is not a string")
        if self.actor is not None and type(self.actor) is not str:
            raise ValueError("its actor is not a string")
        if type(self.start) is not bool or type(self.events) is not list:
            raise ValueError("a field of it has the wrong type")
        for event in self.events:
            if type(event) is not dict or type(event.get("type")) is not str:
                raise ValueError("an event of it has no type")


# Name of the frame after those that led to a checkpoint of the root graph, its data the checkpoint's id: where a client
# that shows the checkpoint goes on. Only of runs whose stream can be replayed.
CHECKPOINT = b"~checkpoint"
# Name of the frames that tell of every checkpoint without its values, as `{"id", "parent_id", "step", "source"}`: only
# of runs begun by the event-streaming protocol.
CHECKPOINT_REF = b"~checkpoints"
# Name of the only frame of a record, of attempt 0, that marks where a run ended that did not get to its end
# (`engine.processor.run_ends`). Its data is the id of the run in flight then, or null.
END = b"~end"
# Key in a run's `configurable` that says that the event-streaming protocol has begun it.
EVENT_STREAMING = "__event_streaming_v2"


@dataclass(frozen=True, slots=True)
class Frames:
    """A batch of stream frames of one run attempt: frame i has number `seq + i` (from 0 per attempt).

    On the wire: a JSON header line `{"run_id", "thread_id", "attempt", "seq"}`, then two lines per frame, its SSE event
    name (`values`, `messages|child:…`, …) and its data as one line of JSON. No frame has to be decoded to be forwarded.
    `messages/…` and `events` have the namespace in their names too, although clients do not see it there.
    `at_ms`: the time of the record that was read, 0 where it is not known; not part of the record.
    """

    run_id: str
    thread_id: str
    attempt: int
    seq: int
    frames: Sequence[tuple[bytes, bytes]]
    at_ms: int = field(default=0, compare=False)

    @property
    def is_end_mark(self) -> bool:
        """Whether it is no batch of frames, but marks where its run ended."""
        return self.attempt == 0 and bool(self.frames) and self.frames[0][0] == END

    def encode(self) -> bytes:
        lines = [
            orjson.dumps({"run_id": self.run_id, "thread_id": self.thread_id, "attempt": self.attempt, "seq": self.seq})
        ]
        for name, data in self.frames:
            lines.append(name)
            lines.append(data)
        return b"\n".join(lines)

    @staticmethod
    def decode(value: bytes, at_ms: int = 0) -> Frames:
        """Raises ValueError for bytes that are not a batch of frames. Fields that a later version added are left out.

        A reader of the topic uses `engine.log.unreadable.frames_in`.
        """
        lines = value.split(b"\n")
        return Frames(*_batch_head(lines[0]), list(_pairs(lines)), at_ms)

    @staticmethod
    def decode_reached(value: bytes) -> tuple[str, tuple[int, int]]:
        """`(run_id, (attempt, number of the frame after its last))`. Raises ValueError, as `decode`."""
        line, newline, rest = value.partition(b"\n")
        newlines = rest.count(b"\n")
        if newline and not newlines % 2:
            raise ValueError("its last frame has no data")
        run_id, _, attempt, seq = _batch_head(line)
        return run_id, (attempt, seq + (newlines // 2 + 1 if newline else 0))


def _batch_head(line: bytes) -> tuple[str, str, int, int]:
    head = orjson.loads(line)
    if type(head) is not dict:
        raise ValueError("its first line is not an object")
    run_id, thread_id, attempt, seq = (head.get(name) for name in ("run_id", "thread_id", "attempt", "seq"))
    if type(run_id) is not str or type(thread_id) is not str:
        raise ValueError("its run_id or thread_id is not a string")
    if type(attempt) is not int or type(seq) is not int or not (0 <= attempt < _BIGINT and 0 <= seq < _BIGINT):
        raise ValueError("its attempt or seq is not an integer of 64 bits")
    return run_id, thread_id, attempt, seq


def _pairs(lines: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(lines[1::2], lines[2::2], strict=True)
