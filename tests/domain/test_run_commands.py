"""Runs as clients ask for them: creation, the four strategies, delays, cancelling, deleting."""

from __future__ import annotations

from typing import Any

import pytest

from tests.domain.scenario import R1, R2, R3, R4, T, at, create, given, idle, pending, report, running
from threadlog.engine.domain.commands import CancelRun, CreateThread, DeleteRun, RunDue, UpdateState
from threadlog.engine.domain.events import (
    CommandRepeated,
    Event,
    RunCreated,
    RunDeleted,
    RunInterrupted,
    RunReady,
    RunRolledBack,
    RunScheduled,
    RunStopped,
    StateUpdateRequested,
    ThreadCreated,
    ThreadDeleted,
    ThreadStatusChanged,
)
from threadlog.engine.domain.thread import REMEMBERED_RUNS

LATER = at(50)
BUSY = ThreadStatusChanged(thread_id=T, status="busy")
IDLE = ThreadStatusChanged(thread_id=T, status="idle")
JOB = StateUpdateRequested(thread_id=T, job_id=R4, graph_id="g", supersteps=[])
JOB_SCHEDULED = RunScheduled(thread_id=T, run_id=R4, attempt=1, kind="state_update")
CONFLICT = "Thread is already running a task. Wait for it to finish or choose a different multitask strategy."


def scheduled(run_id: str, attempt: int = 1, *, fresh: bool = True) -> RunScheduled:
    return RunScheduled(thread_id=T, run_id=run_id, attempt=attempt, fresh=fresh)


# --- creation --------------------------------------------------------------------------------------------------------


def test_a_run_on_an_idle_thread_is_scheduled_at_once() -> None:
    given(*idle()).when(create(R1)).then(pending(R1), scheduled(R1), BUSY)


def test_an_unknown_thread_is_not_found() -> None:
    given().when(create(R1)).then_rejected("not_found", "Thread or assistant not found.")


def test_an_unknown_thread_is_created_when_asked_for() -> None:
    given().when(create(R1, create_thread={"a": 1})).then(
        ThreadCreated(thread_id=T, metadata={"a": 1}), pending(R1), scheduled(R1), BUSY
    )


def test_a_deleted_thread_is_created_anew() -> None:
    story = given(*idle(), ThreadDeleted(thread_id=T))
    story.when(create(R1)).then_rejected("not_found", "Thread or assistant not found.")
    assert story.when(create(R1, create_thread={})).types[0] == "thread.created"


def test_a_run_for_a_new_thread_does_not_come_to_lie_on_anothers() -> None:
    story = given().when(create(R1, create_thread={"owner": "ann"}, new_thread=True))
    assert story.types[0] == "thread.created"
    story.when(create(R2, create_thread={"owner": "bob"}, new_thread=True)).then_rejected(
        "not_found", "Thread or assistant not found."
    )
    assert story.when(create(R2, create_thread={})).types == ["run.created"]


def test_the_event_carries_all_the_command_says() -> None:
    said = {
        "multitask_strategy": "reject", "thread_metadata": {"graph_id": "g"}, "thread_config": {"tags": []},
        "temporary": True, "stream_from": 7,
    }  # fmt: skip
    story = given(*idle()).when(create(R1, **said))
    assert story.events[0] == RunCreated(thread_id=T, run_id=R1, graph_id="g", run={}, **said)


def test_the_threads_error_stays_until_a_run_succeeds() -> None:
    error = {"error": "ValueError", "message": "kaboom"}
    story = given(*idle(status="error", error=error)).when(create(R1))
    assert story.events[-1] == ThreadStatusChanged(thread_id=T, status="busy", error=error)
    story.when(report(R1, status="success"))
    assert story.events[-1] == ThreadStatusChanged(thread_id=T, status="idle", interrupts={})
    assert story.thread.error is None


def test_the_same_run_is_not_created_twice() -> None:
    story = given(*running(R1)).when(create(R2))
    story.when(create(R1)).then(CommandRepeated())
    story.when(create(R2)).then(CommandRepeated())


def test_a_run_is_known_after_its_end_and_many_other_commands() -> None:
    story = given(*running(R1)).when(report(R1, status="success"))
    for n in range(REMEMBERED_RUNS - 1):
        other = f"00000000-0000-4000-8000-0000000001{n:02d}"
        story.when(create(other)).when(report(other, items=[])).when(report(other, status="success"))
    story.when(create(R1)).then(CommandRepeated())


# --- the four strategies ---------------------------------------------------------------------------------------------


def test_enqueue_waits_for_its_turn() -> None:
    story = given(*running(R1)).when(create(R2)).then(pending(R2))
    story.when(create(R3)).then(pending(R3))
    assert story.when(report(R1, status="success")).events[-1] == scheduled(R2)
    assert story.when(report(R2, status="success")).events[-1] == scheduled(R3)


