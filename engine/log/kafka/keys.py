"""The topic of data keys: the only one that is compacted, so that a record can be deleted, by a tombstone.

A record's key is the data key's id in hexadecimal; its value JSON, `{owner, wrapped, wrapped_by, context?}`. Not a
topic of the log: it has one partition, and nothing rests on the order of its records.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from threadlog.engine.encryption.keys import WrappedKey
from threadlog.engine.log.kafka.fetch import RETRY_SECONDS
from threadlog.engine.log.kafka.log import CREATE_SECONDS, create_topics
from threadlog.engine.log.port import LogUnavailable

REQUEST_SECONDS = 10.0
_HOUR_MS = 3_600_000
SETTINGS = {
    "cleanup.policy": "compact",
    # What is deleted leaves the brokers' files in a matter of hours, however little is written: a segment is closed
    # after one, and compacted after another; tombstones stay for a day, so that every reader sees them.
    "segment.ms": str(_HOUR_MS),
    "max.compaction.lag.ms": str(_HOUR_MS),
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": str(24 * _HOUR_MS),
    "unclean.leader.election.enable": "false",
}


class KeyTopic:
    """Appends to and reads from the topic; made when it is first used. Raises `LogUnavailable`."""

    def __init__(
        self, bootstrap: str, *, prefix: str, replication_factor: int, settings: Mapping[str, str] = SETTINGS
    ) -> None:
        """`settings`: that it is made with, if it does not exist."""
        self._settings = settings
        self.name = f"{prefix}keys"
        self._bootstrap, self._copies = bootstrap, replication_factor
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def add(self, key: WrappedKey) -> None:
        """Durable when it returns."""
        wrapped = b64encode(key.wrapped).decode()
        value: dict[str, Any] = {"owner": key.owner, "wrapped": wrapped, "wrapped_by": key.wrapped_by}
        if key.context:
            value["context"] = dict(key.context)
        await self._append(key.id, orjson.dumps(value))

    async def delete(self, ids: Iterable[bytes]) -> None:
        """Appends their tombstones."""
        await asyncio.gather(*(self._append(id, None) for id in ids))

    async def read(self) -> list[WrappedKey]:
        """The keys that are not deleted."""
        await self._open()
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False)
        try:
            await consumer.start()
            place = TopicPartition(self.name, 0)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            found: dict[bytes, WrappedKey] = {}
            while await consumer.position(place) < end:
                for record in (await consumer.getmany(place, timeout_ms=1000)).get(place, ()):
                    id = bytes.fromhex((record.key or b"").decode())
                    found.pop(id, None)
                    if record.value is not None:
                        value = orjson.loads(record.value)
                        found[id] = WrappedKey(
                            value["owner"], id, b64decode(value["wrapped"]), value["wrapped_by"], value.get("context")
                        )
            return list(found.values())
        except (errors.KafkaError, OSError) as error:
            raise LogUnavailable(f"the topic {self.name} can't be read: {error!r}") from error
        finally:
            await consumer.stop()

    async def aclose(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def _append(self, id: bytes, value: bytes | None) -> None:
        producer = await self._open()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await producer.send_and_wait(self.name, value, key=id.hex().encode())
        except (errors.KafkaError, OSError) as error:
            raise LogUnavailable(f"a data key can't be written to {self.name}: {error!r}") from error

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                try:
                    await self._create()
                    producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", linger_ms=0)
                    await producer.start()
                except (errors.KafkaError, OSError) as error:
                    raise LogUnavailable(f"Kafka at {self._bootstrap} can't be used: {error!r}") from error
                self._producer = producer
            return self._producer

    async def _create(self) -> None:
        client = AIOKafkaClient(bootstrap_servers=self._bootstrap, client_id="threadlog")
        try:
            await client.bootstrap()
            async with asyncio.timeout(CREATE_SECONDS):
                await client.set_topics([self.name])
                if client.cluster.partitions_for_topic(self.name) is None:
                    await create_topics(client, {self.name: self._settings}, 1, self._copies)
                while client.cluster.available_partitions_for_topic(self.name) != {0}:
                    await asyncio.sleep(RETRY_SECONDS)
                    await client.force_metadata_update()
        finally:
            await client.close()
