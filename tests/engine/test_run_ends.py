"""Which ends of runs are marked in `stream`."""

from __future__ import annotations

from typing import Any

import pytest

from threadlog.engine.domain.thread import Slot, Thread
from threadlog.engine.log.port import Topic
from threadlog.engine.log.records import END, EventRecord, Frames
from threadlog.engine.processor.run_ends import end_marks, in_flight_after


def record(*events: dict[str, Any]) -> EventRecord:
    return EventRecord(epoch=1, cmd_off=0, cmd_id="c", key="t", at="", events=list(events))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "run.interrupted", "stopping": False},
        {"type": "run.stopped", "attempt": 1, "frames": 7},
        {"type": "run.failed", "attempt": 3, "frames": 0},
    ],
    ids=lambda event: event["type"],
)
def test_an_end_that_no_frame_tells_of_has_a_mark(event: dict[str, Any]) -> None:
    (mark,) = end_marks(record({"type": "thread.status_changed"}, {**event, "run_id": "r"}), 3, {})
    assert (mark.topic, mark.partition, mark.key) == (Topic.STREAM, 3, "t")
    frames = Frames.decode(mark.value)
    assert frames.is_end_mark and (frames.run_id, frames.thread_id, frames.frames) == ("r", "t", [(END, b"null")])


@pytest.mark.parametrize(
    "event",
    [
        {"type": "run.interrupted", "stopping": True},
        {"type": "run.succeeded", "attempt": 1, "frames": 7},
        {"type": "run.created"},
        {"type": "command.rejected"},
    ],
    ids=lambda event: event["type"],
)
def test_others_have_none(event: dict[str, Any]) -> None:
    assert end_marks(record({**event, "run_id": "r"}), 3, {}) == []


def test_a_mark_names_the_run_that_goes_on() -> None:
    thread = Thread("t", slot=Slot("other", attempt=1))
    (mark,) = end_marks(record({"type": "run.interrupted", "run_id": "r"}), 3, {"thread": thread})
    assert in_flight_after(Frames.decode(mark.value)) == "other"
    (mark,) = end_marks(record({"type": "run.interrupted", "run_id": "r"}), 3, {"thread": Thread("t")})
    assert in_flight_after(Frames.decode(mark.value)) is None
