"""What requests with an idempotency key leave in `keyed_requests` and `keyed_commands`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import orjson

from tests.projections.conftest import Tell
from tests.projections.run_script import START, RunScript, T, at
from threadlog.engine.domain.keyed_request import keyed_command_id

HOUR = 3600.0
NEW_THREAD = {"type": "thread.created", "thread_id": T}
UPDATED = {"type": "thread.updated", "thread_id": T, "metadata": {}}


def begun(request_id: str, expires_at: float = 60) -> dict[str, Any]:
    return {
        "type": "request.begun", "request_id": request_id, "fingerprint": "f", "begun_at": at(0),
        "expires_at": at(expires_at),
    }  # fmt: skip


def id_until(second: float) -> str:
    return keyed_command_id("r", int(START.timestamp() + second), str(second))


async def test_an_answer_stays_with_its_request(tell: Tell) -> None:
    answer = {
        "type": "request.answered", "request_id": "r", "status": 201, "headers": {"Location": "/x"}, "body": "a\x00b",
    }  # fmt: skip
    rows = await tell(RunScript().then(begun("r"), key="request:r").then(answer, key="request:r"))
    (row,) = rows["keyed_requests"]
    assert (row["status"], row["complete"], row["p"]) == (201, True, 3)
    assert orjson.loads(row["answer"]) == "a\ufffdb"
    assert orjson.loads(row["headers"]) == {"Location": "/x"} and row["expires_at"] == START + timedelta(seconds=60)


async def test_what_has_long_expired_goes_with_the_next_request_and_its_state(tell: Tell) -> None:
    script = RunScript().then(begun("old", -HOUR), key="request:old").then(begun("late", -HOUR + 9), key="request:late")
    rows = await tell(script.then(begun("new"), key="request:new"))
    assert {row["id"] for row in rows["keyed_requests"]} == {"late", "new"}
    assert {row["key"] for row in rows["aggregates"]} == {"request:late", "request:new"}


async def test_a_key_that_is_used_again_begins_anew(tell: Tell) -> None:
    answer = {"type": "request.answered", "request_id": "r", "status": 200, "body": "{}"}
    script = RunScript().then(begun("r", -HOUR), key="request:r").then(answer, key="request:r")
    rows = await tell(script.then(begun("r", 90), key="request:r"))
    (row,) = rows["keyed_requests"]
    assert row["status"] is None and row["answer"] is None and row["expires_at"] == START + timedelta(seconds=90)
    assert [row["key"] for row in rows["aggregates"]] == ["request:r"]


async def test_commands_that_changed_something_are_known_by_their_ids(tell: Tell) -> None:
    script = RunScript().then(NEW_THREAD).then(UPDATED, cmd_id=id_until(60)).then(UPDATED, cmd_id=id_until(61))
    script.then({"type": "command.rejected", "code": "conflict", "detail": "no"}, cmd_id=id_until(62))
    rows = (await tell(script))["keyed_commands"]
    assert {row["id"]: (row["ev_off"], row["p"]) for row in rows} == {id_until(60): (1, 3), id_until(61): (2, 3)}


async def test_deletions_between_them_do_not_change_their_order(tell: Tell) -> None:
    script = RunScript().then(NEW_THREAD, cmd_id=id_until(-HOUR)).then({"type": "thread.deleted", "thread_id": T})
    script.then(NEW_THREAD, cmd_id=id_until(60)).then({"type": "thread.pruned", "thread_id": T}, cmd_id=id_until(61))
    rows = (await tell(script))["keyed_commands"]
    assert {row["id"] for row in rows} == {id_until(60), id_until(61)}


async def test_the_expiry_is_found_by_index(conn: asyncpg.Connection) -> None:
    await conn.execute("SET enable_seqscan = off")
    for table in ("keyed_requests", "keyed_commands"):
        plan = await conn.fetch(f"EXPLAIN DELETE FROM {table} WHERE p = 1 AND expires_at <= now()")
        assert any(f"{table}_expiry" in row[0] for row in plan), plan
    plan = await conn.fetch("EXPLAIN SELECT FROM keyed_commands WHERE starts_with(id, 'key:1:r:')")
    assert any("Index" in row[0] for row in plan), plan
