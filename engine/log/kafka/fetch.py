"""Reading from Kafka partitions: fetches and offsets asked of the leader, tried again while leaders move.

This speaks the fetch protocol through aiokafka's client instead of using its consumer, for what that can't do: it has
no fetch sessions (every request and answer would name all partitions, at every few records), and it can't read once
from an offset without waiting for the fetch of everything assigned that is in flight.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from threadlog.engine.log.kafka.chunks import Chunk, chunk_of
from threadlog.engine.log.port import LogUnavailable, Record, Topic

log = logging.getLogger(__name__)

READ_SECONDS = 10.0  # how long a read tries to find a leader that answers
RETRY_SECONDS = 0.1
EARLIEST, LATEST = -2, -1

# Connections are kept apart by what they are for, because a broker answers a connection's requests one after the other.
_READS = "read"

_T = TypeVar("_T")


class FetchInSession(FetchRequest):  # type: ignore[misc]
    """A fetch within an incremental session (KIP-227): names only the partitions whose position changed."""

    def __init__(
        self,
        *,
        wait_ms: int,
        max_bytes: int,
        partition_bytes: int,
        session: tuple[int, int],
        positions: Sequence[tuple[TopicPartition, int]],
        forgotten: Sequence[TopicPartition] = (),
    ) -> None:
        self._wait_ms = wait_ms
        self._max_bytes = max_bytes
        self._session = session
        by_topic: dict[str, list[tuple[int, int, int, int, int]]] = {}
        for (topic, partition), offset in positions:
            # partition, leader epoch (any), offset, log start (of followers only), limit
            by_topic.setdefault(topic, []).append((partition, -1, offset, -1, partition_bytes))
        self._by_topic = list(by_topic.items())
        gone: dict[str, list[int]] = {}
        for topic, partition in forgotten:
            gone.setdefault(topic, []).append(partition)
        self._gone = list(gone.items())

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is not FetchRequest_v11:
            raise errors.IncompatibleBrokerVersion("the log needs Kafka 2.3 or newer (fetch request version 11)")
        replica, min_bytes, read_uncommitted, rack = -1, 1, 0, ""
        return FetchRequest_v11(
            replica, self._wait_ms, min_bytes, self._max_bytes, read_uncommitted, *self._session, self._by_topic,
            self._gone, rack,
        )  # fmt: skip


def decode(message_set: bytes, start: int) -> tuple[list[Any], int]:
    """The records of a fetched message set from `start` on, and the offset to fetch next.

    Raises `aiokafka.errors.CorruptRecordException`.
    """
    found: list[Any] = []
    position = start
    batches = MemoryRecords(message_set)
    while batches.has_next():
        batch = batches.next_batch()
        if batch.next_offset <= position:
            continue
        if not batch.validate_crc():
            raise errors.CorruptRecordException("a fetched batch has a wrong checksum")
        if not batch.is_control_batch:
            found += _records(batch, position)
        position = batch.next_offset
    return found, position


def _records(batch: Any, start: int) -> list[Any]:
    """A batch's records from `start` on. What is not readable in it although its checksum is right (a header that is no
    text, a payload that is not what its codec says) was appended so: it, and what is behind it in the batch, are passed
    over by every reader."""
    found: list[Any] = []
    try:
        for record in batch:
            if record.offset >= start:
                found.append(record)
    except (errors.KafkaError, MemoryError):
        raise
    except Exception:
        log.exception("records of the batch at offset %d can't be read and are passed over", batch.base_offset)
    return found


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: Kafka's records, the offset after them, and the end of the partition."""

    records: list[Any]
    next: int
    end: int


class OutOfRange(Exception):
    """The offset is below the first retained one, or beyond the end."""


class Fetcher:
    """Single requests to the leader of a partition.

    Raise `LogUnavailable` when no leader answers in `seconds` (without: `READ_SECONDS`).
    """

    def __init__(self, client: AIOKafkaClient, *, seconds: float | None = None) -> None:
        self._client = client
        self._seconds = seconds

    async def fetch(self, place: TopicPartition, offset: int, max_bytes: int) -> Fetched:
        """What there is now at `offset`, at least one batch if any. Raises `OutOfRange`."""

        async def ask(leader: int) -> Fetched:
            request = FetchInSession(
                wait_ms=0,
                max_bytes=max_bytes,
                partition_bytes=max_bytes,
                session=(0, -1),  # no session
                positions=[(place, offset)],
            )
            answer = await self._client.send(leader, request, group=_READS)
            _raise_for(answer.error_code)
            ((_, ((_, code, end, _, _, _, _, message_set),)),) = answer.topics
            if code == errors.OffsetOutOfRangeError.errno:
                raise OutOfRange
            _raise_for(code)
            records, position = decode(message_set or b"", offset)
            return Fetched(records, position, end)

        return await self._ask(place, ask)

    async def offset(self, place: TopicPartition, which: int) -> int:
        """The first retained offset (`EARLIEST`) or the end (`LATEST`)."""

        async def ask(leader: int) -> int:
            request = OffsetRequest(-1, 0, [(place.topic, [(place.partition, which)])])
            answer = await self._client.send(leader, request, group=_READS)
            ((_, ((_, code, _, offset),)),) = answer.topics
            _raise_for(code)
            found: int = offset
            return found

        return await self._ask(place, ask)

    async def join(self, place: TopicPartition, last: int, chunk: Chunk) -> bytes | None:
        """The value of a chunked record, read from its first chunk to its last; None if it is not all there."""
        assert chunk.first is not None
        parts: list[bytes] = []
        position = chunk.first
        while position <= last:
            try:
                fetched = await self.fetch(place, position, 4 * 1024 * 1024)
            except OutOfRange:
                return None
            for record in fetched.records:
                found = chunk_of(record.headers) if record.headers else None
                if found is not None and found.id == chunk.id and found.index == len(parts):
                    parts.append(record.value or b"")
            if fetched.next == position:
                break
            position = fetched.next
        return b"".join(parts) if len(parts) == chunk.count else None

    async def _ask(self, place: TopicPartition, ask: Callable[[int], Awaitable[_T]]) -> _T:
        deadline = time.monotonic() + (READ_SECONDS if self._seconds is None else self._seconds)
        while True:
            leader = self._client.cluster.leader_for_partition(place)
            error: Exception = errors.LeaderNotAvailableError(place)
            if leader is not None and leader != -1:
                try:
                    return await ask(leader)
                except errors.IncompatibleBrokerVersion:
                    raise
                except errors.KafkaError as caught:
                    error = caught
            if time.monotonic() > deadline:
                raise LogUnavailable(f"{place.topic}[{place.partition}] can't be read: {error!r}") from error
            self._client.force_metadata_update()
            await asyncio.sleep(RETRY_SECONDS)


def record_of(topic: Topic, partition: int, raw: Any, value: bytes) -> Record:
    """A record of the port from one of aiokafka's. Whoever may append may have appended anything: no value, any key."""
    key = raw.key
    return Record(
        topic, partition, raw.offset, key.decode("utf-8", "replace") if key else "", value or b"", raw.timestamp
    )


def _raise_for(code: int) -> None:
    if code:
        raise errors.for_code(code)()
