"""Threads that expire: what the decider makes of a sweep that may be out of date."""

from __future__ import annotations

import pytest

from tests.domain.scenario import R1, R2, T, at, create, given, idle, report, running
from threadlog.engine.domain.commands import (
    CancelRun,
    CreateRun,
    CreateThread,
    ExpireThread,
    JsonObject,
    UpdateState,
    UpdateThread,
)
from threadlog.engine.domain.events import ThreadCreated, ThreadDeleted, ThreadExpired, ThreadPruned, ThreadUpdated
from threadlog.engine.domain.expiry import MOST_MINUTES
from threadlog.engine.domain.limits import check_limits

DELETE: JsonObject = {"strategy": "delete", "ttl": 0.5}
KEEP: JsonObject = {"strategy": "keep_latest", "ttl": 0.5}
EXPIRE = ExpireThread(thread_id=T)


def test_an_idle_thread_is_deleted_once_its_time_is_over_not_before() -> None:
    thread = given(*idle(ttl=DELETE))
    thread.when(EXPIRE, at_=at(29)).then_rejected("conflict", "has not expired")
    thread.when(EXPIRE, at_=at(30)).then(ThreadExpired(thread_id=T, ttl=DELETE), ThreadDeleted(thread_id=T))
    thread.when(EXPIRE, at_=at(31)).then_rejected("not_found", T)


def test_or_pruned_and_then_left_until_something_happens_on_it() -> None:
    thread = given(*idle(ttl=KEEP))
    thread.when(EXPIRE, at_=at(30)).then(ThreadPruned(thread_id=T), ThreadExpired(thread_id=T, ttl=KEEP))
    thread.when(EXPIRE, at_=at(59)).then_rejected("conflict", "has not expired")
    thread = given(*idle(ttl=KEEP), ThreadExpired(thread_id=T, ttl=KEEP))
    thread.when(UpdateThread(thread_id=T), at_=at(10))
    thread.when(EXPIRE, at_=at(39)).then_rejected("conflict", "has not expired")
    assert thread.when(EXPIRE, at_=at(40)).types == ["thread.pruned", "thread.expired"]


def test_a_thread_without_a_ttl_never_expires_and_a_later_ttl_counts_from_when_it_is_given() -> None:
    thread = given(*idle())
    thread.when(EXPIRE, at_=at(59)).then_rejected("conflict", "has not expired")
    thread.when(UpdateThread(thread_id=T, ttl=DELETE), at_=at(20)).then(ThreadUpdated(thread_id=T, ttl=DELETE))
    thread.when(EXPIRE, at_=at(49)).then_rejected("conflict", "has not expired")
    assert thread.when(EXPIRE, at_=at(50)).types == ["thread.expired", "thread.deleted"]


def test_activity_restarts_the_clock_even_after_a_sweep_has_found_the_thread() -> None:
    thread = given(*idle(ttl=DELETE))
    thread.when(create(R1), at_=at(31))
    thread.when(EXPIRE, at_=at(32)).then_rejected("conflict", "already running")
    thread.when(report(R1, status="success"), at_=at(33))
    thread.when(EXPIRE, at_=at(34)).then_rejected("conflict", "has not expired")
    assert "thread.deleted" in thread.when(EXPIRE, at_="2026-11-21T10:01:03.000000+00:00").types


@pytest.mark.parametrize(
    "waiting",
    [create(R2, due_at="2026-11-22T10:00:00+00:00"), UpdateState(thread_id=T, job_id=R2, graph_id="g", supersteps=[])],
    ids=["a delayed run", "a state update"],
)
def test_what_waits_keeps_a_thread(waiting: CreateRun | UpdateState) -> None:
    thread = given(*idle(ttl=DELETE)).when(waiting, at_=at(1))
    thread.when(EXPIRE, at_=at(59)).then_rejected("conflict", "already running")


def test_a_run_that_has_not_let_go_keeps_its_thread() -> None:
    thread = given(*running(), ThreadUpdated(thread_id=T, ttl=DELETE))
    thread.when(CancelRun(thread_id=T, run_id=R1), at_=at(1))
    thread.when(EXPIRE, at_=at(59)).then_rejected("conflict", "already running")


def test_a_run_gives_the_thread_it_creates_its_ttl() -> None:
    events = given().when(create(R1, create_thread={}, thread_ttl=KEEP)).events
    assert events[0] == ThreadCreated(thread_id=T, ttl=KEEP)


def test_a_sweep_that_is_told_twice_changes_nothing_the_second_time() -> None:
    thread = given(*idle(ttl=KEEP))
    thread.when(EXPIRE, id="ttl:x", at_=at(30))
    assert thread.when(EXPIRE, id="ttl:x", at_=at(59)).types == ["command.repeated"]


@pytest.mark.parametrize(
    "ttl",
    [{}, {"ttl": 0}, {"ttl": -1}, {"ttl": "5"}, {"ttl": True}, {"ttl": MOST_MINUTES * 2}, {**DELETE, "strategy": "x"}],
)
def test_a_ttl_that_is_none_is_refused_and_does_no_harm_in_an_old_log(ttl: JsonObject) -> None:
    for command in (
        CreateThread(thread_id=T, ttl=ttl),
        UpdateThread(thread_id=T, ttl=ttl),
        create(R1, create_thread={}, thread_ttl=ttl),
    ):
        with pytest.raises(ValueError, match="ttl"):
            check_limits(command)
    given(*idle(ttl=ttl)).when(EXPIRE, at_=at(59)).then_rejected("conflict", "has not expired")
