"""The log in memory, for tests: the port's contract without I/O, with retention gaps and failing appends on demand."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from operator import attrgetter

from threadlog.engine.log.port import Append, LogUnavailable, OffsetGone, Record, RecordRefused, Topic

_offset = attrgetter("offset")


class MemoryLog:
    """A log that lives as long as this object. All tails and appends must be on one event loop."""

    def __init__(self, partitions: int = 1, *, max_bytes: int | None = None) -> None:
        """`max_bytes`: values above are refused; None takes all."""
        self._partitions = partitions
        self._max_bytes = max_bytes
        self._records: dict[tuple[Topic, int], list[Record]] = {}
        self._heads: dict[tuple[Topic, int], int] = {}
        self._failures: deque[tuple[LogUnavailable, bool]] = deque()
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def partitions(self) -> int:
        return self._partitions

    async def append(self, records: Sequence[Append]) -> list[int]:
        for record in records:
            if not 0 <= record.partition < self._partitions:
                raise ValueError(f"partition {record.partition} of {self._partitions}")
            if self._max_bytes is not None and len(record.value) > self._max_bytes:
                raise RecordRefused(f"{len(record.value)} bytes are more than {self._max_bytes}")
        error, landed = self._failures.popleft() if self._failures else (None, True)
        offsets = self._write(records) if landed else []
        if error is not None:
            raise error
        return offsets

    def _write(self, records: Sequence[Append]) -> list[int]:
        now_ms = time.time_ns() // 1_000_000
        offsets = []
        for a in records:
            where = (a.topic, a.partition)
            offset = self._heads.get(where, 0)
            self._heads[where] = offset + 1
            self._records.setdefault(where, []).append(
                Record(a.topic, a.partition, offset, a.key, bytes(a.value), now_ms)
            )
            offsets.append(offset)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
        return offsets

    async def read(
        self, topic: Topic, partition: int, start: int, *, end: int | None = None, max_bytes: int = 4_194_304
    ) -> list[Record]:
        first, _ = await self.bounds(topic, partition)
        if start < first:
            raise OffsetGone(topic, partition, start, first)
        return self._slice(topic, partition, start, end, max_bytes)

    def _slice(self, topic: Topic, partition: int, start: int, end: int | None, max_bytes: int) -> list[Record]:
        kept = self._records.get((topic, partition), [])
        found: list[Record] = []
        size = 0
        for record in kept[bisect.bisect_left(kept, start, key=_offset) :]:
            size += len(record.value)
            if (end is not None and record.offset >= end) or (found and size > max_bytes):
                break
            found.append(record)
        return found

    async def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        kept = self._records.get((topic, partition))
        head = self._heads.get((topic, partition), 0)
        return (kept[0].offset if kept else head, head)

    async def tail(self, positions: Mapping[tuple[Topic, int], int]) -> AsyncGenerator[list[Record], None]:
        at = dict(positions)
        loop = asyncio.get_running_loop()
        while True:
            batch: list[Record] = []
            for (topic, partition), start in at.items():
                found = self._slice(topic, partition, start, None, 4_194_304)
                if found:
                    at[(topic, partition)] = found[-1].offset + 1
                    batch += found
            if batch:
                yield batch
                continue
            waiter = loop.create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    async def aclose(self) -> None:
        """Nothing to release; the records stay readable."""

    # For tests

    def trim(self, topic: Topic, partition: int, below: int) -> None:
        """Forget the records below this offset, as retention would."""
        kept = self._records.get((topic, partition), [])
        del kept[: bisect.bisect_left(kept, below, key=_offset)]

    def fail_next(self, error: LogUnavailable, *, landed: bool = False) -> None:
        """Let the next append raise this; `landed`: its records are in the log nevertheless (an ambiguous append)."""
        self._failures.append((error, landed))
