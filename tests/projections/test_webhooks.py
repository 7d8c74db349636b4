"""Webhooks that wait are rows that outlive their runs and threads, until they are delivered or dead."""

from __future__ import annotations

import json
from typing import Any

from tests.projections.conftest import Tell
from tests.projections.run_script import R1, R2, T2, A, RunScript, T, at, created, ended, scheduled, status

NEW_THREAD = {"type": "thread.created", "thread_id": T}
URL = "https://ann:secret@Hooks.example.org:8443/run?a=1"


def requested(**fields: Any) -> dict[str, Any]:
    event = {"type": "webhook.requested", "thread_id": T, "run_id": R1, "url": URL, "status": "success"}
    return {**event, "started_at": at(1), **fields}


def fate(kind: str, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    return {"type": f"webhook.{kind}", "thread_id": T, "run_id": R1, "attempt": attempt, **fields}


def begun(**fields: Any) -> RunScript:
    return RunScript().then(NEW_THREAD, created(**fields), scheduled(), status("busy"))


async def test_what_the_payload_says_of_the_run_is_copied_when_it_ends(tell: Tell) -> None:
    story = begun().then(ended(), requested(), {"type": "thread.deleted", "thread_id": T})
    tables = await tell(story)
    (row,) = tables["webhooks"]
    assert tables["runs"] == tables["threads"] == []
    assert (str(row["run_id"]), str(row["thread_id"]), row["p"], row["url"]) == (R1, T, 3, URL)
    assert (row["receiver"], row["status"], row["attempt"]) == ("hooks.example.org:8443", "success", 1)
    assert (str(row["assistant_id"]), json.loads(row["kwargs"])) == (A, {"input": {"x": 1}})
    times = [
        row[name].isoformat(timespec="microseconds") for name in ("created_at", "started_at", "ended_at", "due_at")
    ]
    assert times == [at(0), at(1), at(1), at(1)]


async def test_a_run_that_is_rolled_back_leaves_its_webhook(tell: Tell) -> None:
    rolled_back = {"type": "run.rolled_back", "thread_id": T, "run_id": R1, "stopping": True}
    error = {"error": "UserRollback", "message": "a\x00b"}
    told = {**requested(status="rollback", error=error), "started_at": None}
    (row,) = (await tell(begun().then(told, rolled_back)))["webhooks"]
    assert (row["status"], json.loads(row["error"])["message"], row["started_at"]) == ("rollback", "a\ufffdb", None)


async def test_a_failed_attempt_is_followed_by_the_next(tell: Tell) -> None:
    story = (
        begun().then(ended(), requested()).then(fate("failed", due_at=at(30))).then(fate("failed", 2, due_at=at(90)))
    )
    (row,) = (await tell(story))["webhooks"]
    assert (row["attempt"], row["due_at"].isoformat(timespec="microseconds")) == (3, at(90))


async def test_what_is_delivered_is_in_the_log_alone(tell: Tell) -> None:
    story = begun().then(ended(), requested()).then(fate("failed", due_at=at(30)))
    tables = await tell(story.then(fate("delivered", 2, status=200)))
    assert tables["webhooks"] == tables["webhook_failures"] == []


async def test_the_last_failure_is_kept_until_it_is_delivered(tell: Tell) -> None:
    story = begun().then(ended(), requested()).then(fate("failed", due_at=at(30), status=500, reason="a\x00b"))
    tables = await tell(story)
    (row,) = tables["webhook_failures"]
    assert (str(row["run_id"]), str(row["thread_id"]), str(row["assistant_id"]), row["url"]) == (R1, T, A, URL)
    assert (row["attempt"], row["http_status"], row["reason"], row["run_status"]) == (1, 500, "a\ufffdb", "success")
    assert row["due_at"] is not None and len(tables["webhooks"]) == 1


async def test_a_dead_one_is_kept_until_its_thread_goes(tell: Tell) -> None:
    story = begun().then(ended(), requested()).then(fate("failed", due_at=at(30)))
    story.then(fate("dead", 2, status=410, reason="gone"))
    tables = await tell(story)
    (row,) = tables["webhook_failures"]
    assert (row["attempt"], row["http_status"], row["due_at"], tables["webhooks"]) == (2, 410, None, [])
    assert (await tell(RunScript().then({"type": "thread.deleted", "thread_id": T})))["webhook_failures"] == []


async def test_one_whose_thread_went_with_its_run_is_kept_for_thirty_days(tell: Tell) -> None:
    gone = {"type": "thread.deleted", "thread_id": T}
    story = begun(temporary=True).then(ended(), requested(), gone).then(fate("dead", reason="gone"))
    assert [row["temporary"] for row in (await tell(story))["webhook_failures"]] == [True]
    story = RunScript()
    story.begins = 31 * 86400.0
    story.then({"type": "thread.created", "thread_id": T2}, created(R2, T2), scheduled(R2, thread_id=T2))
    story.then({**ended(R2), "thread_id": T2}, {**requested(), "thread_id": T2, "run_id": R2})
    story.then({**fate("dead"), "thread_id": T2, "run_id": R2})
    assert [str(row["run_id"]) for row in (await tell(story))["webhook_failures"]] == [R2]


async def test_so_is_what_is_given_up_with_its_thread(tell: Tell) -> None:
    story = begun().then(ended(), requested())
    story.then(fate("dead", reason="its thread was deleted"), {"type": "thread.deleted", "thread_id": T})
    assert (await tell(story))["webhooks"] == []


async def test_a_webhook_of_what_is_no_url_is_kept_all_the_same(tell: Tell) -> None:
    (row,) = (await tell(begun().then(ended(), requested(url="http://[oops"))))["webhooks"]
    assert row["receiver"] == ""
