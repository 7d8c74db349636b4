"""Where subscribers run, as their tests see it: a log in Postgres or in Kafka, apps on it, and what they committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from tests.waiting import eventually
from threadlog.engine.log.kafka.log import KafkaLog
from threadlog.engine.log.port import Log
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.projections.subscribers.app import SubscriberApp
from threadlog.projections.subscribers.transport.topics import SubscriberTopics
from threadlog.projections.subscribers.transport.transport import broker_url

PARTITIONS = 4
PREFIX = "threadlog."


class System(Protocol):
    prefix: str
    log: Log

    async def open(self, opened: AsyncExitStack) -> None: ...

    def app(self, name: str = "app", **options: Any) -> SubscriberApp: ...

    async def declare(self, topic: str) -> str:
        """Create a topic of the test's own and return its name."""
        ...

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """What retention does, now."""
        ...

    async def committed(self, topic: str, name: str = "app") -> dict[int, int]:
        """The offsets at which the app would go on, by partition."""
        ...


class InPostgres:
    prefix = PREFIX

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn, self._folder = dsn, folder

    async def open(self, opened: AsyncExitStack) -> None:
        self.log = await PostgresLog.create(self.dsn, PARTITIONS)
        opened.push_async_callback(self.log.aclose)
        self.topics = await SubscriberTopics.open(self.dsn, topic_prefix=PREFIX)
        opened.push_async_callback(self.topics.aclose)

    def app(self, name: str = "app", **options: Any) -> SubscriberApp:
        broker = broker_url(self.dsn, topic_prefix=PREFIX)
        return SubscriberApp(
            name, broker=broker, topic_prefix=PREFIX, partitions=PARTITIONS, folder=self._folder,
            **{"broker_commit_interval": 0.1, **options},
        )  # fmt: skip

    async def declare(self, topic: str) -> str:
        await self.topics.declare(topic, PARTITIONS)
        return topic

    async def trim(self, topic: str, partition: int, below: int) -> None:
        if topic == f"{PREFIX}events":
            await self.log.trim("events", partition, below)  # type: ignore[arg-type]
        else:
            await self.topics.trim(topic, partition, below)

    async def committed(self, topic: str, name: str = "app") -> dict[int, int]:
        return {p: offset for (t, p), offset in (await self.topics.committed(name)).items() if t == topic}

    async def disconnect(self) -> None:
        """End all connections of subscribers, as a restart of the server does."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        finally:
            await connection.close()


class InKafka:
    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.bootstrap, self.prefix, self._folder = bootstrap, prefix, folder

    async def open(self, opened: AsyncExitStack) -> None:
        self.log = await KafkaLog.create(self.bootstrap, prefix=self.prefix, partitions=PARTITIONS)
        opened.push_async_callback(self.log.aclose)

    def app(self, name: str = "app", **options: Any) -> SubscriberApp:
        return SubscriberApp(
            f"{self.prefix}{name}", broker=f"kafka://{self.bootstrap}", topic_prefix=self.prefix, partitions=PARTITIONS,
            folder=self._folder, **{"broker_commit_interval": 0.1, **options},
        )  # fmt: skip

    async def declare(self, topic: str) -> str:
        name = f"{self.prefix}{topic}"
        async with self._admin() as admin:
            await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        return name

    async def trim(self, topic: str, partition: int, below: int) -> None:
        async with self._admin() as admin:
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(below)})

    async def committed(self, topic: str, name: str = "app") -> dict[int, int]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=f"{self.prefix}{name}", enable_auto_commit=False
        )
        await consumer.start()
        try:
            found = {p: await consumer.committed(TopicPartition(topic, p)) for p in range(PARTITIONS)}
        finally:
            await consumer.stop()
        return {p: offset for p, offset in found.items() if offset is not None}

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


@asynccontextmanager
async def running(app: SubscriberApp) -> AsyncIterator[SubscriberApp]:
    """The app with all its agents at work; stopped afterwards."""
    starting = asyncio.create_task(app.start())
    try:
        await eventually(lambda: starting.done() or (app.rebalancing_count and not app.rebalancing))
        if starting.done():
            await starting
        yield app
    finally:
        await app.stop()
        await starting
