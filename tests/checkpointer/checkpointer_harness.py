"""The surroundings of a checkpointer: commands are decided, projected and answered in one go, without a log."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg

from threadlog.engine.compression.codec import pack_record
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import Command, CreateRun, ReportRun
from threadlog.engine.domain.wire import command_from_wire, event_to_wire, to_body
from threadlog.engine.executor.checkpointer.saver import ThreadlogSaver
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Topic
from threadlog.engine.log.records import CommandEnvelope, EventRecord, partition_of
from threadlog.engine.processor.ports import Accepted, Decided
from threadlog.engine.processor.term import envelope_of
from threadlog.projections.fold.project import project


class CheckpointerHarness:
    """A gateway. `at_rest`: what is stored, in bytes, by table."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.log = MemoryLog(4)
        self._states: dict[str, Mapping[str, Any]] = {}
        self._offsets = itertools.count()
        self._one_at_a_time = asyncio.Lock()
        self.event_bytes = 0

    async def submit(self, command: Command, *, id: str | None = None) -> Decided:
        async with self._one_at_a_time:
            return await self._decide(command, decider.key_of(command), id or str(uuid.uuid4()))

    async def _decide(self, command: Command, key: str, cmd_id: str) -> Decided:
        # Over the wire and back, as in life: what is not plain JSON does not get through.
        sent = CommandEnvelope(cmd_id, command.type, key, "", to_body(command)).encode()
        command = command_from_wire(command.type, envelope_of(sent, key).body)
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        before = self._states.get(key, decider.EMPTY)
        events = decider.decide(before, key, command, cmd_id=cmd_id, at=at)
        after = decider.fold(before, key, cmd_id, at, events)
        offset = next(self._offsets)
        wire = [event_to_wire(event) for event in events]
        record = EventRecord(epoch=1, cmd_off=offset, cmd_id=cmd_id, key=key, at=at, events=wire)
        encoded = record.encode()
        self.event_bytes += len(pack_record(encoded))  # as the Postgres log stores it
        partition = partition_of(key, self.log.partitions)
        async with self.pool.acquire() as conn, conn.transaction():
            accepted = Accepted(offset, EventRecord.decode(encoded), decider.dump(after))
            await project(conn, [(partition, [accepted])], self._read_value)
        self._states[key] = after
        return Decided(partition, offset, wire, at)

    async def _read_value(self, partition: int, offset: int) -> bytes:
        return (await self.log.read(Topic.VALUES, partition, offset, end=offset + 1))[0].value

    # --- runs ------------------------------------------------------------------------------------------

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

    def __init__(self, desk: CheckpointerHarness, thread_id: str, run_id: str, fresh: bool, sync: bool) -> None:
        self.desk, self.thread_id, self.run_id, self.fresh = desk, thread_id, run_id, fresh
        self.items: list[dict[str, Any]] = []
        self.reported: list[dict[str, Any]] = []
        self.saver = ThreadlogSaver(
            pool=desk.pool,
            log=desk.log,
            reporter=self,
            thread_id=thread_id,
            run_id=run_id,
            partition=partition_of(thread_id, desk.log.partitions),
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
        decided = await self.desk.submit(
            ReportRun(thread_id=self.thread_id, run_id=self.run_id, attempt=1, items=items, outcome=outcome),
        )
        return decided.events
