"""Health check of the write path: the database, appends to the log, the engine, and an executor's lease.

A process that is alive and can read may still do no work: the disk is full, a topic is missing, the engine is stuck. So
this checks what a write needs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import asyncpg

from threadlog.engine.log.port import Append, Log, OffsetGone, Topic
from threadlog.engine.log.records import Frames
from threadlog.projections.queries import system

logger = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""Seconds for which a result is returned again: probes come from many sides, and each check appends a record."""

STEP_SECONDS = 5.0
"""Seconds that the check of one part may take."""

UNDECIDED_SECONDS = 10.0
"""Age in seconds above which an undecided command is a problem: the api waits as long (`gateway.DEADLINE_SECONDS`)."""

_KEY = "health"

Services = dict[str, str | None]
"""By the name of a part its problem, None if there is none."""


class WritePath:
    """Checks on demand, at most once in `fresh_seconds` however many callers there are."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        log: Log,
        *,
        trouble: Callable[[], str | None] | None = None,
        executor_id: str | None = None,
        fresh_seconds: float = FRESH_SECONDS,
        step_seconds: float = STEP_SECONDS,
        undecided_seconds: float = UNDECIDED_SECONDS,
    ) -> None:
        """`trouble`: what the engine of this process fails at; `executor_id`: this process executes under this name."""
        self._fresh_seconds, self._step_seconds = fresh_seconds, step_seconds
        self._undecided_seconds = undecided_seconds
        self._pool, self._log = pool, log
        self._trouble = trouble
        self._executor_id = executor_id
        self._turn = 0
        self._check_task: asyncio.Task[Services] | None = None
        self._result: tuple[float, Services] | None = None

    async def check(self) -> Services:
        """Returns the problem of each part; a part that can't be checked is one, no exception."""
        if self._result is not None and time.monotonic() - self._result[0] < self._fresh_seconds:
            return self._result[1]
        if self._check_task is None:
            self._check_task = asyncio.create_task(self._check_parts(), name="health")
        return await asyncio.shield(self._check_task)

    async def _check_parts(self) -> Services:
        try:
            parts: dict[str, Callable[[], Awaitable[str | None]]] = {
                "postgres": self._postgres, "log": self._writable, "engine": self._engine,
            }  # fmt: skip
            if self._executor_id is not None:
                parts["executor"] = self._executor
            problems = await asyncio.gather(*(_problem(check, self._step_seconds) for check in parts.values()))
            result = dict(zip(parts, problems, strict=True))
            self._result = time.monotonic(), result
            return result
        finally:
            self._check_task = None

    async def _postgres(self) -> str | None:
        await system.ping(self._pool)
        return None

    async def _writable(self) -> str | None:
        """Each topic exists, and `stream` takes a record: one that no client reads, in another partition each time."""
        partition, self._turn = self._turn % self._log.partitions, self._turn + 1
        await asyncio.gather(*(self._log.bounds(topic, partition) for topic in Topic))
        frames = Frames(run_id="", thread_id="", attempt=0, seq=0, frames=())
        await self._log.append([Append(Topic.STREAM, partition, _KEY, frames.encode())])
        return None

    async def _engine(self) -> str | None:
        if self._trouble is not None and (trouble := self._trouble()) is not None:
            return trouble
        positions = await system.positions(self._pool)
        if orphans := sum(not position.owned for position in positions):
            return f"{orphans} of {len(positions)} partitions have no engine"
        ages = await asyncio.gather(*(self._undecided(p.partition, p.decided) for p in positions))
        if (oldest := max(ages, default=0.0)) > self._undecided_seconds:
            return f"a command waits for its decision since {oldest:.0f} s"
        return None

    async def _undecided(self, partition: int, decided: int) -> float:
        """Seconds since the oldest command of the partition was appended that is not decided; 0 if all are."""
        first, end = await self._log.bounds(Topic.COMMANDS, partition)
        if end <= decided + 1:
            return 0.0
        try:
            records = await self._log.read(
                Topic.COMMANDS, partition, max(first, decided + 1), end=end, max_bytes=1
            )  # fmt: skip
        except OffsetGone:
            return 0.0  # decided long ago, and trimmed while we looked
        return time.time() - records[0].timestamp_ms / 1000 if records else 0.0

    async def _executor(self) -> str | None:
        if await system.executor_lives(self._pool, str(self._executor_id)):
            return None
        return "its lease has ended, or it has not registered yet"


async def _problem(check: Callable[[], Awaitable[str | None]], seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            return await check()
    except TimeoutError:
        return f"no answer in {seconds:g} s"
    except Exception as error:
        logger.debug("a part is not well", exc_info=True)
        return f"{type(error).__name__}: {error}"
