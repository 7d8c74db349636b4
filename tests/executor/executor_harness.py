"""The surroundings of an executor: queue rows and projected reports as the engine makes them, in the fewest words.

The engine itself is not needed to see what an executor does: it decides whether a report counts, which is tested
elsewhere, and it writes the rows an executor reads, which is what this does.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64decode
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from tests.waiting import eventually
from threadlog.engine.domain.text import text_to_data
from threadlog.engine.executor.graphs.loader import Graphs, load_graphs
from threadlog.engine.executor.options import ExecutorOptions
from threadlog.engine.executor.worker import Executor
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Topic
from threadlog.engine.log.records import CommandEnvelope, Frames, partition_of
from threadlog.engine.user_code.langgraph_json import load

PROJECT = Path(__file__).parent / "project"


class ExecutorHarness:
    """A log, a database and a queue. `graphs`: name → object in the tests' project."""

    def __init__(self, database: str, folder: Path, log: Any, connection: asyncpg.Connection) -> None:
        self.database, self.folder, self.log, self.connection = database, folder, log, connection
        self._projected: dict[int, int] = {}

    @staticmethod
    async def open(database: str, folder: Path, log: Any | None = None) -> ExecutorHarness:
        return ExecutorHarness(database, folder, log or MemoryLog(4), await asyncpg.connect(database))

    def config(self, **graphs: str) -> Path:
        for source in PROJECT.glob("*.py"):
            target = self.folder / source.name
            if not target.exists():
                target.write_text(source.read_text())
        file = self.folder / "langgraph.json"
        paths = {name: path if ":" in path else f"./graphs.py:{path}" for name, path in graphs.items()}
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
        attempt: int = 1,
        fresh: bool | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> str:
        """A scheduled attempt; returns the run's id."""
        run_id, new = run_id or str(uuid.uuid4()), thread_id is None
        thread_id = thread_id or str(uuid.uuid4())
        arguments = {"input": input, "stream_mode": ["values"], **kwargs}
        await self.connection.execute(
            "INSERT INTO runs (run_id, thread_id, assistant_id, graph_id, created_at, updated_at, status, metadata,"
            " kwargs, multitask_strategy) VALUES ($1, $2, $3, $4, now(), now(), 'pending', $5, $6, 'enqueue')"
            " ON CONFLICT DO NOTHING",
            run_id, thread_id, str(uuid.uuid4()), graph, json.dumps(metadata or {}), json.dumps(arguments),
        )  # fmt: skip
        await self._queue(run_id, thread_id, "run", graph, attempt, new if fresh is None else fresh, None)
        return run_id

    async def enqueue_update(self, graph: str, thread_id: str, fresh: bool = False, **payload: Any) -> str:
        job_id = str(uuid.uuid4())
        await self._queue(job_id, thread_id, "state_update", graph, 1, fresh, payload)
        return job_id

    async def _queue(
        self, run_id: str, thread_id: str, kind: str, graph: str, attempt: int, fresh: bool, payload: Any
    ) -> None:
        await self.connection.execute(
            "INSERT INTO run_queue (run_id, thread_id, p, kind, graph_id, attempt, scheduled_at, fresh, payload)"
            " VALUES ($1, $2, $3, $4, $5, $6, now(), $7, $8)",
            run_id, thread_id, partition_of(thread_id, self.log.partitions), kind, graph, attempt, fresh,
            json.dumps(payload) if payload is not None else None,
        )  # fmt: skip
        await self.connection.execute("SELECT pg_notify('threadlog_queue', 'run')")

    async def cancel(self, run_id: str, action: str = "interrupt") -> None:
        await self.connection.execute("UPDATE run_queue SET cancel = $2 WHERE run_id = $1", run_id, action)
        await self.connection.execute("SELECT pg_notify('threadlog_queue', $1)", f"cancel:{run_id}")

    async def thread_of(self, run_id: str) -> str:
        return str(await self.connection.fetchval("SELECT thread_id FROM runs WHERE run_id = $1", run_id))

    async def rows(self) -> list[asyncpg.Record]:
        return await self.connection.fetch("SELECT * FROM run_queue")

    async def project(self) -> None:
        """Carry out every report in the log: checkpoints, writes, values, and the end of queue rows."""
        for p in range(self.log.partitions):
            for record in await self.log.read(Topic.COMMANDS, p, self._projected.get(p, 0), max_bytes=1 << 30):
                self._projected[p] = record.offset + 1
                envelope = CommandEnvelope.decode(record.value)
                async with self.connection.transaction():
                    if envelope.type == "run.report":
                        await self._report(envelope.body)
                    await self.connection.execute("UPDATE partitions SET cmd_off = $2 WHERE p = $1", p, record.offset)

    async def _report(self, body: dict[str, Any]) -> None:
        thread, run = body["thread_id"], body["run_id"]
        if body.get("outcome"):
            await self.connection.execute(
                "DELETE FROM run_queue WHERE run_id = $1 AND attempt = $2", run, body["attempt"]
            )
        for item in body.get("items", []):
            for blob in item.get("blobs", []):
                await self.connection.execute(
                    "INSERT INTO channel_values VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                    thread, blob["h"], blob["t"],
                    text_to_data(blob["d"]) if "d" in blob else b64decode(blob["b"]),
                )  # fmt: skip
            match item["kind"]:
                case "checkpoint":
                    await self.connection.execute(
                        "INSERT INTO checkpoints (thread_id, ns, checkpoint_id, parent_id, run_id, created_at,"
                        " metadata, checkpoint, channels) VALUES ($1, $2, $3, $4, $5, now(), $6, $7, $8)"
                        " ON CONFLICT DO NOTHING",
                        thread, item["ns"], item["checkpoint_id"], item.get("parent_id"), run,
                        json.dumps(item["metadata"]), json.dumps(item["checkpoint"]), json.dumps(item["channels"]),
                    )  # fmt: skip
                case "writes":
                    for idx, channel, reference in item["writes"]:
                        await self.connection.execute(
                            "INSERT INTO checkpoint_writes (thread_id, ns, checkpoint_id, task_id, idx, task_path,"
                            " channel, value, run_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
                            " ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE SET"
                            " value = excluded.value, run_id = excluded.run_id WHERE excluded.idx < 0",
                            thread, item["ns"], item["checkpoint_id"], item["task_id"], idx, item.get("task_path", ""),
                            channel, json.dumps(reference), run,
                        )  # fmt: skip
                case "tasks":
                    await self.connection.execute(
                        "UPDATE checkpoints SET tasks = $4, out = $5 WHERE thread_id = $1 AND ns = $2"
                        " AND checkpoint_id = $3",
                        thread, item["ns"], item["checkpoint_id"], json.dumps(item["tasks"]), json.dumps(item["out"]),
                    )  # fmt: skip

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
