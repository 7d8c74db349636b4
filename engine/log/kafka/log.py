"""The log in Apache Kafka: four topics, idempotent appends of bounded patience, tails on fetch sessions, large values.

Built on aiokafka's client (connections, metadata, record format, authentication) without consumer groups and without
transactions: correctness rests on the acceptance rule of the readers.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.structs import TopicPartition

from threadlog.engine.log.kafka.chunks import Joiner, chunk_of
from threadlog.engine.log.kafka.fetch import EARLIEST, LATEST, RETRY_SECONDS, Fetcher, OutOfRange, record_of
from threadlog.engine.log.kafka.producer import Call, Producer
from threadlog.engine.log.kafka.tail import Tail
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, OffsetGone, Record, Topic
from threadlog.engine.metrics import METRICS

log = logging.getLogger(__name__)

# A broker that does not answer in this time is taken for dead: its connection is closed, the request repeated.
REQUEST_SECONDS = 5.0
DELIVERY_SECONDS = 8.0
CREATE_SECONDS = 30.0
FETCH_BYTES = 1024 * 1024

_MIB = 1024 * 1024
_HOUR_MS = 3_600_000


def topic_settings(topic: Topic, *, copies: int, commands_seconds: float, stream_seconds: float) -> dict[str, str]:
    """The settings a topic is created with, and why."""
    settings = {
        "cleanup.policy": "delete",  # never compaction: every record counts, not the last of each key
        "message.timestamp.type": "LogAppendTime",  # the log's own clock, and retention must not trust a producer's
        "max.message.bytes": str(_MIB + 12),  # the brokers' default, said here because chunks are cut to fit it
        "compression.type": "uncompressed",  # whoever appends: no reader needs a codec that is not installed
        "unclean.leader.election.enable": "false",  # an acknowledged record is never traded for availability
    }
    if copies > 0:
        # One copy may be away: appends neither stop then, nor are acknowledged by one copy only (with three).
        settings["min.insync.replicas"] = str(copies - 1 if copies > 2 else 1)
    # Retention takes whole segments, none before its newest record is old enough: segments are a part of what is kept.
    if topic is Topic.COMMANDS:
        kept = int(commands_seconds * 1000)
        settings |= {"retention.ms": str(kept), "segment.bytes": str(128 * _MIB)}
        settings["segment.ms"] = str(max(60_000, min(24 * _HOUR_MS, kept // 4)))
    elif topic is Topic.STREAM:
        kept = int(stream_seconds * 1000)
        settings |= {"retention.ms": str(kept), "segment.bytes": str(128 * _MIB)}
        settings["segment.ms"] = str(max(60_000, min(_HOUR_MS, kept // 4)))
    else:
        # For ever: the log is the truth, the tables are made from it.
        settings |= {"retention.ms": "-1", "retention.bytes": "-1", "segment.bytes": str(512 * _MIB)}
    return settings


class KafkaLog:
    """The log port on Apache Kafka; every promise of `engine.log.port.Log`. Offsets may have gaps (chunks)."""

    def __init__(
        self, client: AIOKafkaClient, names: Mapping[Topic, str], partitions: int, *, delivery_seconds: float
    ) -> None:
        self._client = client
        self._names = names
        self._partitions = partitions
        self._fetcher = Fetcher(client)
        self._tails: weakref.WeakSet[Tail] = weakref.WeakSet()
        # Frames have connections of their own, so that tokens never delay commands and events.
        self._control, self._stream = (
            Producer(client, group, request_seconds=REQUEST_SECONDS, delivery_seconds=delivery_seconds)
            for group in ("append", "append-stream")
        )

    @classmethod
    async def create(
        cls,
        bootstrap: str,
        *,
        prefix: str = "threadlog.",
        partitions: int = 64,
        replication_factor: int = -1,
        commands_seconds: float = 7 * 86_400,
        stream_seconds: float = 86_400,
        delivery_seconds: float = DELIVERY_SECONDS,
        **security: Any,
    ) -> KafkaLog:
        """Creates the topics that are absent (`replication_factor` -1: the brokers' default) and opens the log.

        An append that the brokers do not take fails after `delivery_seconds`, if it may have been sent at most five
        seconds later. `security`: aiokafka's `security_protocol`, `ssl_context`, `sasl_…`. Raises `ValueError` when a
        topic exists with another number of partitions, `LogUnavailable`.
        """
        names = {topic: f"{prefix}{topic}" for topic in Topic}
        client = AIOKafkaClient(
            bootstrap_servers=bootstrap,
            client_id="threadlog",
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            metadata_max_age_ms=60_000,
            retry_backoff_ms=int(RETRY_SECONDS * 1000),
            **security,
        )
        try:
            await client.bootstrap()
            async with asyncio.timeout(CREATE_SECONDS):
                await client.set_topics(names.values())
                while not client.cluster.brokers():  # the controller does not count the one we asked as alive yet
                    await asyncio.sleep(RETRY_SECONDS)
                    await client.force_metadata_update()
                missing = {t: name for t, name in names.items() if client.cluster.partitions_for_topic(name) is None}
                if missing:
                    copies = replication_factor if replication_factor > 0 else await _default_copies(client)
                    settings = {
                        name: topic_settings(
                            topic, copies=copies, commands_seconds=commands_seconds, stream_seconds=stream_seconds
                        )
                        for topic, name in missing.items()
                    }
                    await create_topics(client, settings, partitions, replication_factor)
                while not all(_complete(client, name, partitions) for name in names.values()):
                    await client.force_metadata_update()
                    await asyncio.sleep(RETRY_SECONDS)
                if missing:
                    await _wait_for_leaders(client, missing.values(), partitions)
        except (errors.KafkaError, OSError) as error:
            await client.close()
            raise LogUnavailable(f"Kafka at {bootstrap} can't be used: {error!r}") from error
        except BaseException:
            await client.close()
            raise
        return cls(client, names, partitions, delivery_seconds=delivery_seconds)

    @classmethod
    async def existing(cls, bootstrap: str, *, prefix: str = "threadlog.", **security: Any) -> KafkaLog:
        """Opens the log as it is, for readers. Raises `LogUnavailable`, also where topics of it are absent."""
        client = AIOKafkaClient(
            bootstrap_servers=bootstrap,
            client_id="threadlog",
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            **security,
        )
        try:
            await client.bootstrap()
            cluster = await client.fetch_all_metadata()  # asking for one topic by its name may create it
        except (errors.KafkaError, OSError) as error:
            raise LogUnavailable(f"Kafka at {bootstrap} can't be used: {error!r}") from error
        finally:
            await client.close()
        counts = {len(cluster.partitions_for_topic(f"{prefix}{topic}") or ()) for topic in Topic}
        if len(counts) > 1 or 0 in counts:
            raise LogUnavailable(f"Kafka at {bootstrap} holds no log {prefix}*: start a server on it first")
        return await cls.create(bootstrap, prefix=prefix, partitions=counts.pop(), **security)

    @property
    def partitions(self) -> int:
        return self._partitions

    async def append(self, records: Sequence[Append]) -> list[int]:
        """As the port says. Records of several topic-partitions are appended side by side, commands once the frames of
        the call are in the log: some may be in the log and others not when it fails (with `AppendUnknown` then)."""
        for record in records:
            self._check(record.topic, record.partition)
        frames = [slot for slot, record in enumerate(records) if record.topic is Topic.STREAM]
        if not frames or not any(record.topic is Topic.COMMANDS for record in records):
            return await self._append(records)
        others = [slot for slot, record in enumerate(records) if record.topic is not Topic.STREAM]
        offsets = [-1] * len(records)
        for slots in (frames, others):
            try:
                found = await self._append([records[slot] for slot in slots])
            except LogUnavailable as error:
                if slots is frames:
                    raise
                raise AppendUnknown(str(error)) from error
            for slot, offset in zip(slots, found, strict=True):
                offsets[slot] = offset
        return offsets

    async def _append(self, records: Sequence[Append]) -> list[int]:
        if not records:
            return []
        by_topic: dict[Topic, list[tuple[int, Append]]] = {}
        for slot, record in enumerate(records):
            by_topic.setdefault(record.topic, []).append((slot, record))
            METRICS.counts["appended_bytes", record.topic] += len(record.value)
        call = Call([-1] * len(records), len(records), asyncio.get_running_loop().create_future())
        for topic, some in by_topic.items():
            producer = self._stream if topic is Topic.STREAM else self._control
            producer.append(call, self._names[topic], some)
        return await call.done

    async def read(
        self, topic: Topic, partition: int, start: int, *, end: int | None = None, max_bytes: int = 4_194_304
    ) -> list[Record]:
        place = self._place(topic, partition)
        found: list[Record] = []
        joiner = Joiner()
        size = 0
        position = start
        while end is None or position < end:
            try:
                fetched = await self._fetcher.fetch(place, position, min(FETCH_BYTES, max_bytes))
            except OutOfRange:
                first = await self._fetcher.offset(place, EARLIEST)
                if start < first and not found:
                    raise OffsetGone(topic, partition, start, first) from None
                break
            for raw in fetched.records:
                if end is not None and raw.offset >= end:
                    return found
                value = raw.value or b""
                if raw.headers and (chunk := chunk_of(raw.headers)) is not None:
                    value = joiner.add(chunk, value)
                    if value is None and chunk.first is not None:
                        value = await self._fetcher.join(place, raw.offset, chunk)
                    if value is None:
                        continue
                size += len(value)
                if found and size > max_bytes:
                    return found
                found.append(record_of(topic, partition, raw, value))
                if size >= max_bytes:
                    return found
            if fetched.next >= fetched.end or fetched.next == position:
                break
            position = fetched.next
        return found

    async def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        place = self._place(topic, partition)
        first = await self._fetcher.offset(place, EARLIEST)
        return first, await self._fetcher.offset(place, LATEST)

    def tail(self, positions: Mapping[tuple[Topic, int], int]) -> AsyncGenerator[list[Record], None]:
        """As the port says; it also ends when the log is closed. Each tail has connections of its own: follow many
        partitions with one."""
        for topic, partition in positions:
            self._check(topic, partition)
        tail = Tail(self._client, self._fetcher, self._names, positions)
        self._tails.add(tail)
        return tail.batches()

    async def aclose(self) -> None:
        for tail in self._tails:
            tail.stop()
        await asyncio.gather(self._control.aclose(), self._stream.aclose())
        await self._client.close()

    def _place(self, topic: Topic, partition: int) -> TopicPartition:
        self._check(topic, partition)
        return TopicPartition(self._names[topic], partition)

    def _check(self, topic: Topic, partition: int) -> None:
        if not 0 <= partition < self._partitions:
            raise ValueError(f"{topic}: partition {partition} of a log with {self._partitions} partitions")


async def _default_copies(client: AIOKafkaClient) -> int:
    """The brokers' default replication factor; 0 if they do not tell."""
    node = client.get_random_node()
    of_a_broker = 4
    request = DescribeConfigsRequest([(of_a_broker, str(node), ["default.replication.factor"])])
    ((code, _, _, _, entries),) = (await client.send(node, request)).resources
    return int(entries[0][1]) if code == 0 and entries else 0


async def create_topics(
    client: AIOKafkaClient, topics: Mapping[str, Mapping[str, str]], partitions: int, replication_factor: int
) -> None:
    """Creates topics, by name with their settings. Raises `LogUnavailable`, and `KafkaError`s."""
    # aiokafka's own admin client does not let the brokers choose the replication factor.
    request = CreateTopicsRequest(
        [(name, partitions, replication_factor, [], list(settings.items())) for name, settings in topics.items()],
        int(REQUEST_SECONDS * 1000),
        False,
    )
    answer = await client.send(client.get_random_node(), request)
    for name, code, message in answer.topic_errors:
        # Another process may be as fast; and a broker that was too slow to answer may have created it.
        if code not in (0, errors.TopicAlreadyExistsError.errno, errors.RequestTimedOutError.errno):
            raise LogUnavailable(f"Kafka did not create the topic {name}: {message or errors.for_code(code).__name__}")
        log.info("created the topic %s", name)


async def _wait_for_leaders(client: AIOKafkaClient, topics: Collection[str], partitions: int) -> None:
    """A new topic's leaders are in the metadata a while before they take appends: they are asked."""
    fetcher = Fetcher(client, seconds=CREATE_SECONDS)
    places = [TopicPartition(topic, partition) for topic in topics for partition in range(partitions)]
    await asyncio.gather(*(fetcher.offset(place, LATEST) for place in places))


def _complete(client: AIOKafkaClient, name: str, partitions: int) -> bool:
    """Whether the topic is there with a leader for every partition. Raises `ValueError` for another number of these."""
    there = client.cluster.partitions_for_topic(name)
    if there is not None and len(there) != partitions:
        raise ValueError(
            f"the Kafka topic {name} has {len(there)} partitions, not {partitions}: the number is fixed when the log "
            f"is created (use {len(there)}, or another topic prefix)"
        )
    return there is not None and client.cluster.available_partitions_for_topic(name) == there
