"""An engine without a processor: decides and projects commands at once, with the product's decider and projection."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from threadlog.engine.compression.codec import pack_record
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.events import Event
from threadlog.engine.domain.wire import command_from_wire, event_to_wire, to_body
from threadlog.engine.log.port import Log
from threadlog.engine.log.records import CommandEnvelope, EventRecord, partition_of
from threadlog.engine.processor.ports import Accepted, Decided
from threadlog.engine.processor.term import envelope_of
from threadlog.projections.fold.project import project
from threadlog.projections.rebuild.rebuild import reader_of_values


class InlineEngine:
    """A gateway. `event_bytes`: what its events would occupy in a log in Postgres."""

    def __init__(self, pool: asyncpg.Pool, log: Log) -> None:
        self.pool, self.log = pool, log
        self.event_bytes = 0
        self._states: dict[str, Mapping[str, Any]] = {}
        self._offsets = itertools.count()
        self._one_at_a_time = asyncio.Lock()
        self._read_value = reader_of_values(log)

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        """Decide a command and project what follows."""
        key, cmd_id = decider.key_of(command), id or str(uuid.uuid4())
        # Over the wire and back, as in life: what is not plain JSON does not get through.
        sent = CommandEnvelope(cmd_id, command.type, key, "", to_body(command)).encode()
        command = command_from_wire(command.type, envelope_of(sent, key).body)
        async with self._one_at_a_time:
            at = _now()
            events = decider.decide(self._state(key), key, command, cmd_id=cmd_id, at=at)
            return await self._accept(key, cmd_id, at, events)

    async def happen(self, key: str, *events: Event) -> None:
        """Project events that no command has led to here."""
        async with self._one_at_a_time:
            await self._accept(key, str(uuid.uuid4()), _now(), events)

    def _state(self, key: str) -> Mapping[str, Any]:
        return self._states.get(key, decider.EMPTY)

    async def _accept(self, key: str, cmd_id: str, at: str, events: Sequence[Event]) -> Decided:
        after = decider.fold(self._state(key), key, cmd_id, at, events)
        offset = next(self._offsets)
        wire = [event_to_wire(event) for event in events]
        encoded = EventRecord(epoch=1, cmd_off=offset, cmd_id=cmd_id, key=key, at=at, events=wire).encode()
        self.event_bytes += len(pack_record(encoded))
        partition = partition_of(key, self.log.partitions)
        async with self.pool.acquire() as conn, conn.transaction():
            accepted = Accepted(offset, EventRecord.decode(encoded), decider.dump(after))
            await project(conn, [(partition, [accepted])], self._read_value)
        self._states[key] = after
        return Decided(partition, offset, wire, at)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
