"""What the end of a run leaves on the tasks it had under way, before its executor has reported and after."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.projections.conftest import Tables, Tell
from tests.projections.run_script import (
    R1,
    R2,
    RunScript,
    T,
    at,
    ckpt,
    created,
    ended,
    saved,
    scheduled,
    status,
    tables,
    told,
)

NEW_THREAD = {"type": "thread.created", "thread_id": T}
CANCELLED = {
    "type": "run.interrupted", "thread_id": T, "run_id": R1, "stopping": True, "cancel_reason": "enough",
    "tasks_error": "CancelledError()",
}  # fmt: skip
STOPPED = {"type": "run.stopped", "thread_id": T, "run_id": R1, "attempt": 1}


def planned(n: int, *tasks: str) -> dict[str, Any]:
    listed = [{"id": task, "name": task} for task in tasks]
    return {"type": "tasks.planned", "thread_id": T, "run_id": R1, "checkpoint_id": ckpt(n), "tasks": listed, "out": []}


def wrote(n: int, task: str, channel: str, run_id: str = R1, value: str = "x") -> dict[str, Any]:
    idx = {"__error__": -1, "__interrupt__": -3, "__resume__": -4}.get(channel, 0)
    return {
        "type": "writes.saved", "thread_id": T, "run_id": run_id, "checkpoint_id": ckpt(n), "task_id": task,
        "writes": [[idx, channel, {"t": "msgpack", "b": value}]],
    }  # fmt: skip


def begun() -> RunScript:
    return RunScript().then(NEW_THREAD, created(), scheduled(), status("busy"))


def errors(found: Tables) -> dict[tuple[str, str], str]:
    """The errors of tasks, by checkpoint and task."""
    return {
        (row["checkpoint_id"], row["task_id"]): json.loads(row["value"])["b"]
        for row in found["checkpoint_writes"]
        if row["channel"] == "__error__"
    }


MARK = "sENhbmNlbGxlZEVycm9yKCk="  # what the default serializer makes of CancelledError()


async def test_tasks_under_way_are_cancelled_with_their_run(tell: Tell) -> None:
    story = begun().then(saved(0), planned(0, "first"), saved(1), planned(1, "hold", "other")).then(CANCELLED)
    found = await tell(story)
    assert errors(found) == {(ckpt(1), "hold"): MARK, (ckpt(1), "other"): MARK}
    assert [run["cancel_reason"] for run in found["runs"]] == ["enough"]


async def test_it_is_so_in_one_record_too(tell: Tell) -> None:
    found = await tell(begun().then(saved(0), planned(0, "hold"), CANCELLED, status("busy", error={"error": "E"})))
    assert errors(found) == {(ckpt(0), "hold"): MARK}
    found["threads"][0]["error"] = json.loads(found["threads"][0]["error"])
    assert found["threads"][0]["error"] == {"error": "E"}


async def test_what_finished_failed_or_asked_in_this_run_was_not_under_way(tell: Tell) -> None:
    story = begun().then(saved(0), planned(0, "done", "failed", "asks", "hold"))
    story.then(wrote(0, "done", "items"), wrote(0, "failed", "__error__"), wrote(0, "asks", "__interrupt__"), CANCELLED)
    assert errors(await tell(story)) == {(ckpt(0), "failed"): "x", (ckpt(0), "hold"): MARK}


async def test_a_question_of_an_earlier_run_is_under_way_while_it_is_answered(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(R2), scheduled(R2), saved(0, run_id=R2), planned(0, "ask"))
    story.then(wrote(0, "ask", "__interrupt__", R2), ended(R2), status("interrupted"))
    story.then(created(), scheduled(), wrote(0, "ask", "__resume__"), CANCELLED)
    assert errors(await tell(story)) == {(ckpt(0), "ask"): MARK}


async def test_tasks_that_the_run_has_not_begun_with_are_left_alone(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(R2), scheduled(R2), saved(0, run_id=R2), planned(0, "ask"))
    story.then(wrote(0, "ask", "__interrupt__", R2), ended(R2), status("interrupted"), created(), scheduled())
    assert errors(await tell(story.then(CANCELLED))) == {}


async def test_a_run_that_waited_has_its_reason_only(tell: Tell) -> None:
    story = RunScript().then(NEW_THREAD, created(due_at=at(60)), status("busy"))
    story.then({k: v for k, v in CANCELLED.items() if k not in ("stopping", "tasks_error")}, status("idle"))
    found = await tell(story)
    assert errors(found) == {} and found["runs"][0]["cancel_reason"] == "enough"


async def test_a_task_that_got_to_its_end_before_it_stopped_was_not_cancelled(tell: Tell) -> None:
    story = begun().then(saved(0), planned(0, "done", "asks", "hold")).then(CANCELLED)
    story.then(wrote(0, "done", "items"), wrote(0, "asks", "__interrupt__"), STOPPED, status("interrupted"))
    assert errors(await tell(story)) == {(ckpt(0), "hold"): MARK}


async def test_so_does_one_whose_superstep_was_the_last(tell: Tell) -> None:
    story = begun().then(saved(0), planned(0, "hold")).then(CANCELLED)
    story.then(wrote(0, "hold", "items"), saved(1), planned(1), STOPPED, status("idle"))
    assert errors(await tell(story)) == {}


async def test_what_an_earlier_run_left_is_not_touched_when_a_later_one_stops(tell: Tell) -> None:
    story = begun().then(saved(0), planned(0, "hold")).then(CANCELLED, STOPPED, status("interrupted"))
    story.then(created(R2), scheduled(R2), wrote(0, "hold", "items", R2))
    story.then({**CANCELLED, "run_id": R2}, {**STOPPED, "run_id": R2})
    assert errors(await tell(story)) == {(ckpt(0), "hold"): MARK}


async def test_a_run_that_lost_all_its_executors_leaves_that_on_its_tasks(tell: Tell) -> None:
    story = begun().then(saved(0), planned(0, "hold"))
    error = {"error": "RunAttemptsExhausted", "message": "m"}
    story.then(ended(kind="run.failed", error=error, tasks_error="RunAttemptsExhausted()"), status("error"))
    assert list(errors(await tell(story))) == [(ckpt(0), "hold")]


@pytest.mark.parametrize("gone", ["thread.deleted", "run.deleted", "run.rolled_back"])
async def test_an_end_and_a_loss_in_one_record(tell: Tell, gone: str) -> None:
    story = begun().then(saved(0), planned(0, "hold"))
    story.then(CANCELLED, {"type": gone, "thread_id": T, "run_id": R1})
    found = await tell(story)
    assert found["checkpoint_writes"] == [] and found["checkpoints"] == []


async def test_an_old_log_is_projected_as_it_was(conn: Any) -> None:
    story = begun().then(saved(0), planned(0, "hold"))
    story.then({"type": "run.interrupted", "thread_id": T, "run_id": R1, "stopping": True}, STOPPED)
    await told(conn, [story.accepted])
    found = await tables(conn)
    assert errors(found) == {} and found["runs"][0]["cancel_reason"] is None