@pytest.mark.parametrize(
    "before",
    [
        running(R1),
        (*running(R1), RunInterrupted(thread_id=T, run_id=R1, stopping=True)),
        (*idle(), pending(R1, due_at=LATER)),
    ],
    ids=["running", "stopping", "delayed"],
)
def test_reject_refuses_while_anything_is_in_flight(before: tuple[Event, ...]) -> None:
    given(*before).when(create(R2, multitask_strategy="reject")).then_rejected("conflict", CONFLICT)


def test_reject_proceeds_with_nothing_in_flight() -> None:
    story = given(*idle()).when(create(R2, multitask_strategy="reject"))
    assert story.types == ["run.created", "run.scheduled", "thread.status_changed"]


def test_a_state_update_is_no_run_to_be_rejected_for() -> None:
    story = given(*idle(), JOB, JOB_SCHEDULED).when(create(R1, multitask_strategy="reject"))
    assert story.types == ["run.created", "thread.status_changed"]
    assert story.when(report(R4, status="success")).types[-1] == "run.scheduled"


@pytest.mark.parametrize(("strategy", "ended"), [("interrupt", RunInterrupted), ("rollback", RunRolledBack)])
def test_running_and_pending_runs_are_superseded_at_once(
    strategy: str, ended: type[RunInterrupted | RunRolledBack]
) -> None:
    story = given(*running(R1), pending(R2), pending(R3, due_at=LATER))
    why = f"superseded by run {R4} (multitask_strategy={strategy})"
    story.when(create(R4, multitask_strategy=strategy)).then(
        *stopping(ended, R1, why, reason="superseded"),
        ended(thread_id=T, run_id=R2, reason="superseded", cancel_reason=why),
        ended(thread_id=T, run_id=R3, reason="superseded", cancel_reason=why),
        RunCreated(thread_id=T, run_id=R4, graph_id="g", run={}, multitask_strategy=strategy),
    )
    assert [w.run_id for w in story.thread.queue] == [R4]
    # The new run starts only when the executor of the old one has let go.
    story.when(report(R1, status="interrupted", next=["n"]))
    assert story.types[0] == "run.stopped" and story.events[-1] == scheduled(R4)


def test_a_stopping_run_is_not_interrupted_twice() -> None:
    story = given(*running(R1)).when(create(R2, multitask_strategy="interrupt"))
    story.when(create(R3, multitask_strategy="rollback")).then(
        RunRolledBack(
            thread_id=T,
            run_id=R2,
            reason="superseded",
            cancel_reason=f"superseded by run {R3} (multitask_strategy=rollback)",
        ),
        RunCreated(thread_id=T, run_id=R3, graph_id="g", run={}, multitask_strategy="rollback"),
    )


def test_superseding_delayed_runs_only_starts_at_once() -> None:
    given(*idle(), pending(R1, due_at=LATER)).when(create(R2, multitask_strategy="interrupt")).then(
        RunInterrupted(
            thread_id=T,
            run_id=R1,
            reason="superseded",
            cancel_reason=f"superseded by run {R2} (multitask_strategy=interrupt)",
        ),
        RunCreated(thread_id=T, run_id=R2, graph_id="g", run={}, multitask_strategy="interrupt"),
        scheduled(R2),
    )


def test_a_state_update_is_left_to_finish() -> None:
    story = given(*idle(), JOB, JOB_SCHEDULED).when(create(R1, multitask_strategy="rollback"))
    assert story.types == ["run.created", "thread.status_changed"]
    assert story.thread.slot is not None and story.thread.slot.stopping is None


# --- delays ----------------------------------------------------------------------------------------------------------


def test_a_delayed_run_waits_and_its_thread_is_busy() -> None:
    story = given(*idle()).when(create(R1, due_at=LATER)).then(pending(R1, due_at=LATER), BUSY)
    story.when(RunDue(thread_id=T, run_id=R1)).then(scheduled(R1))


def test_a_delayed_run_does_not_hold_up_later_ones() -> None:
    story = given(*idle(), pending(R1, due_at=LATER)).when(create(R2)).then(pending(R2), scheduled(R2))
    assert story.when(report(R2, status="success")).types == ["run.succeeded"]


def test_a_due_run_waits_for_the_slot() -> None:
    story = given(*running(R2), pending(R1, due_at=LATER))
    story.when(RunDue(thread_id=T, run_id=R1)).then(RunReady(thread_id=T, run_id=R1))
    story.when(RunDue(thread_id=T, run_id=R1), id="again").then()
    story.when(report(R2, status="success"))
    assert story.events[-1] == scheduled(R1)


