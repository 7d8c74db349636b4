"""The channel of accepted events: a Faust topic whose streams have the records that count, and nothing else."""

from __future__ import annotations

from typing import Any, Protocol

from faust import Topic as FaustTopic
from faust.exceptions import Skip
from faust.types import EventT, Message

from threadlog.engine.log.kafka.chunks import chunk_of
from threadlog.engine.log.port import Log, OffsetGone, Topic
from threadlog.projections.subscribers.accepted import AcceptedEvents, AcceptedRecord, EventPosition
from threadlog.projections.subscribers.stream import DROPPED

LEAD_IN = 500
"""Offsets that are read before the one an app begins at, to know what the acceptance rule remembers there."""


class _HasLog(Protocol):
    @property
    def log_of_events(self) -> Log: ...


class AcceptedInOrder:
    """The acceptance rule for all agents of an app: what they are handed, and what is handed to them anew."""

    def __init__(self, app: _HasLog) -> None:
        self._app = app
        self._rules: dict[int, AcceptedEvents] = {}
        self._last: dict[int, tuple[int, AcceptedRecord | None]] = {}

    async def accepted(self, message: Message) -> AcceptedRecord | None:
        """The record of a message of `events`, None if it does not count. For several agents the same."""
        partition, offset = message.partition, message.offset
        last = self._last.get(partition)
        if last is not None and last[0] == offset:
            return last[1]
        value = message.value
        chunk = chunk_of(_pairs(message.headers))
        if chunk is not None:
            if chunk.index + 1 < chunk.count or chunk.first is None:
                return None
            # Chunks before the last one may have been acknowledged in an earlier life.
            value = await self._whole(partition, chunk.first, offset)
        rule = self._rules.get(partition)
        if rule is None or last is None or offset < last[0]:
            rule = self._rules[partition] = await self._led_in(partition, offset)
        record = None if value is None else rule.read(partition, offset, value)
        self._last[partition] = (offset, record)
        return record

    async def _whole(self, partition: int, first: int, offset: int) -> bytes | None:
        try:
            records = await self._app.log_of_events.read(Topic.EVENTS, partition, first, end=offset + 1)
        except OffsetGone:
            return None
        while records and records[-1].offset < offset:
            records = await self._app.log_of_events.read(
                Topic.EVENTS, partition, records[-1].offset + 1, end=offset + 1
            )
        return records[-1].value if records else None

    async def _led_in(self, partition: int, offset: int) -> AcceptedEvents:
        """The rule as it is at this offset."""
        log = self._app.log_of_events
        start = max(0, offset - LEAD_IN, (await log.bounds(Topic.EVENTS, partition))[0])
        at = EventPosition() if start == 0 else EventPosition(start, cmd_off=None)
        rule = AcceptedEvents({partition: at})
        while start < offset and (records := await log.read(Topic.EVENTS, partition, start, end=offset)):
            for record in records:
                rule.read(partition, record.offset, record.value)
            start = records[-1].offset + 1
        return rule


class EventsTopic(FaustTopic):  # type: ignore[misc]
    """`events`, as `AcceptedRecord`s; its streams skip what does not count (`SubscriberApp.stream`)."""

    def _compile_decode(self) -> None:
        self.decode = self._accepted  # Faust sets it on the instance

    async def _accepted(self, message: Message, *, propagate: bool = False) -> EventT:
        record = await self.app.accepted_events.accepted(message)
        return self._create_event(message.key, DROPPED if record is None else record, message.headers, message=message)


def skip_dropped(value: Any) -> Any:
    """The processor of streams over an `EventsTopic`."""
    if value is DROPPED:
        raise Skip()
    return value


def _pairs(headers: Any) -> list[tuple[str, bytes | None]]:
    return list(headers.items()) if isinstance(headers, dict) else list(headers or ())
