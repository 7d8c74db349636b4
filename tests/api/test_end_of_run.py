"""How the end of a run is waited for, by streams and waits alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import AsyncMock

from aiohttp.test_utils import make_mocked_request

from threadlog.api.http.disconnects import client_gone, end_stream
from threadlog.api.streaming.cursor import EndOfRun, FrameCursor, RunEnd
from threadlog.engine.log.records import Frames

WAIT = 3600.0


def frames(seq: int, count: int, attempt: int = 1) -> Frames:
    return Frames("run", "thread", attempt, seq, [(b"custom", b"1")] * count)


def ended(cursor: FrameCursor, before: Sequence[Frames] = (), *, frame_wait_seconds: float = WAIT) -> EndOfRun:
    """A run of one attempt that has ended after five frames."""
    run_end = EndOfRun("run", frame_wait_seconds, cursor)
    for record in before:
        cursor.admit(record)
    assert run_end.seconds_to_wait(60) == 60, "nothing is given up while the run goes on"
    assert run_end.set(RunEnd("success", 1, 5))
    return run_end


async def test_a_run_is_over_with_its_last_frame_not_with_its_end() -> None:
    run_end = ended(FrameCursor((0, 0)), [frames(0, 3)])
    assert not run_end.is_over()
    run_end.cursor.admit(frames(3, 2))
    assert run_end.has_all_frames() and run_end.is_over() and not run_end.has_given_up()


async def test_frames_that_never_come_are_given_up() -> None:
    run_end = ended(FrameCursor((0, 0)), [frames(0, 3)], frame_wait_seconds=0)
    assert not run_end.is_over(), "the wait begins when there is nothing left to do but wait"
    assert run_end.seconds_to_wait(60) == 0
    assert run_end.is_over() and not run_end.has_all_frames()


async def test_a_server_that_saw_no_frame_of_the_run_waits_for_them_only_shortly() -> None:
    assert ended(FrameCursor()).seconds_to_wait(60) < 1
    assert ended(FrameCursor((0, 0))).seconds_to_wait(60) == 60


async def test_the_first_end_counts() -> None:
    run_end = EndOfRun("run", WAIT, FrameCursor((0, 0)))
    assert not run_end.set(None) and not run_end.on_event({"type": "run.started", "run_id": "run"})
    assert not run_end.on_event({"type": "run.interrupted", "run_id": "another"})
    assert run_end.on_event({"type": "run.interrupted", "run_id": "run"})
    assert not run_end.on_event({"type": "thread.deleted", "thread_id": "thread"})
    assert run_end.end == RunEnd("interrupted") and run_end.is_over()


async def test_a_client_that_leaves_after_the_end_of_its_response_has_not_left_before_it() -> None:
    request: Any = make_mocked_request("GET", "/threads/t/runs/r/stream")
    assert client_gone(request), "the connection is closed"
    await end_stream(request, AsyncMock())
    assert not client_gone(request), "so its run is not cancelled"
