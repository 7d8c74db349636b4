"""Whether work can be done: the database, the log as it is written, the engine, and an executor's lease.

To be alive is not enough: with a full disk, a topic that is gone, or an engine that gets nowhere, reads go well and
nothing that is asked for happens. So this looks at the path that writes take.
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
"""How long a finding is told again: probes come from many sides, and each writes a record."""

STEP_SECONDS = 5.0
"""How long a part may take to answer."""

UNDECIDED_SECONDS = 10.0
"""How old a command may be that no engine has decided: the api gives up on it after that time."""

_KEY = "health"

Services = dict[str, str | None]
"""By the name of a part what is wrong with it, None if nothing is."""


class WritePath:
    """Looks when asked, at most once in `FRESH_SECONDS`, however many ask."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        log: Log,
        *,
        trouble: Callable[[], str | None] | None = None,
        executor_id: str | None = None,
    ) -> None:
        """`trouble`: what the engine of this process fails at; `executor_id`: this process executes under this name."""
        self._pool, self._log = pool, log
        self._trouble = trouble
        self._executor_id = executor_id
        self._turn = 0
        self._looking: asyncio.Task[Services] | None = None
        self._found: tuple[float, Services] | None = None

    async def check(self) -> Services:
        """Never raises for what it finds."""
        if self._found is not None and time.monotonic() - self._found[0] < FRESH_SECONDS:
            return self._found[1]
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="health")
        return await asyncio.shield(self._looking)

    async def _look(self) -> Services:
        try:
            parts: dict[str, Callable[[], Awaitable[str | None]]] = {
                "postgres": self._postgres, "log": self._writable, "engine": self._engine,
            }  # fmt: skip
            if self._executor_id is not None:
                parts["executor"] = self._executor
            problems = await asyncio.gather(*(_problem(look) for look in parts.values()))
            found = dict(zip(parts, problems, strict=True))
            self._found = time.monotonic(), found
            return found
        finally:
            self._looking = None

    async def _postgres(self) -> str | None:
        await system.ping(self._pool)
        return None

    async def _writable(self) -> str | None:
        """Each topic is there, and takes a record: one for nobody, into another partition each time."""
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
        if (oldest := max(ages, default=0.0)) > UNDECIDED_SECONDS:
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


async def _problem(look: Callable[[], Awaitable[str | None]]) -> str | None:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return await look()
    except TimeoutError:
        return f"no answer in {STEP_SECONDS:g} s"
    except Exception as error:
        logger.debug("a part is not well", exc_info=True)
        return f"{type(error).__name__}: {error}"
