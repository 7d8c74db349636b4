"""Follows the `events` of all partitions in a process that owns none, and tells what is projected."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.port import Log, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.engine.log.unreadable import read_event
from threadlog.engine.processor.ports import EventListener

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Applied:
    """How far the read models are in one partition: what a reader of `events` that starts there has to know."""

    ev_off: int
    cmd_off: int
    log_epoch: int


class AppliedSource(Protocol):
    """Where the read models tell how far they are."""

    async def positions(self) -> Mapping[int, Applied]:
        """Now, of every partition. Raises `LogUnavailable`."""
        ...

    def follow(self) -> AsyncIterator[Mapping[int, int]]:
        """Offsets that have been projected, per partition, as they move; for ever, through outages."""
        ...


class EventTail:
    """Tells accepted records of `events` in order, from where the read models are at the start, each once projected."""

    def __init__(self, source: Log, applied: AppliedSource) -> None:
        self._log, self._applied = source, applied
        self._listeners: list[EventListener] = []
        self._upto: dict[int, int] = {}
        self._acceptance: dict[int, Acceptance] = {}
        self._held: dict[int, deque[tuple[int, EventRecord]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def add_listener(self, listener: EventListener) -> None:
        """Tell it every projected record from now on; it must not block."""
        self._listeners.append(listener)

    def remove_listener(self, listener: EventListener) -> None:
        self._listeners.remove(listener)

    async def start(self) -> None:
        """Begin at what is projected now. Raises `LogUnavailable` when the database can't be asked."""
        for p, at in (await self._applied.positions()).items():
            self._upto[p] = at.ev_off
            self._acceptance[p] = Acceptance(at.log_epoch, at.cmd_off)
            self._held[p] = deque()
        self._tasks = [asyncio.create_task(self._follow_log()), asyncio.create_task(self._follow_applied())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _follow_log(self) -> None:
        next_ = {p: upto + 1 for p, upto in self._upto.items()}
        while True:
            tail = self._log.tail({(Topic.EVENTS, p): offset for p, offset in next_.items()})
            try:
                async for records in tail:
                    for raw in records:
                        record = await read_event(raw)
                        next_[raw.partition] = raw.offset + 1
                        if self._acceptance[raw.partition].accepts(record):
                            self._held[raw.partition].append((raw.offset, record))
                    for p in {raw.partition for raw in records}:
                        self._tell(p)
            except Exception:
                log.exception("following events failed and begins anew")
            finally:
                await tail.aclose()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_applied(self) -> None:
        while True:
            try:
                async for moved in self._applied.follow():
                    for p, upto in moved.items():
                        if upto > self._upto.get(p, upto):
                            self._upto[p] = upto
                            self._tell(p)
            except Exception:
                log.exception("following the read models failed and begins anew")
            await asyncio.sleep(RETRY_SECONDS)

    def _tell(self, p: int) -> None:
        held, upto = self._held[p], self._upto[p]
        while held and held[0][0] <= upto:
            offset, record = held.popleft()
            for listener in self._listeners:
                try:
                    listener.projected(p, offset, record)
                except Exception:
                    place = {"partition": p, "offset": offset}
                    log.exception("a listener failed at events[%d] offset %d", p, offset, extra=place)
