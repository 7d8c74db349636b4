"""Appending to Kafka: an idempotent producer with one batch in flight per partition and an end to its patience.

aiokafka's own producer retries an idempotent batch for ever, does not say whether a batch it gave up was ever sent, and
goes on with a gap in the sequence numbers after one. Here a batch that can't be delivered fails within a bounded time,
as not sent or as unknown, and the partition goes on under a new producer id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from threadlog.engine.log.kafka.chunks import CHUNK_BYTES, Chunk, split
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, RecordRefused

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.05
# Brokers refuse batches above 1 MiB by default (message.max.bytes, with 12 bytes of overhead).
BATCH_BYTES = 1_000_000
REQUEST_BYTES = 8 * 1024 * 1024
MAX_SEQUENCE = 2**31 - 1

# The broker says with these that this attempt is not in the log. Other errors leave that open: even "not the leader"
# may come from a leader that was deposed while it waited for its followers.
_NOT_APPENDED = {
    errors.CorruptRecordException.errno,
    errors.MessageSizeTooLargeError.errno,
    errors.RecordListTooLargeError.errno,
    errors.InvalidTopicError.errno,
    errors.NotEnoughReplicasError.errno,
    errors.TopicAuthorizationFailedError.errno,
    errors.OutOfOrderSequenceNumber.errno,
    errors.InvalidProducerEpoch.errno,
    59,  # UNKNOWN_PRODUCER_ID
}
# After these a batch is accepted under a new producer id: the broker has forgotten the old one or its sequence.
_NEW_PRODUCER = {errors.OutOfOrderSequenceNumber.errno, errors.InvalidProducerEpoch.errno, 59}
_RETRIED = {
    errors.UnknownError.errno,
    errors.CorruptRecordException.errno,
    errors.UnknownTopicOrPartitionError.errno,
    errors.LeaderNotAvailableError.errno,
    errors.NotLeaderForPartitionError.errno,
    errors.RequestTimedOutError.errno,
    errors.NotEnoughReplicasError.errno,
    errors.NotEnoughReplicasAfterAppendError.errno,
    13,  # NETWORK_EXCEPTION
    56,  # KAFKA_STORAGE_ERROR
    74,  # FENCED_LEADER_EPOCH
    *_NEW_PRODUCER,
}


# A topic's max.message.bytes is below what chunks and batches are made for.
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


@dataclass(slots=True, eq=False)
class Call:
    """One `append`: resolved when all its records are settled, here or in another producer."""

    offsets: list[int]
    left: int  # records not settled, chunks counted one by one
    done: asyncio.Future[list[int]]
    appended: bool = False  # at least one record is in the log
    error: Exception | None = None
    unknown: bool = False
    refused: bool = False

    def settle(self, error: Exception | None, *, unknown: bool = False, whole: bool = True) -> None:
        """One record less to wait for. `whole`: it is not one of the chunks that count for nothing without the last."""
        self.left -= 1
        if error is None:
            self.appended = self.appended or whole
        else:
            self.error = error
            self.unknown = self.unknown or unknown
            self.refused = self.refused or isinstance(error, _TOO_LARGE)
        if self.left or self.done.done():
            return
        if self.error is None:
            self.done.set_result(self.offsets)
        elif self.refused:
            self.done.set_exception(RecordRefused(f"{self.error!r}"))
        elif self.unknown or self.appended:
            self.done.set_exception(AppendUnknown(f"not known to be in the log: {self.error!r}"))
        else:
            self.done.set_exception(LogUnavailable(f"not appended: {self.error!r}"))


@dataclass(slots=True, eq=False)
class _ChunkSet:
    first: int | None = None  # offset of the first chunk, when it is in the log


@dataclass(slots=True, eq=False)
class _Item:
    call: Call
    slot: int | None  # which of the call's offsets this one's is; None for a chunk before the last
    key: bytes
    value: bytes
    chunk: Chunk | None = None
    set: _ChunkSet | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    items: list[_Item]
    data: bytes
    maybe_appended: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    """A partition: what is queued for it, and its one batch in flight or to be sent again."""

    place: TopicPartition
    items: deque[_Item] = field(default_factory=deque)
    batch: _Batch | None = None
    producer: tuple[int, int] | None = None  # id and epoch
    sequence: int = 0
    since: float = 0.0  # when it last took something, or got something to take
    waiting: bool = False  # for its turn to retry
    alone: int = 0  # items to send one by one: a batch of them was too large
    sending: bool = False


class Producer:
    """Group commit per partition: while a batch is in flight the next one gathers. One request in flight per node.

    A partition that took nothing for `delivery_seconds` fails what is queued for it. A request in flight then is still
    waited for, so that a call ends after at most this and `request_seconds` (the client's time-out of a request).
    """

    def __init__(self, client: AIOKafkaClient, group: str, *, request_seconds: float, delivery_seconds: float) -> None:
        self._client = client
        self._group = group  # which of the client's connections: another producer's requests do not delay these
        self._timeout_ms = int(request_seconds * 1000 * 0.8)  # brokers give up on followers before we give up on them
        self._patience = delivery_seconds
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._ready: dict[_Lane, None] = {}  # in order
        self._busy: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._dispatching = False
        self._producer: tuple[int, int] | None = None
        self._asking = asyncio.Lock()
        self._closed = False

    def append(self, call: Call, topic: str, records: Iterable[tuple[int, Append]]) -> None:
        """Queues records, each with its index among the call's, whose `left` counts them already."""
        for slot, record in records:
            if self._closed:
                call.settle(LogUnavailable("the log is closed"))
                continue
            lane = self._lanes.get((topic, record.partition))
            if lane is None:
                lane = self._lanes[(topic, record.partition)] = _Lane(TopicPartition(topic, record.partition))
            if not lane.items and lane.batch is None:
                lane.since = time.monotonic()
            key = record.key.encode()
            if len(record.value) <= CHUNK_BYTES:
                lane.items.append(_Item(call, slot, key, record.value))
            else:
                chunks, of = split(record.value), _ChunkSet()
                call.left += len(chunks) - 1
                for chunk, value in chunks:
                    last = chunk.index + 1 == chunk.count
                    lane.items.append(_Item(call, slot if last else None, key, value, chunk, of))
            if not lane.sending and not lane.waiting:
                self._ready[lane] = None
        self._wake()

    async def aclose(self) -> None:
        """Fails what is queued, and waits for what is in flight."""
        self._closed = True
        while True:
            for lane in self._lanes.values():
                if not lane.sending:
                    self._fail(lane, LogUnavailable("the log was closed"))
            if not self._tasks:
                return
            await asyncio.wait(self._tasks)

    def _wake(self) -> None:
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)  # what is appended meanwhile goes along

    def _dispatch(self) -> None:
        self._dispatching = False
        by_node: dict[int, list[_Lane]] = {}
        for lane in list(self._ready):
            leader = self._client.cluster.leader_for_partition(lane.place)
            if leader is None or leader == -1:
                del self._ready[lane]
                self._retry(lane, errors.LeaderNotAvailableError())
            elif leader not in self._busy:
                by_node.setdefault(leader, []).append(lane)
        for node, lanes in by_node.items():
            for lane in lanes:
                del self._ready[lane]
                lane.sending = True
            self._busy.add(node)
            task = asyncio.create_task(self._send(node, lanes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, node: int, lanes: list[_Lane]) -> None:
        sent: list[_Lane] = []
        try:
            if not await self._client.ready(node, group=self._group):
                raise errors.NodeNotReadyError(f"no connection to node {node}")
            if self._producer is None:
                await self._new_producer(node)
            size = 0
            by_topic: dict[str, list[tuple[int, bytes]]] = {}
            for lane in lanes:
                if size < REQUEST_BYTES and (lane.batch or self._build(lane)):
                    assert lane.batch is not None
                    by_topic.setdefault(lane.place.topic, []).append((lane.place.partition, lane.batch.data))
                    size += len(lane.batch.data)
                    sent.append(lane)
            if sent:
                await self._produce(node, sent, list(by_topic.items()))
        except errors.KafkaError as error:
            for lane in sent or lanes:
                self._retry(lane, error)
        except Exception as error:
            log.exception("producing to node %d failed", node)
            for lane in sent or lanes:
                self._fail(lane, error)
        finally:
            self._busy.discard(node)
            for lane in lanes:
                lane.sending = False
                if not lane.waiting and (lane.items or lane.batch):
                    self._ready[lane] = None
            self._wake()

    async def _new_producer(self, node: int) -> None:
        async with self._asking:
            if self._producer is None:
                answer = await self._client.send(node, InitProducerIdRequest(None, MAX_SEQUENCE), group=self._group)
                if answer.error_code:
                    raise errors.for_code(answer.error_code)()
                self._producer = (answer.producer_id, answer.producer_epoch)

    def _build(self, lane: _Lane) -> bool:
        """Makes a batch of what is queued; False if nothing of it is wanted any more."""
        if lane.producer is None:
            lane.producer, lane.sequence = self._producer, 0
        assert lane.producer is not None
        builder = DefaultRecordBatchBuilder(2, 0, 0, *lane.producer, lane.sequence, BATCH_BYTES)
        items: list[_Item] = []
        while lane.items:
            item = lane.items[0]
            if item.call.done.done() or item.call.error is not None:  # given up by the caller, or lost in part
                item.call.settle(item.call.error or LogUnavailable("cancelled"))
                lane.items.popleft()
                continue
            headers: Sequence[tuple[str, bytes]] = ()
            if item.chunk is not None:
                chunk = item.chunk
                if item.slot is not None:
                    assert item.set is not None
                    if item.set.first is None:  # the first chunk is in this very batch: its offset has to be known
                        break
                    chunk = Chunk(chunk.id, chunk.index, chunk.count, item.set.first)
                headers = chunk.headers()
            if builder.append(len(items), None, item.key, item.value, list(headers)) is None:
                break
            items.append(item)
            lane.items.popleft()
            if lane.alone:
                lane.alone -= 1
                break
        if not items:
            return False
        lane.batch = _Batch(items, bytes(builder.build()))
        lane.sequence += len(items)
        if lane.sequence > MAX_SEQUENCE:
            lane.sequence -= MAX_SEQUENCE + 1
        return True

    async def _produce(self, node: int, lanes: list[_Lane], topics: list[tuple[str, list[tuple[int, bytes]]]]) -> None:
        before: dict[tuple[str, int], tuple[_Lane, bool]] = {}
        for lane in lanes:
            assert lane.batch is not None
            before[lane.place] = (lane, lane.batch.maybe_appended)
            lane.batch.maybe_appended = True
        acks_of_all = -1
        request = ProduceRequest(None, acks_of_all, self._timeout_ms, topics)
        answer = await self._client.send(node, request, group=self._group)
        for topic, partitions in answer.topics:
            for partition, code, offset, *_ in partitions:
                lane, maybe_appended = before[(topic, partition)]
                batch = lane.batch
                assert batch is not None
                if code == 0:
                    self._done(lane, batch, offset)
                    continue
                if code in _NOT_APPENDED:
                    batch.maybe_appended = maybe_appended
                error = errors.for_code(code)()
                log.warning("append to %s[%d]: %r", topic, partition, error)
                if code in _NEW_PRODUCER and not batch.maybe_appended:
                    lane.items.extendleft(reversed(batch.items))
                    self._forget_producer(lane)
                    lane.batch = None
                if isinstance(error, _TOO_LARGE) and len(batch.items) > 1 and not batch.maybe_appended:
                    lane.items.extendleft(reversed(batch.items))
                    lane.alone = len(batch.items)
                    self._forget_producer(lane)
                    lane.batch = None
                elif code in _RETRIED and not (code in _NEW_PRODUCER and batch.maybe_appended):
                    self._retry(lane, error)
                else:
                    self._fail(lane, error, only_batch=True)

    def _done(self, lane: _Lane, batch: _Batch, base: int) -> None:
        lane.batch = None
        lane.since = time.monotonic()
        for i, item in enumerate(batch.items):
            if item.slot is not None:
                item.call.offsets[item.slot] = base + i
            elif item.set is not None and item.chunk is not None and item.chunk.index == 0:
                item.set.first = base + i
            item.call.settle(None, whole=item.slot is not None)

    def _retry(self, lane: _Lane, error: Exception) -> None:
        if time.monotonic() - lane.since > self._patience or self._closed:
            self._fail(lane, error)
            return
        self._client.force_metadata_update()
        lane.waiting = True
        asyncio.get_running_loop().call_later(BACKOFF_SECONDS, self._again, lane)

    def _again(self, lane: _Lane) -> None:
        lane.waiting = False
        if lane.items or lane.batch:
            self._ready[lane] = None
            self._wake()

    def _fail(self, lane: _Lane, error: Exception, *, only_batch: bool = False) -> None:
        """Gives up the lane's batch, and what is queued behind it unless it could be sent."""
        batch, lane.batch = lane.batch, None
        if batch is not None:
            # The broker may miss this batch's sequence numbers for ever, and would then refuse all that follow.
            self._forget_producer(lane)
            for item in batch.items:
                item.call.settle(error, unknown=batch.maybe_appended and item.slot is not None)
        if not only_batch:
            items, lane.items = lane.items, deque()
            for item in items:
                item.call.settle(error)

    def _forget_producer(self, lane: _Lane) -> None:
        if lane.producer == self._producer:
            self._producer = None
        lane.producer = None
