"""The log as the rest of threadlog sees it: four topics, partitions, offsets. Adapters: memory, Postgres, Kafka."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    """The four topics; all have the same number of partitions."""

    COMMANDS = "commands"
    EVENTS = "events"
    VALUES = "values"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Append:
    """A record to append. `key` is the aggregate's id; the partition is chosen by the caller (`partition_of`)."""

    topic: Topic
    partition: int
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read back. `timestamp_ms` is the log's own clock (milliseconds since the epoch)."""

    topic: Topic
    partition: int
    offset: int
    key: str
    value: bytes
    timestamp_ms: int


class LogUnavailable(Exception):
    """The log can't be reached or did not accept the append; the record is known not to be in the log."""


class AppendUnknown(LogUnavailable):
    """It is not known whether the append is in the log (time-out, connection lost after sending)."""


class RecordRefused(Exception):
    """The log does not take a record, whatever the time: it is too large, as a rule. Of several records that were
    handed over together others may be in the log."""


class OffsetGone(Exception):
    """The offset asked for is below the first retained one."""

    def __init__(self, topic: Topic, partition: int, asked: int, first: int) -> None:
        super().__init__(f"{topic}[{partition}]: offset {asked} is gone, the first retained one is {first}")
        self.topic, self.partition, self.asked, self.first = topic, partition, asked, first


class Log(Protocol):
    """An ordered, durable, partitioned log.

    Offsets of one partition increase strictly; whether they are gapless is the adapter's affair (Postgres and memory:
    gapless; Kafka: a record split into chunks uses several and carries the last one's). Values of any size are
    accepted.
    """

    @property
    def partitions(self) -> int:
        """Partitions per topic, fixed when the log was created."""
        ...

    async def append(self, records: Sequence[Append]) -> list[int]:
        """Append durably and return the offsets, in the order given.

        Records of one topic-partition keep their order, also across calls of one process that overlap. A command is in
        the log only when the stream records of its call are, so that these are never missing, whenever the process
        dies; it may therefore come after commands of a later call. A call with stream records only need not wait for
        the disk: see `engine.log.postgres.log` for what a crash of it means.
        Raises `LogUnavailable`, `AppendUnknown` or `RecordRefused`; with several records the error speaks of all of
        them.
        """
        ...

    async def read(
        self, topic: Topic, partition: int, start: int, *, end: int | None = None, max_bytes: int = 4_194_304
    ) -> list[Record]:
        """Records from `start` on (inclusive, below `end`), as many as fit `max_bytes` but at least one if any exists.

        Raises `OffsetGone` when `start` is below the first retained offset, `LogUnavailable`.
        """
        ...

    async def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        """`(first retained offset, offset the next record will get at least)`."""
        ...

    def tail(self, positions: Mapping[tuple[Topic, int], int]) -> AsyncGenerator[list[Record], None]:
        """Follow these topic-partitions from the given offsets, for ever; batches are never empty.

        A position below the first retained offset starts at that one. Outages are waited out (retried with back-off)
        without losing or repeating a record. Close the iterator (`aclose`) to stop.
        """
        ...

    async def aclose(self) -> None: ...
