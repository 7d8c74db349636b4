"""The surroundings of an executor: an engine that decides and projects when the test says so.

Until then reports wait in the log, so that a test can look at what an executor does while the engine is behind.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from tests.inline_engine import InlineEngine
from tests.waiting import eventually
from threadlog.engine.domain.commands import (
    CancelAction,
    CancelRun,
    CreateRun,
    CreateThread,
    ExpireLease,
    ReportRun,
    UpdateState,
)
from threadlog.engine.domain.events import RunScheduled
from threadlog.engine.domain.wire import command_from_wire
from threadlog.engine.executor.graphs.loader import Graphs, load_graphs
from threadlog.engine.executor.options import ExecutorOptions
from threadlog.engine.executor.worker import Executor
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Topic
from threadlog.engine.log.records import CommandEnvelope, Frames
from threadlog.engine.user_code.langgraph_json import load

PROJECT = Path(__file__).parent / "project"


def _module_of(name: str) -> str:
    """The file of the tests' project that has an object of this name; else one that lacks it."""
    defines = re.compile(rf"^(?:class |(?:async )?def )?{re.escape(name)}\b", re.MULTILINE)
    return next((file.name for file in PROJECT.glob("*.py") if defines.search(file.read_text())), "graphs.py")


class ExecutorHarness:
    """A log, a database and a queue. `graphs`: name → object in the tests' project."""

    def __init__(self, database: str, folder: Path, log: Any, pool: asyncpg.Pool, connection: Any) -> None:
        self.database, self.folder, self.log, self.connection = database, folder, log, connection
        self.engine = InlineEngine(pool, log)
        self._decided: dict[int, int] = {}

    @staticmethod
    @asynccontextmanager
    async def open(database: str, folder: Path, log: Any | None = None) -> AsyncIterator[ExecutorHarness]:
        async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool, pool.acquire() as connection:
            yield ExecutorHarness(database, folder, log or MemoryLog(4), pool, connection)

    def config(self, **graphs: str) -> Path:
        for source in PROJECT.glob("*.py"):
            target = self.folder / source.name
            if not target.exists():
                target.write_text(source.read_text())
        file = self.folder / "langgraph.json"
        paths = {name: path if ":" in path else f"./{_module_of(path)}:{path}" for name, path in graphs.items()}
        file.write_text(json.dumps({"dependencies": ["."], "graphs": paths}))
        return file

    def graphs(self, *names: str) -> Graphs:
        return load_graphs(load(self.config(**{name: name for name in names})))

    def executor(self, *names: str, **more: Any) -> Executor:
        return Executor(ExecutorOptions(database_uri=self.database, **more), self.log, self.graphs(*names))

    # --- what the engine does ---------------------------------------------------------------------------

    async def enqueue(
        self,
        graph: str,
        input: Any = None,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> str:
        """Create a run on a thread that has none in flight; returns its id."""
        run_id, thread_id = run_id or str(uuid.uuid4()), thread_id or str(uuid.uuid4())
        arguments = {"input": input, "stream_mode": ["values"], **kwargs}
        run = {"assistant_id": str(uuid.uuid4()), "metadata": metadata or {}, "kwargs": arguments}
        command = CreateRun(thread_id=thread_id, run_id=run_id, graph_id=graph, run=run, create_thread={})
        decided = await self.engine.submit(command)
        assert "run.scheduled" in [event["type"] for event in decided.events], decided.events
        return run_id

    async def schedule(self, run_id: str, attempt: int) -> None:
        """Schedule this attempt of a run, whatever became of those before it."""
        thread_id = await self.thread_of(run_id)
        await self.engine.happen(thread_id, RunScheduled(thread_id=thread_id, run_id=run_id, attempt=attempt))

    async def expire(self, run_id: str, attempt: int = 1) -> None:
        """The lease of this attempt has run out; the next one is scheduled."""
        await self.project()
        thread_id = await self.thread_of(run_id)
        await self.engine.submit(ExpireLease(thread_id=thread_id, run_id=run_id, attempt=attempt, executor="gone"))

    async def enqueue_update(self, graph: str, thread_id: str, **payload: Any) -> str:
        """Create the job of a state update; returns its id. A thread that does not exist is created."""
        job_id = str(uuid.uuid4())
        await self.engine.submit(CreateThread(thread_id=thread_id, if_exists="do_nothing"))
        decided = await self.engine.submit(UpdateState(thread_id=thread_id, job_id=job_id, graph_id=graph, **payload))
        assert "run.scheduled" in [event["type"] for event in decided.events], decided.events
        return job_id

    async def cancel(self, run_id: str, action: CancelAction = "interrupt") -> None:
        await self.engine.submit(CancelRun(thread_id=await self.thread_of(run_id), run_id=run_id, action=action))

    async def thread_of(self, run_id: str) -> str:
        return str(await self.connection.fetchval("SELECT thread_id FROM runs WHERE run_id = $1", run_id))

    async def rows(self) -> list[asyncpg.Record]:
        return await self.connection.fetch("SELECT * FROM run_queue")

    async def project(self) -> None:
        """Decide every report in the log that was not decided yet, and project what follows."""
        for p in range(self.log.partitions):
            for record in await self.log.read(Topic.COMMANDS, p, self._decided.get(p, 0), max_bytes=1 << 30):
                self._decided[p] = record.offset + 1
                envelope = CommandEnvelope.decode(record.value)
                if envelope.type == ReportRun.type:
                    command = command_from_wire(envelope.type, envelope.body)
                    await self.engine.submit(command, id=envelope.id)
                await self.connection.execute("UPDATE partitions SET cmd_off = $2 WHERE p = $1", p, record.offset)

    # --- what is in the log -------------------------------------------------------------------------------

    async def commands(self, type_: str | None = None) -> list[CommandEnvelope]:
        """All commands, each id once, as the processor takes them."""
        found: dict[str, CommandEnvelope] = {}
        for p in range(self.log.partitions):
            for record in await self.log.read(Topic.COMMANDS, p, 0, max_bytes=1 << 30):
                envelope = CommandEnvelope.decode(record.value)
                if type_ in (None, envelope.type):
                    found.setdefault(envelope.id, envelope)
        return list(found.values())

    async def reports(self, run_id: str, attempt: int = 1) -> list[dict[str, Any]]:
        return [
            c.body
            for c in await self.commands("run.report")
            if c.body["run_id"] == run_id and c.body["attempt"] == attempt
        ]

    async def items(self, run_id: str, attempt: int = 1) -> list[dict[str, Any]]:
        return [item for report in await self.reports(run_id, attempt) for item in report.get("items", [])]

    async def outcome(self, run_id: str, attempt: int = 1) -> dict[str, Any]:
        """The outcome of an attempt, once it is reported; the read models are then up to date."""

        async def reported() -> Any:
            return [r["outcome"] for r in await self.reports(run_id, attempt) if r.get("outcome")]

        outcomes = await eventually(reported)
        assert len(outcomes) == 1
        await self.project()
        assert len(await self.frames(run_id, attempt)) == outcomes[0]["frames"]
        return outcomes[0]  # type: ignore[no-any-return]

    async def frames(self, run_id: str, attempt: int = 1) -> list[tuple[str, Any]]:
        """The frames of an attempt, as a reader takes them: in order, each once."""
        taken: list[tuple[str, Any]] = []
        for p in range(self.log.partitions):
            for record in await self.log.read(Topic.STREAM, p, 0, max_bytes=1 << 30):
                batch = Frames.decode(record.value)
                if batch.run_id != run_id or batch.attempt != attempt:
                    continue
                for number, (name, data) in enumerate(batch.frames, batch.seq):
                    if number == len(taken):
                        taken.append((name.decode(), orjson.loads(data)))
        return taken
