"""Which records of `events` count, for whatever client reads the topic.

    accepted = AcceptedEvents()
    async for message in consumer:  # aiokafka's, say, from the beginning of each partition
        record = accepted.read(message.partition, message.offset, message.value, message.headers)
        if record is not None:
            for event in record.events: …

The contract: hand over every message of a partition, in offset order. What comes back is in the log for every reader:
records of fenced engines, duplicates, announcements of terms and bytes that are no record are left out
(ARCHITECTURE.md, "Who may write, and what counts"). Keep `position(partition)` in the same transaction as the effect of
a record, and begin with it, from its `next`, after a restart: then no record is missed and none counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.kafka.chunks import Joiner, chunk_of
from threadlog.engine.log.port import Record, Topic
from threadlog.engine.log.unreadable import event_in


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """What one command was decided to: `events`, in order, as docs/reference/events.md has them.

    `(partition, offset)` says which record it is, for ever. `key`: the thread, or what else the events are about; `at`:
    when, ISO-8601 in UTC; `actor`: who wanted it (`user:<identity>`, …), None where that is not known.
    """

    partition: int
    offset: int
    key: str
    at: str
    actor: str | None
    cmd_id: str
    events: list[dict[str, Any]]

    @property
    def imported(self) -> bool:
        """Whether the events happened in another installation, whose history was imported: they are no news."""
        return bool(self.events) and self.events[0]["type"] == "history.imported"

    @property
    def position(self) -> tuple[int, int]:
        return self.partition, self.offset


@dataclass(frozen=True, slots=True)
class EventPosition:
    """Where a reader of a partition is: the offset to read `next`, and what the rule remembers of what was before."""

    next: int = 0
    epoch: int = 0
    cmd_off: int | None = -1


class AcceptedEvents:
    """The acceptance rule for the partitions of one reader."""

    def __init__(self, positions: Mapping[int, EventPosition] | None = None) -> None:
        """`positions`: where partitions go on. Others begin with the first message that is handed over; where that is
        not the partition's first, records of fenced engines may count until the next term is announced."""
        self._partitions = {p: _Partition(at) for p, at in (positions or {}).items()}

    def read(
        self, partition: int, offset: int, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] = ()
    ) -> AcceptedRecord | None:
        """The record of this message, if it counts, with its last part if it came in several. A message that was read
        before is left out."""
        found = self._partitions.get(partition)
        if found is None:
            start = EventPosition() if offset == 0 else EventPosition(offset, cmd_off=None)
            found = self._partitions[partition] = _Partition(start)
        return found.read(partition, offset, value, headers)

    def position(self, partition: int) -> EventPosition:
        """Where to go on after a restart."""
        found = self._partitions.get(partition)
        return EventPosition() if found is None else found.position()


class _Partition:
    def __init__(self, at: EventPosition) -> None:
        self._next = at.next
        self._rule = Acceptance(at.epoch, at.cmd_off)
        self._joiner = Joiner()
        self._unfinished: dict[str, int] = {}  # first offset of each set of chunks that is under way

    def read(
        self, partition: int, offset: int, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
    ) -> AcceptedRecord | None:
        if offset < self._next:
            return None
        self._next = offset + 1
        chunk = chunk_of(headers)
        if chunk is not None:
            whole = self._joiner.add(chunk, value or b"")
            if chunk.index + 1 < chunk.count:
                self._unfinished.setdefault(chunk.id, offset)
                return None
            self._unfinished.pop(chunk.id, None)
            if whole is None:
                return None  # a set that was not appended as a whole
            value = whole
        record = event_in(Record(Topic.EVENTS, partition, offset, "", value or b"", 0))
        if not self._rule.accepts(record):
            if record is not None and record.start and record.epoch == self._rule.epoch:
                self._unfinished.clear()  # what an earlier term has left behind never counts
            return None
        return AcceptedRecord(partition, offset, record.key, record.at, record.actor, record.cmd_id, record.events)

    def position(self) -> EventPosition:
        first = min(self._unfinished.values(), default=self._next)
        return EventPosition(min(first, self._next), self._rule.epoch, self._rule.cmd_off)
