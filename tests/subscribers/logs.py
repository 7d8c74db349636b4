"""Logs with what may be in them: records that count, and others."""

from __future__ import annotations

from typing import Any

from threadlog.engine.log.port import Append, Log, Topic
from threadlog.engine.log.records import EventRecord

AT = "2026-11-21T10:00:00.000000+00:00"


def start(epoch: int) -> bytes:
    return EventRecord(epoch=epoch, cmd_off=-1, cmd_id="", key="", at=AT, start=True).encode()


def decided(
    epoch: int, cmd_off: int, after: int | None, *events: dict[str, Any], at: str = AT, actor: str | None = None
) -> bytes:
    """A record; without events of its own it has one that tells its offset."""
    told = list(events) or [{"type": "thread.updated", "n": cmd_off}]
    return EventRecord(
        epoch=epoch, cmd_off=cmd_off, cmd_id=f"c{cmd_off}", key="thread", at=at, events=told, after=after, actor=actor
    ).encode()


# Of each the numbers that count are those of `ACCEPTED`.
MIXED = [
    start(1),
    decided(1, 0, -1),
    b"no record",
    decided(1, 1, 0),
    decided(1, 1, 0),  # a duplicate
    start(2),
    decided(1, 2, 1),  # of an engine that was fenced
    decided(2, 2, 1, {"type": "thread.updated", "n": 2, "large": "x" * 1_200_000}),
    decided(2, 9, 8),  # decided after a record that was lost
    start(3),
    decided(3, 3, 2),
]
ACCEPTED = [0, 1, 2, 3]


async def append(log: Log, partition: int, *values: bytes) -> None:
    for value in values:
        await log.append([Append(Topic.EVENTS, partition, "thread", value)])
