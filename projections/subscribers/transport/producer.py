"""Producer: what agents send, and the changelogs of their tables, in group commits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from aiokafka.partitioner import murmur2
from faust.exceptions import ProducerSendError
from faust.transport.producer import Producer
from faust.types import TP
from faust.types.tuples import RecordMetadata
from mode.utils.times import want_seconds

from threadlog.engine.backoff import Backoff
from threadlog.engine.postgres.errors import PASSING
from threadlog.projections.subscribers.transport.topics import NewMessage, NotAppendable, SubscriberTopics

GROUP_MESSAGES = 500
PATIENCE_SECONDS = 60.0
"""How long messages wait for a database that is away, before the app is told that they could not be sent."""


def partition_of_key(key: bytes | None, partitions: int) -> int:
    """As Kafka's default partitioner: the same keys are in the same partitions on both; without a key any."""
    if key is None:
        return random.randrange(partitions)
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class LogProducer(Producer):  # type: ignore[misc]
    """Messages sent while a transaction is under way share the next one."""

    _topics: SubscriberTopics

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: asyncio.Queue[tuple[NewMessage, asyncio.Future[RecordMetadata]]] = asyncio.Queue()
        self._unsent = 0
        self._all_sent = asyncio.Event()
        self._all_sent.set()

    async def on_start(self) -> None:
        await super().on_start()
        self._topics = await self.transport.acquire()
        self._appender = asyncio.create_task(self._append_all(), name="producer of subscribers")

    async def on_stop(self) -> None:
        await super().on_stop()
        await self.flush()
        self._appender.cancel()
        await asyncio.gather(self._appender, return_exceptions=True)
        await self.transport.release()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        if self._topics.is_of_log(topic):
            raise NotAppendable(f"{topic} is a topic of the log: nothing but threadlog appends to it")
        if self._topics.partitions(topic) is None:
            await self._topics.look()
        if self._topics.partitions(topic) is None:
            await self._topics.declare(topic, self.app.conf.topic_partitions)
        if partition is None:
            partition = self.key_partition(topic, key).partition
        elif not 0 <= partition < (self._topics.partitions(topic) or 0):
            raise ValueError(f"{topic} has no partition {partition}")
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        message = NewMessage(topic, partition, key, value, list(pairs), timestamp)
        sent: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        self._unsent += 1
        self._all_sent.clear()
        self._waiting.put_nowait((message, sent))
        return sent

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        return await (await self.send(*args, **kwargs))

    async def flush(self) -> None:
        """Return when all that was sent is in its topic, or was refused."""
        await self.buffer.flush()
        await self._all_sent.wait()

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:
        await declare(self._topics, topic, partitions, options)

    def key_partition(self, topic: str, key: bytes | None) -> TP:
        return TP(topic, partition_of_key(key, self._topics.partitions(topic) or self.app.conf.topic_partitions))

    def supports_headers(self) -> bool:
        return True

    async def _append_all(self) -> None:
        while True:
            group = [await self._waiting.get()]
            while len(group) < GROUP_MESSAGES and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            try:
                await self._append(group)
            finally:
                self._unsent -= len(group)
                if not self._unsent:
                    self._all_sent.set()

    async def _append(self, group: list[tuple[NewMessage, asyncio.Future[RecordMetadata]]]) -> None:
        backoff, deadline = Backoff(), time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                offsets = await self._topics.append([message for message, _ in group])
                break
            except PASSING as error:  # it may be appended twice: at least once
                if time.monotonic() > deadline:
                    return _refuse(group, error)
                self.log.warning("can't append, trying again: %r", error)
            except Exception as error:
                return _refuse(group, error)
            await backoff.wait()
        for (message, sent), offset in zip(group, offsets, strict=True):
            if not sent.done():
                place = TP(message.topic, message.partition)
                sent.set_result(RecordMetadata(message.topic, message.partition, place, offset, message.timestamp, 0))


def _refuse(group: list[tuple[NewMessage, asyncio.Future[RecordMetadata]]], error: Exception) -> None:
    for message, sent in group:
        if not sent.done():
            refusal = ProducerSendError(f"{message.topic}: {error}")
            refusal.__cause__ = error
            sent.set_exception(refusal)


async def declare(topics: SubscriberTopics, topic: str, partitions: int, options: Mapping[str, Any]) -> None:
    """`create_topic` of Faust, of which compaction and retention mean something here."""
    retention = options.get("retention")
    await topics.declare(
        topic,
        partitions,
        compacting=bool(options.get("compacting")),
        retention_seconds=want_seconds(retention) if retention else None,
    )
