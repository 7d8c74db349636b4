"""Contract statement 47, paragraph 4.6: threads that expire. The application sweeps every 0.6 s."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually

from .gate import Gate

MINUTES = 0.02


async def expire_soon(http: httpx.AsyncClient, thread_id: str, strategy: str) -> datetime:
    """Returns a time not after the one at which it does."""
    soonest = datetime.now(UTC) + timedelta(minutes=MINUTES)
    body = {"ttl": {"ttl": MINUTES, "strategy": strategy}}
    answer = await http.patch(f"/threads/{thread_id}", json=body, headers={"Prefer": "return=minimal"})
    assert answer.status_code == 204
    return soonest


@pytest.mark.contract(47)
async def test_an_idle_thread_is_deleted_after_its_time_and_not_before(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    goes = await client.threads.create(ttl=60)
    stays = await client.threads.create(ttl={"ttl": 90})
    shown: Any = (await http.get(f"/threads/{stays['thread_id']}", params={"include": "ttl"})).json()
    expires_at = datetime.fromisoformat(shown["updated_at"]) + timedelta(minutes=90)
    assert (shown["ttl"]["strategy"], shown["ttl"]["ttl_minutes"]) == ("delete", 90)
    assert datetime.fromisoformat(shown["ttl"]["expires_at"]) == expires_at
    await client.runs.wait(goes["thread_id"], "noop", input={"items": []})
    soonest = await expire_soon(http, goes["thread_id"], "delete")

    async def status() -> int:
        return (await http.get(f"/threads/{goes['thread_id']}/state")).status_code

    await eventually(status, lambda code: code == 404)
    assert datetime.now(UTC) >= soonest
    assert (await http.get(f"/threads/{stays['thread_id']}")).status_code == 200


async def test_a_thread_that_is_kept_keeps_its_latest_state_alone(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "four", input={"items": []})
    before = await client.threads.get_state(thread_id)
    assert len(await client.threads.get_history(thread_id)) > 1
    await expire_soon(http, thread_id, "keep_latest")

    async def history() -> int:
        return len(await client.threads.get_history(thread_id))

    await eventually(history, lambda length: length == 1)
    after = await client.threads.get_state(thread_id)
    assert (after["values"], after["next"], after["checkpoint"]) == (before["values"], [], before["checkpoint"])
    assert (await client.runs.wait(thread_id, "four", input={"items": []}))["items"] == [*after["values"]["items"]] * 2


async def test_a_busy_thread_outlives_its_time_and_its_clock_starts_when_the_run_ends(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    other = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    await expire_soon(http, thread_id, "delete")
    await expire_soon(http, other, "delete")

    async def status(of: str) -> int:
        return (await http.get(f"/threads/{of}")).status_code

    await eventually(lambda: status(other), lambda code: code == 404)
    assert await status(thread_id) == 200
    soonest = datetime.now(UTC) + timedelta(minutes=MINUTES)
    gate.open()
    await eventually(lambda: status(thread_id), lambda code: code == 404)
    assert datetime.now(UTC) >= soonest
