"""A log and a database with processors on them, over each journal."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg

from tests.waiting import eventually
from threadlog.deploy.compose.engine import Engine, engine_of
from threadlog.deploy.settings import Settings
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import Command, CreateRun, CreateThread, ReportRun
from threadlog.engine.gateway.gateway import DEADLINE_SECONDS, LocalGateway, LogGateway, envelope_for
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, Log, Topic
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.log.records import EventRecord, partition_of
from threadlog.engine.processor.committer import Committer
from threadlog.engine.processor.ports import Decided, Executors, Gateway
from threadlog.engine.processor.processor import Processor
from threadlog.projections.rebuild.verify import Difference, verify

Kind = Literal["postgres", "memory"]
KINDS: tuple[Kind, ...] = ("postgres", "memory")
PARTITIONS = 16
RENEWED_OFTEN = {"renew_seconds": 0.1}  # tests wait for take-overs and timers


def new_id() -> str:
    return str(uuid.uuid4())


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.records: list[tuple[int, int, EventRecord]] = []

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        self.records.append((partition, offset, record))

    def events(self) -> list[str]:
        return [event["type"] for _, _, record in self.records for event in record.events]


@dataclass(eq=False)
class EngineUnderTest:
    """An engine, a gateway to it, and the events that a listener has received."""

    engine: Engine
    gateway: Gateway
    heard: Heard = field(default_factory=Heard)

    @property
    def processor(self) -> Processor:
        return self.engine.processor

    @property
    def committer(self) -> Committer:
        return self.engine.processor.committer

    async def submit(self, command: Command, **names: Any) -> Decided:
        return await self.gateway.submit(command, **names)

    async def stop(self) -> None:
        await self.engine.stop()


@dataclass(eq=False)
class EngineHarness:
    """Everything the processors of a test share."""

    kind: Kind
    dsn: str
    pool: asyncpg.Pool
    log: Log
    engines: list[EngineUnderTest] = field(default_factory=list)

    async def engine(
        self,
        owner: str = "one",
        *,
        ready: bool = True,
        source: Log | None = None,
        executors: Executors | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        **names: Any,
    ) -> EngineUnderTest:
        composed = engine_of(
            Settings.load(), source or self.log, self.pool, owner=owner, executors=executors, **RENEWED_OFTEN, **names
        )
        processor, through_log = composed.processor, LogGateway(source or self.log, deadline_seconds=deadline_seconds)
        processor.add_listener(through_log)
        engine = EngineUnderTest(composed, LocalGateway(processor, through_log))
        processor.add_listener(engine.heard)
        self.engines.append(engine)
        await processor.start()
        if ready:
            await processor.ready()
        return engine

    async def append(self, command: Command, id: str | None = None) -> None:
        """Put a command into the log as another process does."""
        key = key_of(command)
        envelope = envelope_for(command, id)
        await self.log.append([Append(Topic.COMMANDS, partition_of(key, PARTITIONS), key, envelope.encode())])

    async def verify(self) -> list[Difference]:
        return await verify(self.dsn, self.log)

    async def rows(self, query: str, *args: Any) -> list[asyncpg.Record]:
        return await self.pool.fetch(query, *args)

    async def until(self, query: str, *args: Any) -> None:
        """Wait until the query answers true."""
        await eventually(lambda: self.pool.fetchval(query, *args), says=query)


@asynccontextmanager
async def engine_harness(kind: Kind, dsn: str, *, max_bytes: int | None = None) -> AsyncIterator[EngineHarness]:
    """`max_bytes`: of values in a log in memory."""
    pool = await asyncpg.create_pool(dsn, min_size=0, max_size=20)
    log: Log = (
        await PostgresLog.create(dsn, PARTITIONS) if kind == "postgres" else MemoryLog(PARTITIONS, max_bytes=max_bytes)
    )
    harness = EngineHarness(kind, dsn, pool, log)
    try:
        yield harness
    finally:
        for engine in harness.engines:
            await engine.stop()
        await log.aclose()
        await pool.close()


def key_of(command: Command) -> str:
    return decider.key_of(command)


def thread_in(partition: int) -> str:
    """A new thread id of this partition."""
    return next(id_ for id_ in iter(new_id, "") if partition_of(id_, PARTITIONS) == partition)


def create_run(thread_id: str, run_id: str | None = None, **names: Any) -> CreateRun:
    run = {"assistant_id": None, "metadata": {}, "kwargs": {}}
    return CreateRun(thread_id=thread_id, run_id=run_id or new_id(), graph_id="g", run=run, create_thread={}, **names)


def finish(thread_id: str, run_id: str, attempt: int = 1, **outcome: Any) -> ReportRun:
    return ReportRun(
        thread_id=thread_id, run_id=run_id, attempt=attempt, outcome={"status": "success", "frames": 0, **outcome}
    )


def create_thread(thread_id: str | None = None, **names: Any) -> CreateThread:
    return CreateThread(thread_id=thread_id or new_id(), **names)