def test_the_queue_is_ordered_by_due_time_then_by_creation() -> None:
    story = (
        given(*running(R1)).when(create(R2, due_at=at(30))).when(create(R3), at_=at(20)).when(create(R4), at_=at(40))
    )
    story.when(RunDue(thread_id=T, run_id=R2), at_=at(41))
    assert [w.run_id for w in story.thread.queue] == [R3, R2, R4]


def test_a_senders_slow_clock_does_not_overtake() -> None:
    story = given(*running(R1)).when(create(R2), at_=at(20)).when(create(R3), at_=at(10))
    assert [w.run_id for w in story.thread.queue] == [R2, R3]


def test_a_run_that_is_gone_is_not_due() -> None:
    given(*idle()).when(RunDue(thread_id=T, run_id=R1)).then()
    given().when(RunDue(thread_id=T, run_id=R1)).then()


# --- cancelling ------------------------------------------------------------------------------------------------------


def stopping(ended: type[Any], run_id: str, why: str, **fields: Any) -> list[Event]:
    """How the run in the slot ends; an interrupted one leaves its error on the tasks under way and on the thread."""
    run = {"thread_id": T, "run_id": run_id, "stopping": True, "cancel_reason": why, **fields}
    if ended is RunRolledBack:
        return [RunRolledBack(**run)]
    error = {"error": "UserInterrupt", "message": why}
    return [
        RunInterrupted(**run, tasks_error="CancelledError()"),
        ThreadStatusChanged(thread_id=T, status="busy", error=error),
    ]


def test_a_reason_is_told_with_the_cancellation() -> None:
    story = given(*running(R1), pending(R2)).when(CancelRun(thread_id=T, run_id=R1, reason="enough"))
    story.then(*stopping(RunInterrupted, R1, "enough"))
    story.when(CancelRun(thread_id=T, run_id=R2, action="rollback", reason="x" * 2000))
    assert story.events[0] == RunRolledBack(thread_id=T, run_id=R2, cancel_reason="x" * 1000)


def test_a_stopped_threads_error_goes_with_the_next_success() -> None:
    error = {"error": "UserInterrupt", "message": "enough"}
    story = given(*running(R1)).when(CancelRun(thread_id=T, run_id=R1, reason="enough"))
    story.when(report(R1, status="interrupted", next=["n"]))
    assert story.events[-1] == ThreadStatusChanged(thread_id=T, status="interrupted", interrupts={}, error=error)
    assert story.when(create(R2)).events[-1] == ThreadStatusChanged(thread_id=T, status="busy", error=error)
    assert story.when(report(R2, status="success")).events[-1] == ThreadStatusChanged(
        thread_id=T, status="idle", interrupts={}
    )


def test_a_run_that_waited_leaves_no_error() -> None:
    story = given(*running(R1), pending(R2)).when(CancelRun(thread_id=T, run_id=R2, reason="enough"))
    assert story.types == ["run.interrupted"]


def test_a_copy_of_a_stopped_thread_is_stopped() -> None:
    error = {"error": "UserInterrupt", "message": "enough"}
    story = given().when(CreateThread(thread_id=T, status="interrupted", error=error))
    assert story.thread.error == error


@pytest.mark.parametrize(("action", "ended"), [("interrupt", RunInterrupted), ("rollback", RunRolledBack)])
def test_a_running_run_is_final_at_once_and_keeps_the_slot(
    action: str, ended: type[RunInterrupted | RunRolledBack]
) -> None:
    story = given(*running(R1)).when(CancelRun(thread_id=T, run_id=R1, action=action))  # type: ignore[arg-type]
    story.then(*stopping(ended, R1, f"{action} requested"))
    assert story.thread.slot is not None and story.thread.slot.stopping == action
    story.when(CancelRun(thread_id=T, run_id=R1)).then_rejected("not_found", "No matching runs to cancel")


def test_a_pending_run_is_taken_from_the_queue() -> None:
    story = given(*running(R1), pending(R2)).when(CancelRun(thread_id=T, run_id=R2))
    story.then(RunInterrupted(thread_id=T, run_id=R2, cancel_reason="interrupt requested"))
    assert not story.thread.queue


def test_the_thread_is_as_before_when_its_only_pending_run_is_cancelled() -> None:
    error = {"error": "ValueError", "message": "kaboom"}
    given(*idle(), pending(R1, due_at=LATER), BUSY).when(CancelRun(thread_id=T, run_id=R1)).then(
        RunInterrupted(thread_id=T, run_id=R1, cancel_reason="interrupt requested"), IDLE
    )
    given(*idle(status="error", error=error), pending(R1, due_at=LATER)).when(CancelRun(thread_id=T, run_id=R1)).then(
        RunInterrupted(thread_id=T, run_id=R1, cancel_reason="interrupt requested"),
        ThreadStatusChanged(thread_id=T, status="error", error=error),
    )


