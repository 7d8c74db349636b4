"""Runs as executors report them: supersteps, outcomes, lost executors, and what follows on the thread."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.domain.scenario import R1, R2, R3, R4, T, at, checkpoint, given, idle, pending, planned, report, running
from threadlog.engine.domain.commands import CancelRun, ExpireLease
from threadlog.engine.domain.events import (
    CheckpointSaved,
    CheckpointsDeleted,
    Event,
    ReportFenced,
    RunCreated,
    RunDeleted,
    RunFailed,
    RunInterrupted,
    RunLeaseExpired,
    RunReleased,
    RunRolledBack,
    RunScheduled,
    RunStarted,
    RunStopped,
    RunSucceeded,
    RunTimedOut,
    StateUpdated,
    StateUpdateFailed,
    StateUpdateRequested,
    TasksPlanned,
    ThreadCreated,
    ThreadDeleted,
    ThreadPruned,
    ThreadStatusChanged,
    WritesSaved,
)
from threadlog.engine.domain.thread import ERROR_LIMIT

ERROR = {"error": "ValueError", "message": "kaboom"}
INTERRUPTS = {"task": [{"id": "i", "value": "ok?"}]}
RUN: dict[str, Any] = {"thread_id": T, "run_id": R1}
ATTEMPT: dict[str, Any] = {**RUN, "attempt": 1}
JOB = (
    StateUpdateRequested(thread_id=T, job_id=R4, graph_id="g", supersteps=[]),
    RunScheduled(thread_id=T, run_id=R4, attempt=1, kind="state_update"),
)


def status(name: Any, interrupts: Any = None, error: Any = None, settled: Any = None) -> ThreadStatusChanged:
    return ThreadStatusChanged(thread_id=T, status=name, interrupts=interrupts, error=error, settled=settled)


def expire(run_id: str = R1, attempt: int = 1) -> ExpireLease:
    return ExpireLease(thread_id=T, run_id=run_id, attempt=attempt, executor="x")


# --- progress --------------------------------------------------------------------------------------------------------


def test_the_first_report_starts_the_run() -> None:
    given(*running()).when(report(started={"executor": "x", "at": at(3)})).then(
        RunStarted(**ATTEMPT, executor="x", at=at(3))
    )


def test_every_item_becomes_its_event() -> None:
    blob = {"h": "h", "t": "msgpack", "b": ""}
    saved = {
        "ns": "kid:1", "checkpoint_id": "b", "parent_id": "a", "metadata": {"step": 1}, "checkpoint": {"v": 4},
        "channels": {"x": {"h": "h"}}, "blobs": [blob],
    }  # fmt: skip
    writes = {"checkpoint_id": "b", "task_id": "t", "task_path": "p", "writes": [[0, "x", {"h": "h"}]], "blobs": [blob]}
    tasks = {"checkpoint_id": "b", "tasks": [{"id": "t", "name": "n"}], "out": ["x"], "shown": {"x": {"h": "h"}}}
    items: list[dict[str, Any]] = [
        {"kind": "checkpoint", **saved},
        {"kind": "writes", **writes},
        {"kind": "tasks", **tasks},
        {"kind": "delete", "what": "run", "run_ids": [R2]},
        {"kind": "delete", "what": "prune"},
    ]
    given(*running()).when(report(items=items)).then(
        CheckpointSaved(**RUN, **saved),
        WritesSaved(**RUN, **writes),
        TasksPlanned(**RUN, **tasks),
        CheckpointsDeleted(thread_id=T, run_ids=[R2]),
        ThreadPruned(thread_id=T),
    )


@pytest.mark.parametrize(
    "item",
    [
        {"kind": "poem"},
        {},
        {"kind": "delete", "what": "everything"},
        {"kind": "checkpoint"},
        {"kind": "checkpoint", "checkpoint_id": 7},
        {"kind": "writes", "checkpoint_id": "a", "task_id": "t", "writes": {}},
        {"kind": "checkpoint", "checkpoint_id": "a", "ns": "sub:" * 500},
    ],
)
def test_a_malformed_item_ends_the_run_with_an_error_that_names_it(item: dict[str, Any]) -> None:
    """Nobody else would end it."""
    story = given(*running()).when(report(items=[checkpoint("b"), item], status="success"))
    failed = story.events[0]
    assert isinstance(failed, RunFailed)
    assert failed.error is not None
    assert re.search("kind|checkpoint_id|writes|namespace", failed.error["message"])
    assert story.types == ["run.failed", "thread.status_changed"]


def test_a_whole_run_in_one_report() -> None:
    items = [checkpoint("a"), planned("n", checkpoint_id="a"), checkpoint("b"), planned(checkpoint_id="b")]
    story = given(*running()).when(report(started={"executor": "x"}, items=items, status="success", frames=4))
    assert story.types == [
        "run.started", "checkpoint.saved", "tasks.planned", "checkpoint.saved", "tasks.planned", "run.succeeded",
        "thread.status_changed",
    ]  # fmt: skip
    assert story.thread.checkpoints and story.thread.slot is None


@pytest.mark.parametrize(
    ("before", "run_id", "attempt"),
    [
        ((), R1, 1),
        (idle(), R1, 1),
        (running(R1), R2, 1),
        (running(R1), R1, 2),
        (running(R1, attempt=2), R1, 1),
        ((*running(R1), ThreadDeleted(thread_id=T)), R1, 1),
        ((*running(R1), RunSucceeded(**ATTEMPT)), R1, 1),
        ((*running(R1), pending(R2)), R2, 1),
    ],
)
def test_what_another_attempt_reports_is_fenced(before: tuple[Event, ...], run_id: str, attempt: int) -> None:
    story = given(*before)
    states = story.states
    fenced = ReportFenced(run_id=run_id, attempt=attempt)
    story.when(report(run_id, attempt, items=[checkpoint()], status="success")).then(fenced)
    story.when(expire(run_id, attempt)).then(fenced)
    assert story.states is states


# --- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "event", "after"),
    [
        ({"status": "success", "frames": 3}, RunSucceeded(**ATTEMPT, frames=3), status("idle", {})),
        (
            {"status": "success", "next": ["ask"], "interrupts": INTERRUPTS},
            RunSucceeded(**ATTEMPT, next=["ask"], interrupts=INTERRUPTS),
            status("interrupted", INTERRUPTS),
        ),
        ({"status": "success", "next": ["b"]}, RunSucceeded(**ATTEMPT, next=["b"]), status("interrupted", {})),
        (
            {"status": "error", "error": ERROR, "frames": 1},
            RunFailed(**ATTEMPT, error=ERROR, frames=1),
            status("error", {}, ERROR),
        ),
        (
            {"status": "timeout", "error": {"error": "TimeoutError", "message": ""}},
            RunTimedOut(**ATTEMPT, error={"error": "TimeoutError", "message": ""}),
            status("error", {}, {"error": "TimeoutError", "message": ""}),
        ),
    ],
)
def test_the_outcome_decides_the_run_and_the_thread(outcome: dict[str, Any], event: Event, after: Event) -> None:
    given(*running()).when(report(**outcome)).then(event, after)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ({"status": "success"}, RunSucceeded),
        ({"status": "error"}, RunFailed),
        ({"status": "timeout"}, RunTimedOut),
        ({"status": "interrupted"}, RunStopped),
        ({"status": "released"}, RunReleased),
    ],
)
def test_the_end_of_an_attempt_tells_what_its_models_used(outcome: dict[str, Any], kind: type[Event]) -> None:
    usage = {"gpt": {"calls": 2, "input_tokens": 7, "output_tokens": 5, "total_tokens": 12}}
    events = given(*running()).when(report(**outcome, usage=usage)).events
    assert [getattr(event, "usage", None) for event in events if isinstance(event, kind)] == [usage]


def test_a_run_that_was_cancelled_tells_what_its_models_used_when_it_stops() -> None:
    usage = {"gpt": {"calls": 1, "total_tokens": 3}}
    given(*running(), INTERRUPTED).when(report(status="interrupted", usage=usage)).then(
        RunStopped(**ATTEMPT, usage=usage), status("idle", {})
    )


def test_a_refused_answer_leaves_the_thread_as_it_was() -> None:
    waiting = given(*running(), pending(R2)).when(report(status="success", next=["ask"], interrupts=INTERRUPTS))
    refused: dict[str, Any] = {"thread_id": T, "run_id": R2, "attempt": 1}
    waiting.when(report(R2, 1, status="error", error=ERROR, refused=True)).then(
        RunFailed(**refused, error=ERROR), status("interrupted")
    )
    given(*running()).when(report(status="error", error=ERROR, refused=True)).then(
        RunFailed(**ATTEMPT, error=ERROR), status("idle")
    )


def test_an_executor_that_stops_on_its_own_interrupts_the_run() -> None:
    given(*running()).when(report(status="interrupted", next=["n"], frames=2)).then(
        RunInterrupted(**RUN, stopping=True),
        RunStopped(**ATTEMPT, frames=2),
        status("interrupted", {}),
    )


def test_a_released_attempt_is_followed_by_the_next() -> None:
    story = given(*running()).when(report(items=[checkpoint()], status="released", frames=9))
    story.then(
        CheckpointSaved(**RUN, checkpoint_id="cp1"),
        RunReleased(**ATTEMPT, frames=9),
        RunScheduled(thread_id=T, run_id=R1, attempt=2),
    )
    for attempt in range(2, 8):  # as often as it likes
        story.when(report(attempt=attempt, status="released"))
    assert story.events[-1] == RunScheduled(thread_id=T, run_id=R1, attempt=8)


@pytest.mark.parametrize("outcome", [{"status": "splendid"}, {"status": "success", "next": "n"},
                                     {"status": "success", "frames": "many"},
                                     {"status": "success", "usage": [1]},
                                     {"status": "success", "usage": {"m": {"input_tokens": -1}}},
                                     {"status": "success", "usage": {"m": {"input_tokens": True}}},
                                     {"status": "success", "usage": {"m": {"money": 1}}},
                                     {"status": "success", "usage": {"m" * 201: {}}},
                                     {"status": "success", "usage": {str(n): {} for n in range(101)}}])  # fmt: skip
def test_a_malformed_outcome_is_an_error(outcome: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"status|next|frames|usage|model"):
        given(*running()).when(report(**outcome))


def test_an_error_without_words_is_still_an_error() -> None:
    story = given(*running()).when(report(status="error"))
    assert story.events[0] == RunFailed(**ATTEMPT, error={"error": "Error", "message": ""})


def test_the_thread_keeps_the_beginning_of_a_long_message() -> None:
    story = given(*running()).when(report(status="error", error={"error": "E", "message": "m" * 100_000}))
    run, thread = story.events
    assert isinstance(run, RunFailed) and len(run.error["message"]) == 100_000
    assert isinstance(thread, ThreadStatusChanged) and thread.error is not None
    assert len(thread.error["message"]) == ERROR_LIMIT + 1


def test_a_temporary_thread_goes_with_its_run() -> None:
    for outcome in ({"status": "success"}, {"status": "error", "error": ERROR}):
        story = given(*running(temporary=True)).when(report(**outcome))
        assert story.events[-1] == ThreadDeleted(thread_id=T)


def test_a_temporary_thread_stays_while_others_wait() -> None:
    story = given(*running(temporary=True), pending(R2)).when(report(status="success"))
    assert story.types == ["run.succeeded", "run.scheduled"]


def test_an_interrupt_is_shown_also_when_the_next_run_follows_at_once() -> None:
    story = given(*running(), pending(R2)).when(report(status="success", next=["ask"], interrupts=INTERRUPTS))
    story.then(
        RunSucceeded(**ATTEMPT, next=["ask"], interrupts=INTERRUPTS),
        status("busy", INTERRUPTS, settled="interrupted"),
        RunScheduled(thread_id=T, run_id=R2, attempt=1, fresh=True),
    )
    assert story.thread.status == "interrupted"


def test_a_failure_is_shown_also_when_a_delayed_run_waits() -> None:
    story = given(*running(), pending(R2, due_at=at(50))).when(report(status="error", error=ERROR))
    story.then(RunFailed(**ATTEMPT, error=ERROR), status("busy", {}, ERROR, settled="error"))


def test_after_the_first_checkpoint_no_attempt_is_fresh() -> None:
    story = given(*running(), pending(R2)).when(report(items=[checkpoint()], status="success"))
    assert story.events[-1] == RunScheduled(thread_id=T, run_id=R2, attempt=1, fresh=False)


# --- stopping --------------------------------------------------------------------------------------------------------

INTERRUPTED = RunInterrupted(**RUN, stopping=True)
STOPPED = {"error": "UserInterrupt", "message": "enough"}
ROLLED_BACK = RunRolledBack(**RUN, stopping=True)
DELETED = RunDeleted(**RUN, stopping=True)


@pytest.mark.parametrize("outcome", ["success", "error", "timeout", "interrupted", "released"])
def test_a_late_outcome_does_not_overwrite_the_final_status(outcome: str) -> None:
    given(*running(), INTERRUPTED).when(report(status=outcome, frames=5)).then(
        RunStopped(**ATTEMPT, frames=5), status("idle", {})
    )


def test_an_interrupted_run_keeps_its_finished_supersteps() -> None:
    story = given(*running(), INTERRUPTED)
    story.when(report(started={"executor": "x"}, items=[checkpoint()], status="interrupted", next=["n"])).then(
        CheckpointSaved(**RUN, checkpoint_id="cp1"), RunStopped(**ATTEMPT), status("interrupted", {})
    )


@pytest.mark.parametrize("ended", [ROLLED_BACK, DELETED])
def test_a_run_that_is_gone_leaves_nothing_and_the_thread_as_it_was(ended: Event) -> None:
    story = given(ThreadCreated(thread_id=T, status="interrupted"), pending(R1), RunScheduled(**ATTEMPT), ended)
    story.when(report(items=[checkpoint()])).then()
    story.when(report(items=[checkpoint()], status="interrupted", next=[])).then(
        RunStopped(**ATTEMPT), status("interrupted")
    )
    assert not story.thread.checkpoints


def test_interrupts_of_a_stopped_run_are_the_threads() -> None:
    story = given(*running(), INTERRUPTED).when(report(status="interrupted", interrupts=INTERRUPTS))
    assert story.events[-1] == status("interrupted", INTERRUPTS)


# --- lost executors --------------------------------------------------------------------------------------------------


def test_a_lost_attempt_is_followed_by_the_next_and_at_last_by_failure() -> None:
    story = given(*running())
    story.when(expire()).then(
        RunLeaseExpired(**ATTEMPT, executor="x"), RunScheduled(thread_id=T, run_id=R1, attempt=2, fresh=True)
    )
    story.when(report(attempt=2, items=[checkpoint()]))
    story.when(expire(attempt=2))
    assert story.events[-1] == RunScheduled(thread_id=T, run_id=R1, attempt=3)
    story.when(expire(attempt=3))
    assert story.types == ["run.lease_expired", "run.failed", "thread.status_changed"]
    failed, after = story.events[1:]
    assert isinstance(failed, RunFailed) and failed.error["error"] == "RunAttemptsExhausted"
    assert isinstance(after, ThreadStatusChanged) and after.status == "error" and after.error == failed.error


def test_a_released_attempt_is_no_lost_one() -> None:
    story = given(*running()).when(expire(attempt=1)).when(report(attempt=2, status="released"))
    story.when(expire(attempt=3))
    assert story.types == ["run.lease_expired", "run.scheduled"]
    assert story.when(expire(attempt=4)).types[1] == "run.failed"


def test_how_many_attempts_may_be_lost_is_in_the_command() -> None:
    last = ExpireLease(thread_id=T, run_id=R1, attempt=1, executor="x", max_attempts=1)
    story = given(*running()).when(last)
    assert story.types[1] == "run.failed"
    failed = story.events[1]
    assert isinstance(failed, RunFailed) and failed.error is not None
    assert failed.error["message"].startswith("The executor was lost in each of 1 attempts")


def test_failures_of_one_run_do_not_count_for_the_next() -> None:
    story = given(*running(), pending(R2))
    for attempt in (1, 2, 3):
        story.when(expire(attempt=attempt))
    assert story.types[-1] == "run.scheduled"
    assert story.when(expire(R2)).types == ["run.lease_expired", "run.scheduled"]


@pytest.mark.parametrize(
    ("reported", "after"),
    [
        ((), status("error", error=STOPPED)),  # it has reported nothing: the thread is as before
        ((planned("n"),), status("interrupted", {}, error=STOPPED)),
        ((planned(),), status("idle", {}, error=STOPPED)),
        ((planned("n"), planned(ns="kid:1")), status("interrupted", {}, error=STOPPED)),
    ],
)
def test_a_cancelled_run_whose_executor_is_lost_has_stopped(reported: tuple[Any, ...], after: Event) -> None:
    story = given(ThreadCreated(thread_id=T, status="error", error=ERROR), pending(R1), RunScheduled(**ATTEMPT))
    story.when(report(items=reported))
    story.when(CancelRun(thread_id=T, run_id=R1, reason="enough"))
    story.when(expire()).then(RunStopped(**ATTEMPT), after)


# --- state updates ---------------------------------------------------------------------------------------------------


def test_a_state_update_ends_with_its_result() -> None:
    result = {"checkpoint": {"checkpoint_id": "cp1"}}
    story = given(*idle(), *JOB).when(report(R4, started={"executor": "x"}, items=[checkpoint()]))
    story.then(CheckpointSaved(thread_id=T, checkpoint_id="cp1"))
    story.when(report(R4, status="success", next=["n"], result=result)).then(
        StateUpdated(thread_id=T, job_id=R4, result=result), status("interrupted", {})
    )


def test_a_failed_state_update_leaves_the_thread_as_it_was() -> None:
    failed = StateUpdateFailed(thread_id=T, job_id=R4, error=ERROR)
    given(*idle(), *JOB).when(report(R4, status="error", error=ERROR)).then(failed)
    story = given(*idle(), *JOB, pending(R1)).when(report(R4, status="error", error=ERROR))
    story.then(failed, RunScheduled(thread_id=T, run_id=R1, attempt=1, fresh=True))


def test_a_lost_state_update_is_tried_again_and_at_last_fails() -> None:
    story = given(*idle(), *JOB).when(expire(R4))
    assert story.events[-1] == RunScheduled(thread_id=T, run_id=R4, attempt=2, kind="state_update", fresh=True)
    story.when(report(R4, 2, status="released"))
    assert story.types == ["run.released", "run.scheduled"]
    story.when(expire(R4, 3)).when(expire(R4, 4))
    assert story.types == ["run.lease_expired", "state.update_failed"]
    assert story.thread.slot is None


def test_runs_wait_for_a_state_update_and_follow_it() -> None:
    story = given(*idle(), *JOB, RunCreated(thread_id=T, run_id=R3, graph_id="g", run={}))
    story.when(report(R4, status="success")).then(
        StateUpdated(thread_id=T, job_id=R4), RunScheduled(thread_id=T, run_id=R3, attempt=1, fresh=True)
    )
