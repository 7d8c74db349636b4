"""The surroundings of a checkpointer: an engine that decides and projects at once, and runs with their savers."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg

from tests.inline_engine import InlineEngine
from threadlog.engine.domain.commands import CreateRun, ReportRun
from threadlog.engine.executor.checkpointer.saver import ThreadlogSaver
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.records import partition_of


class CheckpointerHarness(InlineEngine):
    """A gateway that makes runs."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool, MemoryLog(4))

    async def run(self, thread_id: str, *, sync: bool = False, fresh: bool | None = None) -> Run:
        """A run that an executor has claimed."""
        run_id = str(uuid.uuid4())
        decided = await self.submit(
            CreateRun(
                thread_id=thread_id,
                run_id=run_id,
                graph_id="g",
                run={"assistant_id": str(uuid.uuid4()), "metadata": {}, "kwargs": {}},
                create_thread={},
            ),
        )
        scheduled = next(event for event in decided.events if event["type"] == "run.scheduled")
        return Run(self, thread_id, run_id, scheduled.get("fresh", False) if fresh is None else fresh, sync)


class Run:
    """One attempt: its reporter and its checkpointer."""

    def __init__(self, harness: CheckpointerHarness, thread_id: str, run_id: str, fresh: bool, sync: bool) -> None:
        self.harness, self.thread_id, self.run_id, self.fresh = harness, thread_id, run_id, fresh
        self.items: list[dict[str, Any]] = []
        self.reported: list[dict[str, Any]] = []
        self.saver = ThreadlogSaver(
            pool=harness.pool,
            log=harness.log,
            reporter=self,
            thread_id=thread_id,
            run_id=run_id,
            partition=partition_of(thread_id, harness.log.partitions),
            fresh=fresh,
            sync=sync,
        )

    def add(self, item: dict[str, Any]) -> None:
        self.items.append(item)
        self.reported.append(item)

    async def flush(self) -> None:
        if self.items:
            await self._report(None)

    async def applied(self) -> None:
        await self.flush()

    async def end(self, status: str = "success") -> list[dict[str, Any]]:
        return await self._report({
            "status": status, "next": self.saver.next(), "interrupts": self.saver.interrupts(),
            "checkpoint_id": self.saver.head, "frames": 0,
        })  # fmt: skip

    async def _report(self, outcome: dict[str, Any] | None) -> list[dict[str, Any]]:
        items, self.items = self.items, []
        decided = await self.harness.submit(
            ReportRun(thread_id=self.thread_id, run_id=self.run_id, attempt=1, items=items, outcome=outcome),
        )
        return decided.events
