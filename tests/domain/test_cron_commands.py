"""What a cron, and the thread that its runs are on, decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.domain.scenario import R1, R2, T, at, create, given, idle, running
from threadlog.engine.domain.commands import CreateCron, DeleteCron, FireCron, RecordCronRun, UpdateCron
from threadlog.engine.domain.events import (
    CommandRepeated,
    CronCreated,
    CronDeleted,
    CronEnded,
    CronFired,
    CronRunCreated,
    CronRunRefused,
    CronUpdated,
    Event,
    RunRefused,
)

C = "00000000-0000-7000-8000-0000000000cc"
A = "00000000-0000-4000-8000-0000000000aa"
KEY = f"cron:{C}"


def made(**fields: Any) -> Event:
    return CronCreated(**{"cron_id": C, "assistant_id": A, "schedule": "* * * * *", "next_due_at": at(10)} | fields)


def fired(**fields: Any) -> Event:
    return CronFired(**{"cron_id": C, "due_at": at(10), "run_id": R1, "thread_id": T, "next_due_at": at(20)} | fields)


def fire(**fields: Any) -> FireCron:
    return FireCron(**{"cron_id": C, "due_at": at(10), "run_id": R1, "thread_id": T, "next_due_at": at(20)} | fields)


def test_a_cron_fires_once_at_its_time() -> None:
    given(made(), key=KEY).when(fire()).then(fired())
    given(made(), fired(), key=KEY).when(fire()).then()
    given(made(), key=KEY).when(fire(due_at=at(11))).then()


def test_it_does_not_fire_again_before_the_last_firing_is_recorded() -> None:
    following = fire(due_at=at(20), run_id=R2, next_due_at=at(30))
    given(made(), fired(), key=KEY).when(following).then()
    given(made(), fired(), CronRunCreated(cron_id=C, due_at=at(10)), key=KEY).when(following).then(
        fired(due_at=at(20), run_id=R2, next_due_at=at(30))
    )


def test_what_became_of_a_firing_is_recorded_once() -> None:
    record = RecordCronRun(cron_id=C, due_at=at(10))
    created = CronRunCreated(cron_id=C, due_at=at(10))
    given(made(), fired(), key=KEY).when(record).then(created)
    given(made(), fired(), created, key=KEY).when(record).then()
    refused = RecordCronRun(cron_id=C, due_at=at(10), error={"error": "conflict", "message": "busy"})
    given(made(), fired(), key=KEY).when(refused).then(CronRunRefused(cron_id=C, due_at=at(10), error=refused.error))


def test_a_disabled_cron_does_not_fire() -> None:
    disabled = UpdateCron(cron_id=C, version=1, enabled=False, reschedules=True)
    off = CronUpdated(cron_id=C, version=2, enabled=False, reschedules=True)
    given(made(), key=KEY).when(disabled).then(off)
    given(made(), off, key=KEY).when(fire()).then()


def test_a_next_time_found_from_what_was_updated_meanwhile_is_a_conflict() -> None:
    cron = given(made(), CronUpdated(cron_id=C, version=2), key=KEY)
    cron.when(UpdateCron(cron_id=C, version=1, reschedules=True)).then_rejected(
        "conflict", f"Cron with ID {C} has been updated meanwhile"
    )
    merged = CronUpdated(cron_id=C, version=3, metadata={"a": 1})
    cron.when(UpdateCron(cron_id=C, version=1, metadata={"a": 1})).then(merged)


def test_a_time_for_which_it_has_fired_is_no_next_time_again() -> None:
    """A client has found it just before; the owner's command for it is known, and would never move the cron on."""
    again = UpdateCron(cron_id=C, version=1, enabled=True, reschedules=True, next_due_at=at(10))
    later = UpdateCron(cron_id=C, version=1, enabled=True, reschedules=True, next_due_at=at(11))
    updated = CronUpdated(cron_id=C, version=2, enabled=True, reschedules=True, next_due_at=at(10))
    given(made(), key=KEY).when(again).then(updated)
    given(made(), fired(), key=KEY).when(again).then_rejected("conflict", f"Cron with ID {C} has fired meanwhile")
    given(made(), fired(), key=KEY).when(later).then(replace(updated, next_due_at=at(11)))
    given(made(), fired(), key=KEY).when(UpdateCron(cron_id=C, version=1)).then(CronUpdated(cron_id=C, version=2))


def test_a_time_missed_until_long_after_the_end_is_not_made_up_for() -> None:
    ending = made(end_time=at(10))
    given(ending, key=KEY).when(fire(next_due_at=None), at_=at(30)).then(fired(next_due_at=None))
    later = "2027-01-01T00:00:00.000000+00:00"
    given(ending, key=KEY).when(fire(next_due_at=None), at_=later).then(CronEnded(cron_id=C, due_at=at(10)))


def test_a_deleted_cron_knows_nothing_any_more() -> None:
    given(made(), key=KEY).when(DeleteCron(cron_id=C)).then(CronDeleted(cron_id=C))
    given(made(), CronDeleted(cron_id=C), key=KEY).when(fire()).then_rejected(
        "not_found", f"Cron with ID {C} not found"
    )
    again = CreateCron(cron_id=C, assistant_id=A, schedule="* * * * *")
    given(made(), key=KEY).when(again).then_rejected("conflict", f"Cron with ID {C} already exists")


def test_a_thread_remembers_the_last_run_of_a_cron_however_many_runs_follow() -> None:
    command = create(R1, cron_id=C, cron_due_at=at(10))
    thread = given(*idle()).when(command)
    thread.when(create(R1, cron_id=C, cron_due_at=at(10)), id="again").then(CommandRepeated())
    for n in range(20):
        thread.when(create(f"00000000-0000-7000-8000-{n:012d}"))
    thread.when(create(R2, cron_id=C, cron_due_at=at(10)), id="and again").then(CommandRepeated())


def test_the_refusal_of_a_crons_run_is_remembered() -> None:
    busy = create(R2, multitask_strategy="reject", cron_id=C, cron_due_at=at(10))
    refused = given(*running(R1)).when(busy)
    (refusal,) = refused.events
    assert isinstance(refusal, RunRefused)
    refused.when(busy, id="again").then_rejected("conflict", refusal.detail)
