"""What each event does to the read models, one record per transaction and all records in one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.projections.run_script import (
    R1,
    R2,
    R3,
    T2,
    A,
    RunScript,
    T,
    at,
    ckpt,
    created,
    ended,
    saved,
    scheduled,
    status,
    told,
    wrote,
)
from threadlog.projections.fold.project import UnknownEvent, fold, fold_by_key

Tables = dict[str, list[dict[str, Any]]]
Tell = Callable[..., Awaitable[Tables]]


def only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(rows) == 1, rows
    return rows[0]


NEW_THREAD = {"type": "thread.created", "thread_id": T, "metadata": {"a": 1}}


async def test_a_created_run_is_pending_and_queued_and_its_thread_busy(tell: Tell) -> None:
    story = RunScript().then(
        NEW_THREAD,
        created(thread_metadata={"graph_id": "g"}, thread_config={"tags": ["x"]}, stream_from=7),
        scheduled(fresh=True),
        status("busy"),
    )
    found = await tell(story)
    thread, run, queued = only(found["threads"]), only(found["runs"]), only(found["run_queue"])
    assert thread["status"] == "busy" and thread["created_at"].isoformat(timespec="microseconds") == at(0)
    assert json.loads(thread["metadata"]) == {"a": 1, "graph_id": "g"}
    assert json.loads(thread["config"]) == {"tags": ["x"]}
    assert (run["status"], run["attempt"], str(run["assistant_id"]), run["stream_from"]) == ("pending", 1, A, 7)
    assert json.loads(run["kwargs"]) == {"input": {"x": 1}}
    assert (str(queued["run_id"]), queued["p"], queued["graph_id"], queued["fresh"]) == (R1, 3, "g", True)
    assert json.loads(only(found["aggregates"])["state"]) == {"n": 0}


async def test_a_finished_run_leaves_the_queue_and_its_state_on_the_thread(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(), scheduled(), status("busy"))
    story.then({"type": "run.started", "thread_id": T, "run_id": R1, "attempt": 1, "executor": "e"}, saved(0))
    story.then(saved(1), saved(2), ended(frames=5), status("idle", interrupts={}))
    found = await tell(story)
    thread, run = only(found["threads"]), only(found["runs"])
    assert (thread["status"], thread["checkpoint_id"]) == ("idle", ckpt(2))
    assert thread["state_updated_at"].isoformat(timespec="microseconds") == at(2)
    assert (run["status"], run["frames"]) == ("success", 5)
    assert found["run_queue"] == []
    assert [c["checkpoint_id"] for c in found["checkpoints"]] == [ckpt(0), ckpt(1), ckpt(2)]
    assert [bytes(v["data"]) for v in found["channel_values"]] == [b"hello"] * 3


async def test_a_final_status_is_never_changed(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(), scheduled())
    story.then({"type": "run.interrupted", "thread_id": T, "run_id": R1, "stopping": True})
    story.then({"type": "run.started", "thread_id": T, "run_id": R1, "attempt": 1, "executor": "e"})
    story.then(ended(kind="run.failed", error={"error": "E", "message": "m"}, frames=3))
    run = only((await tell(story))["runs"])
    assert (run["status"], run["error"]) == ("interrupted", None)


async def test_a_stopping_run_keeps_its_place_until_its_executor_lets_go(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(), scheduled())
    story.then({"type": "run.interrupted", "thread_id": T, "run_id": R1, "stopping": True})
    assert only((await tell(story))["run_queue"])["cancel"] == "interrupt"


async def test_a_stopped_run_tells_its_frames_and_leaves_the_queue(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(), scheduled())
    story.then({"type": "run.interrupted", "thread_id": T, "run_id": R1, "stopping": True})
    story.then({"type": "run.stopped", "thread_id": T, "run_id": R1, "attempt": 1, "frames": 4})
    found = await tell(story)
    assert found["run_queue"] == [] and only(found["runs"])["frames"] == 4


async def test_a_cancelled_pending_run_is_interrupted_and_its_timer_gone(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(due_at=at(60)), status("busy"))
    story.then({"type": "run.interrupted", "thread_id": T, "run_id": R1}, status("idle"))
    found = await tell(story)
    assert only(found["runs"])["status"] == "interrupted" and found["timers"] == []


async def test_a_delayed_run_has_a_timer_until_it_fires(tell: Tell) -> None:
    timer = only((await tell(RunScript().then(NEW_THREAD, created(due_at=at(60)))))["timers"])
    assert (timer["id"], timer["key"], timer["type"], timer["p"]) == (f"due:{R1}", T, "run.due", 3)
    assert timer["due_at"].isoformat(timespec="microseconds") == at(60)
    assert json.loads(timer["body"]) == {"thread_id": T, "run_id": R1}


async def test_a_timer_that_fired_is_gone_whatever_was_decided(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(due_at=at(60)))
    story.then({"type": "command.repeated"}, cmd_id=f"due:{R1}")
    assert (await tell(story))["timers"] == []


async def test_rollback_takes_the_run_its_checkpoints_writes_and_values(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(R1), scheduled(R1), saved(0), saved(1), ended(R1))
    story.then(created(R2), scheduled(R2), saved(2, R2), wrote(1, 0, {"h": "value-2"}, R2), wrote(1, 0, {"h": "x"}, R1))
    story.then({"type": "run.rolled_back", "thread_id": T, "run_id": R2, "stopping": True})
    found = await tell(story)
    assert [str(run["run_id"]) for run in found["runs"]] == [R1]
    assert [c["checkpoint_id"] for c in found["checkpoints"]] == [ckpt(0), ckpt(1)]
    assert found["checkpoint_writes"] == []
    assert [v["hash"] for v in found["channel_values"]] == ["value-0", "value-1"]
    assert only(found["threads"])["checkpoint_id"] == ckpt(1)
    queued = only(found["run_queue"])
    assert (str(queued["run_id"]), queued["cancel"]) == (R2, "rollback")


async def test_a_run_deleted_before_it_started_leaves_nothing(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(due_at=at(60)), scheduled())
    story.then({"type": "run.deleted", "thread_id": T, "run_id": R1})
    found = await tell(story)
    assert found["runs"] == found["run_queue"] == found["timers"] == []


async def test_values_that_are_still_referred_to_survive_a_loss(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, saved(0, None, channels={"c": {"s": [["value-0", 2]]}}))
    story.then(created(R1), scheduled(R1), saved(1, R1), saved(2, R1, channels={"c": {"h": "value-0"}}), ended(R1))
    story.then(wrote(0, -1, {"h": "value-1"}, None))
    story.then({"type": "checkpoints.deleted", "thread_id": T, "run_ids": [R1]})
    found = await tell(story)
    assert [v["hash"] for v in found["channel_values"]] == ["value-0", "value-1"]


async def test_pruning_keeps_the_newest_checkpoint_of_each_namespace(tell: Tell) -> None:
    story = RunScript().then(
        NEW_THREAD, saved(0), saved(1), saved(2, ns="sub"), saved(3, ns="sub"), wrote(0, 0, {"h": "x"})
    )
    story.then({"type": "thread.pruned", "thread_id": T})
    found = await tell(story)
    assert [(c["ns"], c["checkpoint_id"]) for c in found["checkpoints"]] == [("", ckpt(1)), ("sub", ckpt(3))]
    assert found["checkpoint_writes"] == []
    assert [v["hash"] for v in found["channel_values"]] == ["value-1", "value-3"]
    assert only(found["threads"])["checkpoint_id"] == ckpt(1)


async def test_a_deleted_thread_leaves_a_tombstone_only(tell: Tell) -> None:
    other = {"type": "thread.created", "thread_id": T2}
    story = RunScript().then(NEW_THREAD, created(), scheduled(), saved(0), wrote(0, 0, {"h": "x"}))
    story.then(other, key=T2).then(created(R2, due_at=at(9)))
    story.then({"type": "thread.deleted", "thread_id": T})
    found = await tell(story)
    assert str(only(found["threads"])["thread_id"]) == T2
    for table in ("runs", "run_queue", "timers", "checkpoints", "checkpoint_writes", "channel_values"):
        assert found[table] == [], table
    deleted = {row["key"]: row["deleted_at"] for row in found["aggregates"]}
    assert deleted[T].isoformat(timespec="microseconds") == at(3) and deleted[T2] is None


async def test_a_thread_can_come_back(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, saved(0)).then({"type": "thread.deleted", "thread_id": T})
    story.then({"type": "thread.created", "thread_id": T, "metadata": {"again": True}}, saved(1))
    found = await tell(story)
    assert json.loads(only(found["threads"])["metadata"]) == {"again": True}
    assert only(found["checkpoints"])["checkpoint_id"] == ckpt(1)
    assert only(found["aggregates"])["deleted_at"] is None


async def test_the_next_attempt_is_free_to_claim_and_keeps_what_the_job_is(tell: Tell) -> None:
    requested = {
        "type": "state.update_requested", "thread_id": T, "job_id": R1, "graph_id": "g",
        "supersteps": [{"updates": [{"values": {"x": 1}}]}],
    }  # fmt: skip
    story = RunScript().then(NEW_THREAD).then(requested, scheduled(kind="state_update"))
    story.then(
        {"type": "run.lease_expired", "thread_id": T, "run_id": R1, "attempt": 1, "executor": "e"},
        scheduled(attempt=2, kind="state_update"),
    )
    queued = only((await tell(story))["run_queue"])
    assert (queued["attempt"], queued["kind"], queued["graph_id"], queued["owner"]) == (2, "state_update", "g", None)
    assert json.loads(queued["payload"])["supersteps"] == requested["supersteps"]


async def test_a_finished_state_update_leaves_the_queue(tell: Tell) -> None:
    requested = {"type": "state.update_requested", "thread_id": T, "job_id": R1, "graph_id": "g", "supersteps": []}
    story = RunScript().then(NEW_THREAD).then(requested, scheduled(kind="state_update"))
    story.then(saved(0), {"type": "state.updated", "thread_id": T, "job_id": R1})
    assert (await tell(story))["run_queue"] == []


async def test_a_lost_attempt_waits_again(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(), scheduled())
    story.then({"type": "run.started", "thread_id": T, "run_id": R1, "attempt": 1, "executor": "e"})
    story.then(
        {"type": "run.lease_expired", "thread_id": T, "run_id": R1, "attempt": 1, "executor": "e"}, scheduled(attempt=2)
    )
    run = only((await tell(story))["runs"])
    assert (run["status"], run["attempt"]) == ("pending", 2)


async def test_planned_tasks_belong_to_their_checkpoint_and_survive_saving_it_again(tell: Tell) -> None:
    planned = {
        "type": "tasks.planned", "thread_id": T, "run_id": R1, "checkpoint_id": ckpt(0), "tasks": [{"id": "t"}],
        "out": ["c"], "shown": {"d": {"t": "null", "b": ""}},
    }  # fmt: skip
    found = await tell(RunScript().then(NEW_THREAD, saved(0)).then(planned).then(saved(0, metadata={"again": 1})))
    row = only(found["checkpoints"])
    assert json.loads(row["tasks"]) == [{"id": "t"}] and json.loads(row["out"]) == ["c"]
    assert json.loads(row["metadata"]) == {"again": 1} and json.loads(row["shown"]) == planned["shown"]


async def test_ordinary_writes_stay_and_special_ones_are_replaced(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, saved(0))
    story.then(wrote(0, 0, {"h": "first"}), wrote(0, -3, {"h": "first"}))
    story.then(wrote(0, 0, {"h": "second"}), wrote(0, -3, {"h": "second"}))
    found = {w["idx"]: json.loads(w["value"])["h"] for w in (await tell(story))["checkpoint_writes"]}
    assert found == {0: "first", -3: "second"}


async def test_a_large_value_comes_from_the_values_topic(tell: Tell) -> None:
    async def read(p: int, offset: int) -> bytes:
        assert (p, offset) == (3, 42)
        return b"large"

    story = RunScript().then(NEW_THREAD, saved(0, blobs=[{"h": "value-0", "t": "msgpack+zstd", "at": 42}]))
    value = only((await tell(story, read))["channel_values"])
    assert (value["type"], bytes(value["data"])) == ("msgpack+zstd", b"large")


async def test_a_nul_is_stored_as_the_replacement_character(tell: Tell) -> None:
    story = RunScript().then({**NEW_THREAD, "metadata": {"a\x00": ["b\x00"]}}, saved(0, metadata={"c": "\x00"}))
    found = await tell(story)
    assert json.loads(only(found["threads"])["metadata"]) == {"a\ufffd": ["b\ufffd"]}
    assert json.loads(only(found["checkpoints"])["metadata"]) == {"c": "\ufffd"}


async def test_the_thread_error_is_set_and_cleared(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD).then(status("error", error={"error": "E", "message": "m"}))
    assert json.loads(only((await tell(story))["threads"])["error"])["error"] == "E"


async def test_the_next_status_clears_the_error_and_keeps_interrupts_it_does_not_name(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD).then(status("error", error={"error": "E"}, interrupts={"t": [{"id": "i"}]}))
    thread = only((await tell(story.then(status("busy"))))["threads"])
    assert thread["error"] is None and json.loads(thread["interrupts"]) == {"t": [{"id": "i"}]}


async def test_an_older_checkpoint_does_not_become_the_state(tell: Tell) -> None:
    thread = only((await tell(RunScript().then(NEW_THREAD).then(saved(5)).then(saved(4))))["threads"])
    assert thread["checkpoint_id"] == ckpt(5)
    assert thread["state_updated_at"].isoformat(timespec="microseconds") == at(1)


async def test_updating_a_thread_merges_metadata_and_leaves_the_state_time(tell: Tell) -> None:
    update = {"type": "thread.updated", "thread_id": T, "metadata": {"b": {"c": 1}}, "ttl": {"strategy": "delete"}}
    thread = only((await tell(RunScript().then(NEW_THREAD).then(update)))["threads"])
    assert json.loads(thread["metadata"]) == {"a": 1, "b": {"c": 1}}
    assert thread["updated_at"] > thread["state_updated_at"] == thread["created_at"]
    assert json.loads(thread["ttl"]) == {"strategy": "delete"}


async def test_assistant_versions(tell: Tell) -> None:
    story = RunScript()
    new = {"type": "assistant.created", "assistant_id": A, "graph_id": "g", "metadata": {"a": 1}, "context": {"x": 1}}
    story.then(new, key=A)
    update = {"type": "assistant.updated", "assistant_id": A, "version": 2, "config": {"c": 1}, "metadata": {"b": 2}}
    story.then(update, key=A)
    story.then({"type": "assistant.latest_set", "assistant_id": A, "version": 1}, key=A)
    story.then({"type": "assistant.updated", "assistant_id": A, "version": 3, "name": "third"}, key=A)
    found = await tell(story)
    current = only(found["assistants"])
    assert (current["version"], current["name"], current["graph_id"]) == (3, "third", "g")
    assert json.loads(current["metadata"]) == {"a": 1} and json.loads(current["context"]) == {"x": 1}
    versions = {row["version"]: row for row in found["assistant_versions"]}
    assert sorted(versions) == [1, 2, 3]
    assert json.loads(versions[2]["metadata"]) == {"a": 1, "b": 2} and json.loads(versions[2]["config"]) == {"c": 1}


async def test_a_deleted_assistant_is_gone_with_its_versions(tell: Tell) -> None:
    story = RunScript().then({"type": "assistant.created", "assistant_id": A, "graph_id": "g"}, key=A)
    found = await tell(story.then({"type": "assistant.deleted", "assistant_id": A}, key=A))
    assert found["assistants"] == found["assistant_versions"] == []
    assert only(found["aggregates"])["deleted_at"] is not None


async def test_a_registered_graph_is_replaced(tell: Tell) -> None:
    story = RunScript()
    for digest in ("one", "two"):
        story.then(
            {"type": "graph.registered", "graph_id": "g", "digest": digest, "info": {"d": digest}}, key="graph:g"
        )
    assert only((await tell(story))["graphs"])["digest"] == "two"


async def test_by_key_a_loss_divides_only_the_fold_of_its_thread(tell: Tell) -> None:
    """Two threads take turns; one loses what it saved twice over, the other lives on."""
    other = {"thread_id": T2}
    story = RunScript().then(NEW_THREAD, created(R1), scheduled(R1))
    story.then({**NEW_THREAD, **other}, created(R3, T2), scheduled(R3, thread_id=T2), key=T2)
    story.then(saved(0, R1))
    story.then({**saved(0, R3), **other}, key=T2)
    story.then({"type": "run.rolled_back", "thread_id": T, "run_id": R1})
    story.then({**ended(R3), **other}, status("idle", T2), key=T2)
    story.then(created(R2), scheduled(R2), saved(1, R2))
    story.then({"type": "run.rolled_back", "thread_id": T, "run_id": R2})
    story.then({"type": "thread.updated", "thread_id": T2, "metadata": {"b": 2}}, key=T2)
    in_order, by_key = fold([(3, story.accepted)]), fold_by_key(3, story.accepted)
    assert len(in_order) == len(by_key) == 3
    whole = by_key[0]
    assert whole.threads[T2].status == "idle" and whole.runs[R3].status == "success", "of one fold, in the end state"
    assert whole.threads[T2].metadata == {"a": 1, "b": 2} and not any(T2 in rows.touched_threads for rows in by_key[1:])
    assert in_order[0].runs[R3].status == "pending"
    found = await tell(story)
    assert [str(run["run_id"]) for run in found["runs"]] == [R3]
    assert [(str(c["thread_id"]), str(c["run_id"])) for c in found["checkpoints"]] == [(T2, R3)]
    assert {row["key"] for row in found["aggregates"]} == {T, T2}


def test_by_key_an_unknown_event_is_refused_too() -> None:
    with pytest.raises(UnknownEvent, match=r"thread\.exploded in events\[3\] at offset 1"):
        fold_by_key(3, RunScript().then(NEW_THREAD).then({"type": "thread.exploded"}).accepted)


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(UnknownEvent, match=r"run.teleported in events\[3\]"):
        fold([(3, RunScript().then({"type": "run.teleported"}).accepted)])


async def test_executors_and_waiting_requests_are_told(conn: asyncpg.Connection) -> None:
    heard: list[str] = []
    await conn.add_listener("threadlog_queue", lambda *args: heard.append(args[3]))
    await told(conn, [RunScript().then(NEW_THREAD, created(), scheduled()).accepted])
    await told(
        conn, [RunScript().then({"type": "run.interrupted", "thread_id": T, "run_id": R1, "stopping": True}).accepted]
    )
    await conn.execute("SELECT 1")  # notifications arrive with the next answer at the latest
    assert heard == ["run", f"cancel:{R1}"]
