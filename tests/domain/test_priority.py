"""How urgent the runs of a thread are: set by its first run that says so, on every attempt from then on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.domain.scenario import R1, R2, T, create, given, idle, report
from threadlog.engine.domain.commands import ExpireLease
from threadlog.engine.domain.events import RunCreated, RunScheduled
from threadlog.engine.domain.limits import check_limits
from threadlog.engine.domain.priority import CRON_GROUP, DEFAULT_GROUP, Priority, check_priority

URGENT = {"priority": -5, "fairness_group": "ann"}


def scheduled(events: list[Any]) -> RunScheduled:
    return next(event for event in events if isinstance(event, RunScheduled))


def test_the_first_run_gives_its_thread_a_priority_which_every_attempt_has() -> None:
    thread = given(*idle()).when(create(R1, priority=URGENT))
    assert scheduled(thread.events) == RunScheduled(
        thread_id=T, run_id=R1, attempt=1, fresh=True, priority=-5, fairness_group="ann"
    )
    again = thread.when(ExpireLease(thread_id=T, run_id=R1, attempt=1, executor="x")).events
    assert (scheduled(again).attempt, scheduled(again).priority) == (2, -5)
    thread.when(create(R2))
    following = thread.when(report(R1, attempt=2, status="success")).events
    assert (scheduled(following).run_id, scheduled(following).fairness_group) == (R2, "ann")


def test_a_thread_keeps_the_priority_it_has() -> None:
    thread = given(*idle()).when(create(R1, priority=URGENT)).when(report(R1, status="success"))
    events = thread.when(create(R2, priority={"priority": 3})).events
    assert next(event for event in events if isinstance(event, RunCreated)).priority is None
    assert scheduled(events).priority == -5
    assert thread.thread.priority == Priority(-5, "ann")


def test_without_one_nothing_is_said_of_it() -> None:
    thread = given(*idle()).when(create(R1))
    assert scheduled(thread.events) == RunScheduled(thread_id=T, run_id=R1, attempt=1, fresh=True)


@pytest.mark.parametrize("nothing", [None, {}, {"priority": None, "fairness_group": ""}], ids=str)
def test_what_a_function_leaves_out_has_its_default(nothing: Any) -> None:
    assert check_priority(nothing) == Priority(0, "default")


@pytest.mark.parametrize(
    "wrong",
    [7, {"priority": 6}, {"priority": -6}, {"priority": 1.0}, {"priority": True}, {"fairness_group": "x" * 257}],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_priority_out_of_range_is_refused_and_does_no_harm_in_a_log(wrong: Any) -> None:
    with pytest.raises(ValueError, match="priority"):
        check_priority(wrong)
    if isinstance(wrong, dict):
        with pytest.raises(ValueError, match="priority"):
            check_limits(create(R1, priority=wrong))
        assert scheduled(given(*idle()).when(create(R1, priority=wrong)).events).priority == 0


def test_a_run_of_a_cron_starts_in_turn_with_those_of_clients() -> None:
    cron = {"cron_id": T, "cron_due_at": "2026-01-01T00:00:00+00:00"}
    thread = given(*idle()).when(create(R1, **cron))
    assert scheduled(thread.events).fairness_group == CRON_GROUP
    again = thread.when(ExpireLease(thread_id=T, run_id=R1, attempt=1, executor="x")).events
    assert (scheduled(again).attempt, scheduled(again).fairness_group) == (2, CRON_GROUP)
    thread.when(create(R2))
    following = thread.when(report(R1, attempt=2, status="success")).events
    assert (scheduled(following).run_id, scheduled(following).fairness_group) == (R2, DEFAULT_GROUP)


def test_a_run_of_a_cron_has_the_settings_of_its_thread() -> None:
    thread = given(*idle()).when(create(R1, priority=URGENT)).when(report(R1, status="success"))
    cron = {"cron_id": T, "cron_due_at": "2026-01-01T00:00:00+00:00"}
    assert scheduled(thread.when(create(R2, **cron)).events).fairness_group == "ann"
