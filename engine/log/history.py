"""Event history: the accepted records of partitions in order, from their beginning, or from a time or an offset on.

A reader that begins in the middle finds its place by the log's clock, with some twenty reads (`offset_at`), and takes
the first record on trust until one follows that was decided after it (`MidwayAcceptance`).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from threadlog.engine.log.acceptance import Acceptance, MidwayAcceptance
from threadlog.engine.log.port import Log, Record, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.engine.log.unreadable import read_event

READ_BYTES = 1_048_576
LEAD_RECORDS = 64
"""Records before the first wanted one that a reader in the middle begins with, to tell which count."""
SKEW_MS = 60_000
"""Milliseconds that a command's time, its sender's, may be ahead of the log's clock."""
_YIELD_RECORDS = 64

Wanted = Callable[[EventRecord], bool]
Done = Callable[[int], None]
"""Receives how many records have been read since the last call."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An accepted event record at its place in the log."""

    partition: int
    offset: int
    timestamp_ms: int
    record: EventRecord


def is_of_run(event: Mapping[str, Any], run_id: str) -> bool:
    """Whether the event is about this run, or this job of a state update."""
    return event.get("run_id") == run_id or event.get("job_id") == run_id or run_id in event.get("run_ids", ())


def has_type(type_: str, wanted: Sequence[str]) -> bool:
    """Whether the type is one of these, or begins as one of these that ends with `*`; any is, of none."""
    return not wanted or any(type_.startswith(w[:-1]) if w.endswith("*") else type_ == w for w in wanted)


async def offset_at(log: Log, partition: int, at_ms: int) -> int:
    """An offset of `events` that no record the log took at this time, in milliseconds, or later is before."""
    low, high = await log.bounds(Topic.EVENTS, partition)
    while low < high:
        middle = (low + high) // 2
        records = await log.read(Topic.EVENTS, partition, middle, end=high, max_bytes=1)
        if not records or records[0].timestamp_ms >= at_ms:
            high = middle
        else:
            low = records[0].offset + 1
    return low


class PartitionHistory:
    """Accepted records of one partition. `next`: the offset after the last record that was read."""

    def __init__(self, log: Log, partition: int, begin: int, start: int, *, whole: bool) -> None:
        self._log, self._partition, self._start = log, partition, start
        self._acceptance = Acceptance() if whole else MidwayAcceptance()
        self.next = begin
        self.read_bytes = 0

    @classmethod
    async def open(
        cls, log: Log, partition: int, *, offset: int | None = None, since_ms: int | None = None
    ) -> PartitionHistory:
        """From an offset on, or a time; else from the beginning. Raises `LogUnavailable`."""
        first, _ = await log.bounds(Topic.EVENTS, partition)
        start = first if offset is None else max(offset, first)
        if since_ms is not None:
            start = max(start, await offset_at(log, partition, since_ms - SKEW_MS))
        begin = max(first, start - LEAD_RECORDS)
        return cls(log, partition, begin, start, whole=begin == 0)

    async def read(self, end: int | None = None, *, max_bytes: int = READ_BYTES) -> list[LoggedEvent] | None:
        """What counts of the next records below `end`; None if there are none. Lets other tasks have their turn."""
        if end is not None and self.next >= end:
            return None
        records = await self._log.read(Topic.EVENTS, self._partition, self.next, end=end, max_bytes=max_bytes)
        if not records:
            return None
        history = []
        for n, record in enumerate(records):
            if n % _YIELD_RECORDS == _YIELD_RECORDS - 1:
                await asyncio.sleep(0)
            if (event := await self.follow(record)) is not None:
                history.append(event)
        return history

    async def follow(self, record: Record) -> LoggedEvent | None:
        """The event of the next record, if it counts and is not before what is wanted."""
        self.next = record.offset + 1
        self.read_bytes += len(record.value)
        event = await read_event(record)
        if not self._acceptance.accepts(event) or record.offset < self._start:
            return None
        return LoggedEvent(self._partition, record.offset, record.timestamp_ms, event)


class LoggedHistory:
    """Accepted records of some partitions, all or those that are `wanted`, from the beginning of the log or the time
    `since_ms` on."""

    def __init__(
        self, log: Log, partitions: Iterable[int], *, wanted: Wanted | None = None, since_ms: int | None = None
    ) -> None:
        self._log, self._wanted, self._since_ms = log, wanted, since_ms
        self._partitions = list(partitions)
        self._histories: dict[int, PartitionHistory] = {}
        self._ends: dict[int, int] = {}

    async def open(self) -> int:
        """Find the places to begin at. Returns how many records there may be up to now."""
        histories = await asyncio.gather(
            *(PartitionHistory.open(self._log, p, since_ms=self._since_ms) for p in self._partitions)
        )
        bounds = await asyncio.gather(*(self._log.bounds(Topic.EVENTS, p) for p in self._partitions))
        self._histories = dict(zip(self._partitions, histories, strict=True))
        self._ends = {p: end for p, (_, end) in zip(self._partitions, bounds, strict=True)}
        return sum(max(0, self._ends[p] - history.next) for p, history in self._histories.items())

    async def until_now(self, done: Done | None = None) -> AsyncGenerator[LoggedEvent, None]:
        """What is in the log at this moment, in the order of the log's clock."""
        if not self._histories:
            await self.open()
        sources = [self._partition(p, history, done) for p, history in self._histories.items()]
        heads: list[tuple[int, int, int, LoggedEvent]] = []
        for number, source in enumerate(sources):
            await _push(heads, number, source)
        while heads:
            _, number, _, happened = heapq.heappop(heads)
            yield happened
            await _push(heads, number, sources[number])

    async def _partition(
        self, partition: int, history: PartitionHistory, done: Done | None
    ) -> AsyncIterator[LoggedEvent]:
        while True:
            before = history.next
            events = await history.read(self._ends[partition])
            if events is None:
                return
            if done is not None:
                done(history.next - before)
            for event in events:
                if self._wanted is None or self._wanted(event.record):
                    yield event

    async def from_now(self) -> AsyncGenerator[LoggedEvent, None]:
        """What follows, for ever; call it after `until_now` is exhausted."""
        positions = {(Topic.EVENTS, p): history.next for p, history in self._histories.items()}
        async with aclosing(self._log.tail(positions)) as batches:
            async for batch in batches:
                for record in batch:
                    event = await self._histories[record.partition].follow(record)
                    if event is not None and (self._wanted is None or self._wanted(event.record)):
                        yield event


async def _push(
    heads: list[tuple[int, int, int, LoggedEvent]], number: int, source: AsyncIterator[LoggedEvent]
) -> None:
    async for happened in source:
        heapq.heappush(heads, (happened.timestamp_ms, number, happened.offset, happened))
        return
