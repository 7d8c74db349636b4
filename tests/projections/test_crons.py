"""What the events of crons leave in `crons` and `cron_firings`."""

from __future__ import annotations

from typing import Any

import orjson

from tests.projections.conftest import Tell
from tests.projections.run_script import R1, A, RunScript, T, at

C = "cccccccc-cccc-7ccc-8ccc-cccccccccccc"
KEY = f"cron:{C}"
CREATED = {
    "type": "cron.created", "cron_id": C, "assistant_id": A, "schedule": "* * * * *", "end_time": at(90),
    "payload": {"input": {"b": 1, "a": "x\x00y"}, "config": {}}, "metadata": {"m": 1}, "next_due_at": at(10),
}  # fmt: skip
FIRED = {
    "type": "cron.fired", "cron_id": C, "due_at": at(10), "run_id": R1, "thread_id": T, "next_due_at": at(20),
}  # fmt: skip


def cron_in(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    (cron,) = rows["crons"]
    return cron


async def test_a_firing_waits_for_its_run_and_moves_the_cron_on(tell: Tell) -> None:
    rows = await tell(RunScript().then(CREATED, key=KEY).then(FIRED, key=KEY))
    (firing,) = rows["cron_firings"]
    assert (str(firing["run_id"]), str(firing["thread_id"]), firing["p"]) == (R1, T, 3)
    cron = cron_in(rows)
    assert cron["next_due_at"].isoformat(timespec="microseconds") == at(20) and cron["enabled"] and cron["version"] == 1
    assert orjson.loads(cron["payload"])["input"] == {"b": 1, "a": "x\ufffdy"}
    assert orjson.loads(cron["last_firing"]) == {"due_at": at(10), "run_id": R1, "thread_id": T, "error": None}


async def test_a_refused_run_is_kept_with_the_cron(tell: Tell) -> None:
    error = {"error": "conflict", "message": "no"}
    refused = {"type": "cron.run_refused", "cron_id": C, "due_at": at(10), "error": error}
    rows = await tell(RunScript().then(CREATED, key=KEY).then(FIRED, key=KEY).then(refused, key=KEY))
    last = orjson.loads(cron_in(rows)["last_firing"])
    assert rows["cron_firings"] == [] and last["run_id"] is None and last["error"] == error and last["due_at"] == at(10)


async def test_a_created_run_leaves_no_firing(tell: Tell) -> None:
    created = {"type": "cron.run_created", "cron_id": C, "due_at": at(10)}
    rows = await tell(RunScript().then(CREATED, key=KEY).then(FIRED, key=KEY).then(created, key=KEY))
    assert rows["cron_firings"] == [] and orjson.loads(cron_in(rows)["last_firing"])["run_id"] == R1


async def test_an_update_changes_what_it_names(tell: Tell) -> None:
    update = {
        "type": "cron.updated", "cron_id": C, "version": 2, "timezone": "Asia/Tokyo", "clears": ["end_time"],
        "payload": {"input": None}, "metadata": {"n": 2}, "enabled": False, "reschedules": True,
    }  # fmt: skip
    cron = cron_in(await tell(RunScript().then(CREATED, key=KEY).then(update, key=KEY)))
    assert cron["timezone"] == "Asia/Tokyo" and cron["end_time"] is None and cron["next_due_at"] is None
    assert orjson.loads(cron["payload"]) == {"input": None, "config": {}}
    assert orjson.loads(cron["metadata"]) == {"m": 1, "n": 2} and not cron["enabled"] and cron["version"] == 2
    assert cron["schedule"] == "* * * * *"


async def test_a_deleted_cron_takes_its_firing_along(tell: Tell) -> None:
    deleted = {"type": "cron.deleted", "cron_id": C}
    rows = await tell(RunScript().then(CREATED, key=KEY).then(FIRED, key=KEY).then(deleted, key=KEY))
    assert rows["crons"] == [] and rows["cron_firings"] == []


async def test_an_ended_cron_is_never_due(tell: Tell) -> None:
    ended = {"type": "cron.ended", "cron_id": C, "due_at": at(10)}
    assert cron_in(await tell(RunScript().then(CREATED, key=KEY).then(ended, key=KEY)))["next_due_at"] is None