def test_a_temporary_thread_goes_with_its_cancelled_run() -> None:
    given(*idle(), pending(R1, due_at=LATER, temporary=True)).when(CancelRun(thread_id=T, run_id=R1)).then(
        RunInterrupted(thread_id=T, run_id=R1, cancel_reason="interrupt requested"), ThreadDeleted(thread_id=T)
    )


def test_other_delayed_runs_keep_the_thread_busy() -> None:
    story = given(*idle(), pending(R1, due_at=LATER), pending(R2, due_at=LATER))
    story.when(CancelRun(thread_id=T, run_id=R1, action="rollback")).then(
        RunRolledBack(thread_id=T, run_id=R1, cancel_reason="rollback requested")
    )


def test_behind_a_state_update_the_thread_is_no_longer_busy() -> None:
    story = given(*idle(), JOB, JOB_SCHEDULED, pending(R1), BUSY)
    story.when(CancelRun(thread_id=T, run_id=R1)).then(
        RunInterrupted(thread_id=T, run_id=R1, cancel_reason="interrupt requested"), IDLE
    )


@pytest.mark.parametrize("before", [(), idle(), running(R2), (*idle(), JOB, JOB_SCHEDULED)])
def test_there_is_nothing_to_cancel(before: tuple[Event, ...]) -> None:
    for run_id in (R1, R4):
        given(*before).when(CancelRun(thread_id=T, run_id=run_id)).then_rejected("not_found", "No matching runs")


# --- deleting --------------------------------------------------------------------------------------------------------


def test_a_running_run_is_deleted_and_stopped() -> None:
    story = given(*running(R1)).when(DeleteRun(thread_id=T, run_id=R1))
    story.then(RunDeleted(thread_id=T, run_id=R1, stopping=True))
    story.when(report(R1, items=[{"kind": "checkpoint", "checkpoint_id": "x"}], status="interrupted", next=["n"]))
    story.then(RunStopped(thread_id=T, run_id=R1, attempt=1), IDLE)


def test_a_stopping_run_can_still_be_deleted() -> None:
    story = given(*running(R1), RunInterrupted(thread_id=T, run_id=R1, stopping=True))
    story.when(DeleteRun(thread_id=T, run_id=R1))
    assert story.thread.slot is not None and story.thread.slot.stopping == "delete"


def test_a_pending_run_is_deleted() -> None:
    given(*idle(), pending(R1, due_at=LATER)).when(DeleteRun(thread_id=T, run_id=R1)).then(
        RunDeleted(thread_id=T, run_id=R1), IDLE
    )


def test_an_ended_run_is_deleted() -> None:
    given(*running(R2)).when(DeleteRun(thread_id=T, run_id=R1)).then(RunDeleted(thread_id=T, run_id=R1))
    given().when(DeleteRun(thread_id=T, run_id=R1)).then_rejected("not_found", T)


# --- state updates ---------------------------------------------------------------------------------------------------


def update(job_id: str = R4) -> UpdateState:
    return UpdateState(thread_id=T, job_id=job_id, graph_id="g", supersteps=[{"updates": []}])


def requested(job_id: str = R4) -> StateUpdateRequested:
    return StateUpdateRequested(thread_id=T, job_id=job_id, graph_id="g", supersteps=[{"updates": []}])


def test_a_state_update_takes_the_slot_of_an_idle_thread() -> None:
    job = RunScheduled(thread_id=T, run_id=R4, attempt=1, kind="state_update", fresh=True)
    story = given(*idle()).when(update()).then(requested(), job)
    story.when(update(), id="again").then(CommandRepeated())
    story.when(update(R3)).then(requested(R3))
    assert [w.run_id for w in story.thread.queue] == [R3]


@pytest.mark.parametrize("before", [running(R1), (*idle(), pending(R1, due_at=LATER))], ids=["running", "delayed"])
def test_a_state_update_is_refused_while_a_run_is_in_flight(before: tuple[Event, ...]) -> None:
    given(*before).when(update()).then_rejected("conflict", "Thread is already running a task.")


def test_a_state_update_waits_for_a_cancelled_run_to_let_go() -> None:
    story = given(*running(R1)).when(CancelRun(thread_id=T, run_id=R1)).when(update()).then(requested())
    story.when(report(R1, status="interrupted", next=["n"])).then(
        RunStopped(thread_id=T, run_id=R1, attempt=1),
        ThreadStatusChanged(
            thread_id=T,
            status="interrupted",
            interrupts={},
            error={"error": "UserInterrupt", "message": "interrupt requested"},
        ),
        RunScheduled(thread_id=T, run_id=R4, attempt=1, kind="state_update", fresh=True),
    )


def test_a_state_update_of_an_unknown_thread_is_not_found() -> None:
    given().when(update()).then_rejected("not_found", T)
