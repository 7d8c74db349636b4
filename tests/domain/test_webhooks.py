"""When a run's webhook is due, and what follows from the attempts to deliver it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.domain.scenario import R1, R2, R3, Scenario, T, at, given, idle, report
from threadlog.engine.domain import limits
from threadlog.engine.domain.commands import CancelRun, CreateRun, DeleteRun, DeleteThread, ExpireLease, ReportWebhook
from threadlog.engine.domain.events import (
    ReportFenced,
    RunRolledBack,
    RunStarted,
    RunSucceeded,
    ThreadDeleted,
    ThreadStatusChanged,
    WebhookDead,
    WebhookDelivered,
    WebhookFailed,
    WebhookRequested,
)
from threadlog.engine.domain.webhooks import ATTEMPTS, PENDING

URL = "https://example.org/hook"
STARTED = {"executor": "x", "at": at(1)}


def hooked(run_id: str = R1, **fields: Any) -> CreateRun:
    return CreateRun(
        thread_id=T, run_id=run_id, graph_id="g", run={"kwargs": {"webhook": URL}}, create_thread={}, **fields
    )


def told(outcome: Any, attempt: int = 1, run_id: str = R1, **fields: Any) -> ReportWebhook:
    return ReportWebhook(thread_id=T, run_id=run_id, attempt=attempt, outcome=outcome, **fields)


def ended() -> Scenario:
    """A run whose webhook is due."""
    return given(*idle()).when(hooked()).when(report(started=STARTED, status="success"))


def requested(scenario: Scenario) -> WebhookRequested:
    (event,) = (event for event in scenario.events if isinstance(event, WebhookRequested))
    return event


def test_a_webhook_is_due_with_the_end_of_its_run() -> None:
    ended().then(
        RunStarted(thread_id=T, run_id=R1, attempt=1, executor="x", at=at(1)),
        RunSucceeded(thread_id=T, run_id=R1, attempt=1),
        WebhookRequested(thread_id=T, run_id=R1, url=URL, status="success", started_at=at(1)),
        ThreadStatusChanged(thread_id=T, status="idle", interrupts={}),
    )


def test_the_time_the_run_began_is_kept_until_its_end() -> None:
    scenario = given(*idle()).when(hooked()).when(report(started=STARTED)).when(report(status="success"))
    assert requested(scenario).started_at == at(1)


@pytest.mark.parametrize("started", ["soon", 7, None])
def test_what_is_no_time_is_not_taken_for_the_beginning(started: Any) -> None:
    scenario = given(*idle()).when(hooked()).when(report(started={"executor": "x", "at": started}, status="success"))
    assert requested(scenario).started_at is None


@pytest.mark.parametrize("status", ["error", "timeout"])
def test_a_failure_is_told_with_its_error(status: Any) -> None:
    error = {"error": "ValueError", "message": "kaboom"}
    event = requested(given(*idle()).when(hooked()).when(report(status=status, error=error)))
    assert (event.status, event.error) == (status, error)


def test_a_run_without_a_webhook_asks_for_none() -> None:
    scenario = given(*idle()).when(CreateRun(thread_id=T, run_id=R1, graph_id="g", run={"kwargs": {"webhook": None}}))
    assert "webhook.requested" not in scenario.when(report(status="success")).types


def test_the_webhook_of_a_cancelled_run_waits_until_its_executor_has_let_go() -> None:
    cancelled = given(*idle()).when(hooked()).when(CancelRun(thread_id=T, run_id=R1, reason="enough"))
    assert "webhook.requested" not in cancelled.types
    event = requested(cancelled.when(report(status="interrupted")))
    assert (event.status, event.error) == ("interrupted", {"error": "UserInterrupt", "message": "enough"})


def test_so_it_does_when_the_executor_is_lost() -> None:
    cancelled = given(*idle()).when(hooked()).when(CancelRun(thread_id=T, run_id=R1))
    assert (
        requested(cancelled.when(ExpireLease(thread_id=T, run_id=R1, attempt=1, executor="x"))).status == "interrupted"
    )


def test_the_webhook_of_a_run_rolled_back_is_due_before_its_row_is_gone() -> None:
    scenario = given(*idle()).when(hooked()).when(CancelRun(thread_id=T, run_id=R1, action="rollback", reason="oh"))
    scenario.then(
        WebhookRequested(
            thread_id=T, run_id=R1, url=URL, status="rollback", error={"error": "UserRollback", "message": "oh"}
        ),
        RunRolledBack(thread_id=T, run_id=R1, cancel_reason="oh", stopping=True),
    )
    assert "webhook.requested" not in scenario.when(report(status="interrupted")).types


def test_a_run_cancelled_before_its_turn_has_no_webhook() -> None:
    scenario = given(*idle()).when(hooked()).when(hooked(R2)).when(CancelRun(thread_id=T, run_id=R2))
    assert "webhook.requested" not in scenario.types


def test_a_deleted_run_has_no_webhook() -> None:
    scenario = given(*idle()).when(hooked()).when(DeleteRun(thread_id=T, run_id=R1)).when(report(status="interrupted"))
    assert "webhook.requested" not in scenario.types


def test_lost_attempts_end_in_a_webhook_that_says_error() -> None:
    lost = ExpireLease(thread_id=T, run_id=R1, attempt=1, executor="x", max_attempts=1)
    event = requested(given(*idle()).when(hooked()).when(lost))
    assert event.status == "error" and event.error is not None and event.error["error"] == "RunAttemptsExhausted"


def test_a_temporary_thread_keeps_its_webhook_when_it_goes() -> None:
    scenario = given().when(hooked(temporary=True)).when(report(status="success"))
    assert scenario.types[-2:] == ["webhook.requested", "thread.deleted"]
    scenario.when(told("delivered", status=200)).then(WebhookDelivered(thread_id=T, run_id=R1, attempt=1, status=200))


def test_attempts_follow_each_other_until_one_is_taken() -> None:
    failed = WebhookFailed(thread_id=T, run_id=R1, attempt=1, status=503, reason="no", due_at=at(9))
    scenario = ended().when(told("failed", status=503, reason="no", due_at=at(9))).then(failed)
    scenario.when(told("delivered", 1)).then(ReportFenced(run_id=R1, attempt=1))
    scenario.when(told("delivered", 2, status=200)).then(
        WebhookDelivered(thread_id=T, run_id=R1, attempt=2, status=200)
    )
    scenario.when(told("failed", 3, due_at=at(9))).then(ReportFenced(run_id=R1, attempt=3))


def test_a_failure_without_a_next_time_or_after_too_many_attempts_is_the_end() -> None:
    ended().when(told("failed", reason="no")).then(WebhookDead(thread_id=T, run_id=R1, attempt=1, reason="no"))
    scenario = ended()
    for attempt in range(1, ATTEMPTS):
        scenario.when(told("failed", attempt, due_at=at(9)))
    scenario.when(told("failed", ATTEMPTS, due_at=at(9))).then(WebhookDead(thread_id=T, run_id=R1, attempt=ATTEMPTS))


def test_webhooks_that_wait_are_given_up_with_their_thread() -> None:
    ended().when(DeleteThread(thread_id=T)).then(
        WebhookDead(thread_id=T, run_id=R1, attempt=1, reason="its thread was deleted"), ThreadDeleted(thread_id=T)
    )


def test_a_thread_has_only_so_many_webhooks_that_wait() -> None:
    scenario = given(*idle())
    for n in range(PENDING + 1):
        run_id = f"{R3[:-4]}{n:04d}"
        scenario.when(hooked(run_id)).when(report(run_id, status="success"))
    assert len(scenario.thread.webhooks) == PENDING
    assert scenario.types == ["run.succeeded", "webhook.dead", "webhook.requested", "thread.status_changed"]


def test_a_url_may_be_only_so_long() -> None:
    run = {"kwargs": {"webhook": "https://" + "x" * limits.WEBHOOK_CHARACTERS}}
    with pytest.raises(ValueError, match="webhook"):
        limits.check_limits(CreateRun(thread_id=T, run_id=R1, graph_id="g", run=run))
