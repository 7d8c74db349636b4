"""Decoding of `events` and `stream`, the same for every reader: what is not a record of the topic counts for none.

Whoever may append to the log may have appended anything. What can't be decoded is treated like a record that the
acceptance rule drops, wherever it is read: the take-over, the tails, the rebuild, `threadlog events`, a client's
stream. The position moves past it.
"""

from __future__ import annotations

import logging
from typing import Final

from threadlog.engine.log.large import event_fields
from threadlog.engine.log.port import Record
from threadlog.engine.log.records import EventRecord, Frames
from threadlog.engine.offload.process import LARGE_BYTES

log = logging.getLogger(__name__)

_PLACES = 10_000
"""Places that are remembered, so that each is counted once, however often it is read."""
_LINES = 100
"""Lines that are logged about them: whoever writes into the log does not decide how much is logged."""


class UnreadableRecords:
    """The records of a topic that this process could not decode, by partition and offset."""

    def __init__(self, topic: str, what: str, *, places: int = _PLACES, lines: int = _LINES) -> None:
        """`what` each record of the topic should be. `places` are remembered at most, `lines` are logged."""
        self._topic, self._what, self._places, self._lines = topic, what, places, lines
        self.places: dict[tuple[int, int], str] = {}
        """The first ones, and why."""

    def add(self, partition: int, offset: int, why: str) -> None:
        if (partition, offset) in self.places or len(self.places) >= self._places:
            return
        self.places[partition, offset] = why
        if len(self.places) > self._lines:
            return
        log.error(
            "%s[%d] offset %d is not %s and counts for no reader: %s", self._topic, partition, offset, self._what, why,
            extra={"partition": partition, "offset": offset},
        )  # fmt: skip


UNREADABLE: Final = UnreadableRecords("events", "an event record")
UNREADABLE_FRAMES: Final = UnreadableRecords("stream", "a batch of frames")


def event_in(record: Record) -> EventRecord | None:
    """The event record in a record of `events`; None for bytes that are not one, which are logged and counted."""
    try:
        return EventRecord.decode(record.value)
    except ValueError as error:  # orjson's JSONDecodeError is one
        UNREADABLE.add(record.partition, record.offset, str(error))
        return None


async def read_event(record: Record) -> EventRecord | None:
    """`event_in`, for a loop that others wait for: what a client has sent stays JSON text in a large record."""
    if len(record.value) <= LARGE_BYTES:
        return event_in(record)
    try:
        return EventRecord.of(await event_fields(record.value))
    except ValueError as error:
        UNREADABLE.add(record.partition, record.offset, str(error))
        return None


def frames_in(record: Record) -> Frames | None:
    """The frames in a record of `stream`; None for bytes that are none, which are logged and counted."""
    try:
        return Frames.decode(record.value, record.timestamp_ms)
    except ValueError as error:
        UNREADABLE_FRAMES.add(record.partition, record.offset, str(error))
        return None


def reached_in(record: Record) -> tuple[str, tuple[int, int]] | None:
    """`(run_id, (attempt, number of the frame after its last))`, of the same records as `frames_in`."""
    try:
        return Frames.decode_reached(record.value)
    except ValueError as error:
        UNREADABLE_FRAMES.add(record.partition, record.offset, str(error))
        return None
