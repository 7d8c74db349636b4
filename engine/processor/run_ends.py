"""Marks of ends: a record of `stream` where a run ended whose place among the frames no event tells.

Events and frames are two topics. A run that gets to its end says how many frames come before it, and the last of them
are its last doing. A run that was cancelled, or whose executor was lost, ended at any time after what it emitted: its
place is that of a mark, where every reader sees its end, now or later (`api.events`). A crash between the event and its
mark leaves a run without one; a second one means nothing.
"""

from __future__ import annotations

from typing import Any

from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import END, EventRecord, Frames

_AT_ITS_END = frozenset(("run.succeeded", "run.failed", "run.timed_out"))


def has_mark(event: dict[str, Any]) -> bool:
    """Whether the event is an end of a run that a mark follows."""
    kind = event["type"]
    if kind in _AT_ITS_END:
        return not event.get("frames")
    return kind == "run.stopped" or (kind == "run.interrupted" and not event.get("stopping"))


def end_marks(record: EventRecord, partition: int) -> list[Append]:
    """The marks that go with an event record; as nearly always none."""
    return [
        Append(
            Topic.STREAM,
            partition,
            record.key,
            Frames(event["run_id"], record.key, 0, 0, [(END, b"null")]).encode(),
        )
        for event in record.events
        if has_mark(event)
    ]
