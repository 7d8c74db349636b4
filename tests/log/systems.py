"""The three logs as the contract suite sees them: handles as several processes would have them, and retention."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from threadlog.engine.log.kafka.log import KafkaLog
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Log, Topic
from threadlog.engine.log.postgres.log import PostgresLog

PARTITIONS = 4


class System(Protocol):
    """A log under test. Handles opened are closed at the end."""

    async def open(self) -> Log:
        """Another handle on the same log, as another process would have it."""
        ...

    async def trim(self, topic: Topic, partition: int, below: int) -> None:
        """What retention does, now."""
        ...


class InMemory:
    """All handles are the one log."""

    def __init__(self) -> None:
        self.log = MemoryLog(PARTITIONS)

    async def open(self) -> Log:
        return self.log

    async def trim(self, topic: Topic, partition: int, below: int) -> None:
        self.log.trim(topic, partition, below)


class InPostgres:
    def __init__(self, dsn: str, handles: AsyncExitStack) -> None:
        self.dsn = dsn
        self._handles = handles

    async def open(self) -> PostgresLog:
        log = await PostgresLog.create(self.dsn, PARTITIONS)
        self._handles.push_async_callback(log.aclose)
        return log

    async def trim(self, topic: Topic, partition: int, below: int) -> None:
        await (await self.open()).trim(topic, partition, below)


class InKafka:
    def __init__(self, bootstrap: str, prefix: str, handles: AsyncExitStack, **options: Any) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self._handles = handles
        self._options = options

    async def open(self, **options: Any) -> KafkaLog:
        chosen = {"prefix": self.prefix, "partitions": PARTITIONS, **self._options, **options}
        log = await KafkaLog.create(self.bootstrap, **chosen)
        self._handles.push_async_callback(log.aclose)
        return log

    async def trim(self, topic: Topic, partition: int, below: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(f"{self.prefix}{topic}", partition): RecordsToDelete(below)})
        finally:
            await admin.close()
