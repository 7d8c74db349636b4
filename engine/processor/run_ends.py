"""Marks of ends: a record of `stream` where a run ended whose place among the frames no event tells.

Events and frames are two topics. A run that gets to its end says how many frames come before it, and the last of them
are its last doing. A run that was cancelled, or whose executor was lost, ended at any time after what it emitted: its
place is that of a mark, where every reader sees its end, now or later (`api.events`). A crash between the event and its
mark leaves a run without one; a second one means nothing. A mark names the run that is in flight after this end: the
end of that one comes later, also if all its frames come before the mark.
"""

from __future__ import annotations

from typing import Any

import orjson

from threadlog.engine.domain.decider import States
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import END, EventRecord, Frames

_AT_ITS_END = frozenset(("run.succeeded", "run.failed", "run.timed_out"))


def has_mark(event: dict[str, Any]) -> bool:
    """Whether the event is an end of a run that a mark follows."""
    kind = event["type"]
    if kind in _AT_ITS_END:
        return not event.get("frames")
    return kind == "run.stopped" or (kind == "run.interrupted" and not event.get("stopping"))


def end_marks(record: EventRecord, partition: int, after: States) -> list[Append]:
    """The marks that go with an event record; as nearly always none, nor of runs that ended in another installation.
    `after`: what its key holds then."""
    marked = [] if record.imported else [event for event in record.events if has_mark(event)]
    if not marked:
        return []
    thread = after.get("thread")
    slot = None if thread is None else thread.run_in_slot
    in_flight = orjson.dumps(None if slot is None else slot.run_id)
    return [
        Append(
            Topic.STREAM,
            partition,
            record.key,
            Frames(event["run_id"], record.key, 0, 0, [(END, in_flight)]).encode(),
        )
        for event in marked
    ]


def in_flight_after(mark: Frames) -> str | None:
    """The run that a mark names; None also where that is not known."""
    try:
        run_id = orjson.loads(mark.frames[0][1])
    except ValueError:
        return None
    return run_id if isinstance(run_id, str) else None
