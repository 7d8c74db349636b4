"""Who is told of projected events, how far they have been told, and how they are told what they missed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.port import Log, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.engine.log.unreadable import read_event
from threadlog.engine.processor.ports import Batch, EventListener, Position

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Told:
    offset: int
    acceptance: Acceptance


class Listeners:
    """Each is told every record of a partition once and in order, from where the partition was first held."""

    def __init__(self, source: Log) -> None:
        self._log = source
        self._listeners: list[EventListener] = []
        self._told: dict[int, _Told] = {}

    def add(self, listener: EventListener) -> None:
        self._listeners.append(listener)

    def remove(self, listener: EventListener) -> None:
        self._listeners.remove(listener)

    def projected(self, batch: Batch) -> None:
        """Tell what this process has projected."""
        self._told[batch.partition] = _Told(batch.ev_off, Acceptance(batch.log_epoch, batch.cmd_off))
        if self._listeners:
            for accepted in batch.records:
                self._tell(batch.partition, accepted.offset, accepted.record)

    async def catch_up(self, positions: Sequence[Position]) -> None:
        """Tell what was projected up to here otherwise: by a commit whose answer was lost, or by other processes.

        Raises `LogUnavailable`; calling it again goes on where it stopped.
        """
        for position in positions:
            p = position.partition
            told = self._told.get(p)
            if told is not None and self._listeners:
                while told.offset < position.ev_off:
                    records = await self._log.read(Topic.EVENTS, p, told.offset + 1, end=position.ev_off + 1)
                    if not records:
                        break
                    for raw in records:
                        record = await read_event(raw)
                        told.offset = raw.offset
                        if told.acceptance.accepts(record):
                            self._tell(p, raw.offset, record)
            self._told[p] = _Told(position.ev_off, Acceptance(position.log_epoch, position.cmd_off))

    def _tell(self, p: int, offset: int, record: EventRecord) -> None:
        for listener in self._listeners:
            try:
                listener.projected(p, offset, record)
            except Exception:
                place = {"partition": p, "offset": offset}
                log.exception("a listener failed at events[%d] offset %d", p, offset, extra=place)
