"""What became of a command of this executor: whether it is in the read models, and why it was refused."""

from __future__ import annotations

import asyncio
from typing import Any

from threadlog.engine.backoff import Backoff
from threadlog.engine.domain.decider import STORE
from threadlog.engine.executor.checkpointer.retrying_pool import RetryingPool
from threadlog.engine.link.client import ExecutorChannel
from threadlog.engine.log.port import Log, LogUnavailable, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.engine.log.unreadable import read_event
from threadlog.engine.processor.ports import Decided

_PAUSES_SECONDS = (0.001, 0.05)  # between two looks: doubled from the first to the second
_RECORDS_BACK = 64  # events that are read at first when it is not known where the command's is

_LOOK = f"""
SELECT p.cmd_off >= $2 AS applied, p.ev_off,
    (SELECT a.state::jsonb #> '{{{STORE.name},recent}}' ? $4 FROM aggregates a WHERE a.key = $3) AS remembered
FROM partitions p WHERE p.p = $1
"""


class Outcomes:
    """Learns it from the link where there is one, else from the read models, and from the log for a refusal."""

    def __init__(self, pool: RetryingPool, log: Log, link: ExecutorChannel | None) -> None:
        self._pool, self._log, self._link = pool, log, link

    async def applied(self, partition: int, offset: int) -> None:
        """Wait until the command at this offset of `commands` is in the read models."""
        if self._link is not None and self._link.has_applied(partition, offset):
            return
        pause, longest = _PAUSES_SECONDS
        while not await self._pool.fetchval("SELECT cmd_off >= $2 FROM partitions WHERE p = $1", partition, offset):
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    async def refusal_of_write(self, partition: int, offset: int, key: str, cmd_id: str) -> str | None:
        """As `applied`, of a write of the store; returns why the engine has refused it, None if it has not."""
        if self._link is not None and self._link.has_answered(partition, offset):
            return self._link.refusal(partition, offset)
        pause, longest = _PAUSES_SECONDS
        before: int | None = None
        while not (row := await self._pool.fetchrow(_LOOK, partition, offset, key, cmd_id))["applied"]:
            before = row["ev_off"]
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
        # A namespace remembers its last writes. One that it does not was refused, or others have followed meanwhile.
        if row["remembered"]:
            return None
        backoff = Backoff()
        while True:
            try:
                record = await self._event_of(partition, offset, before, row["ev_off"])
                break
            except LogUnavailable:
                await backoff.wait()
        rejection = None if record is None else Decided(partition, -1, record.events).rejection
        return None if rejection is None else rejection.detail

    async def _event_of(self, p: int, cmd_off: int, before: int | None, upto: int) -> EventRecord | None:
        """The event record of a command: behind the offset `before` in `events`, if that is known, and at `upto` at the
        latest. None if it is not in the log any more."""
        first, _ = await self._log.bounds(Topic.EVENTS, p)
        back = _RECORDS_BACK
        while True:
            start = max(first, upto + 1 - back if before is None else before + 1)
            found: EventRecord | None = None
            reached = False
            place = start
            while place <= upto:
                records = await self._log.read(Topic.EVENTS, p, place, end=upto + 1)
                if not records:
                    break
                place = records[-1].offset + 1
                for raw in records:
                    record: Any = await read_event(raw)
                    if record is None or record.start:
                        continue
                    reached = reached or record.cmd_off <= cmd_off
                    if record.cmd_off == cmd_off and (found is None or record.epoch >= found.epoch):
                        found = record
            if found is not None or reached or start == first or before is not None:
                return found
            back *= 16
