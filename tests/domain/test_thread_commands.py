"""Threads: create, update, delete, copy, prune."""

from __future__ import annotations

from tests.domain.scenario import R1, T, checkpoint, create, given, idle, pending, report, running
from threadlog.engine.domain.commands import CreateThread, DeleteThread, ImportCheckpoints, PruneThread, UpdateThread
from threadlog.engine.domain.events import (
    CheckpointSaved,
    CommandRepeated,
    Event,
    ThreadCreated,
    ThreadDeleted,
    ThreadPruned,
    ThreadUpdated,
)

BUSY = "Thread is already running a task."


def test_a_thread_is_created_with_its_metadata_and_ttl() -> None:
    ttl = {"strategy": "delete", "ttl": 5}
    given().when(CreateThread(thread_id=T, metadata={"a": 1}, ttl=ttl)).then(
        ThreadCreated(thread_id=T, metadata={"a": 1}, ttl=ttl)
    )


def test_an_existing_thread_is_a_conflict() -> None:
    given(*idle()).when(CreateThread(thread_id=T)).then_rejected("conflict", f"Thread with ID {T} already exists")


def test_an_existing_thread_is_left_untouched_with_do_nothing() -> None:
    given(*idle()).when(CreateThread(thread_id=T, if_exists="do_nothing")).then()


def test_a_copy_starts_with_the_status_and_interrupts_of_its_source() -> None:
    interrupts = {"t": [{"id": "i", "value": 1}]}
    copy = CreateThread(thread_id=T, copied_from=R1, status="interrupted", interrupts=interrupts, config={"tags": []})
    story = given().when(copy)
    story.then(
        ThreadCreated(thread_id=T, copied_from=R1, status="interrupted", interrupts=interrupts, config={"tags": []})
    )
    assert story.thread.status == "interrupted"


def test_metadata_and_ttl_are_updated() -> None:
    given(*idle()).when(UpdateThread(thread_id=T, metadata={"b": None}, ttl={"ttl": 1})).then(
        ThreadUpdated(thread_id=T, metadata={"b": None}, ttl={"ttl": 1})
    )


def test_an_unknown_thread_is_not_found() -> None:
    for command in (UpdateThread(thread_id=T), DeleteThread(thread_id=T), PruneThread(thread_id=T),
                    ImportCheckpoints(thread_id=T, items=[])):  # fmt: skip
        given().when(command).then_rejected("not_found", f"Thread with ID {T} not found")


def test_deleting_a_busy_thread_frees_it_of_everything() -> None:
    story = given(*running()).when(create(run_id="00000000-0000-4000-8000-000000000002"))
    story.when(DeleteThread(thread_id=T)).then(ThreadDeleted(thread_id=T))
    assert story.thread.slot is None and not story.thread.queue and story.thread.deleted
    story.when(report(status="success"))
    assert story.types == ["report.fenced"]


def test_deleting_twice_is_not_found() -> None:
    given(*idle(), ThreadDeleted(thread_id=T)).when(DeleteThread(thread_id=T)).then_rejected("not_found", T)


def test_a_deleted_thread_can_be_created_again() -> None:
    story = given(*idle(), ThreadDeleted(thread_id=T)).when(CreateThread(thread_id=T))
    story.then(ThreadCreated(thread_id=T))
    assert story.thread.exists and not story.thread.deleted


def test_a_repeated_creation_does_not_bring_a_deleted_thread_back() -> None:
    story = given().when(CreateThread(thread_id=T), id="first").when(DeleteThread(thread_id=T))
    story.when(CreateThread(thread_id=T), id="first").then(CommandRepeated())
    assert story.thread.deleted


def test_a_refused_command_is_decided_anew_when_it_is_repeated() -> None:
    story = given().when(UpdateThread(thread_id=T), id="x")
    story.when(CreateThread(thread_id=T)).when(UpdateThread(thread_id=T), id="x").then(ThreadUpdated(thread_id=T))


def test_pruning_keeps_away_from_runs_in_flight() -> None:
    given(*idle()).when(PruneThread(thread_id=T)).then(ThreadPruned(thread_id=T))
    given(*running()).when(PruneThread(thread_id=T)).then_rejected("conflict", BUSY)
    delayed: Event = pending(R1, due_at="2027-01-01T00:00:00+00:00")
    given(*idle(), delayed).when(PruneThread(thread_id=T)).then_rejected("conflict", BUSY)


def test_imported_checkpoints_belong_to_no_run() -> None:
    story = given(*idle()).when(ImportCheckpoints(thread_id=T, items=[checkpoint("cp1")]))
    story.then(CheckpointSaved(thread_id=T, checkpoint_id="cp1"))
    assert story.thread.checkpoints


def test_nothing_is_imported_while_a_run_holds_the_thread() -> None:
    given(*running()).when(ImportCheckpoints(thread_id=T, items=[checkpoint()])).then_rejected("conflict", BUSY)
