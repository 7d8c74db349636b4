"""Contract statements 105, 112, 132, 135 and 168 to 171: crashes, limits, several servers, latency."""

from __future__ import annotations

import time
from statistics import median

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from .frames import events, frames
from .gate import Gate
from .waiting import ended, settled


@pytest.mark.contract(135)
@pytest.mark.star
async def test_a_crashed_worker_costs_an_attempt_and_nothing_else(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    body = {
        "assistant_id": "crash",
        "input": {**gate.input, "n": 1},
        "stream_mode": ["updates"],
        "durability": "sync",
    }
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body, timeout=90) as stream:
        seen = await events(stream)
    run_id = seen[0].data["run_id"]
    assert [frame.data for frame in seen if frame.event == "metadata"] == [
        {"run_id": run_id, "attempt": 1},
        {"run_id": run_id, "attempt": 2},
    ]
    assert [frame.data for frame in seen if frame.event == "updates"] == [
        {"stand": {"items": ["stood"]}},
        {"fall": {"items": ["standing"]}},
        {"last": {"items": ["last"]}},
    ]
    assert gate.journal() == [f"stand {run_id}"]
    history = await client.threads.get_history(thread_id)
    assert [at["metadata"]["step"] for at in history] == [3, 2, 1, 0, -1]
    assert history[0]["values"]["items"] == ["stood", "standing", "last"]
    assert (await client.runs.get(thread_id, run_id))["status"] == "success"


@pytest.mark.contract(170)
@pytest.mark.star
async def test_a_run_that_kills_every_worker_fails(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    body = {"assistant_id": "crash", "input": {**gate.input, "n": 99}, "stream_mode": ["updates"]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body, timeout=90) as stream:
        seen = await events(stream)
    attempts = [frame.data["attempt"] for frame in seen if frame.event == "metadata"]
    assert attempts[0] == 1 and attempts == sorted(set(attempts))
    assert set(attempts) <= {1, 2, 3}  # a process may die before its attempt has said a word
    assert seen[-1].event == "error" and seen[-1].data["message"]
    run_id = seen[0].data["run_id"]
    assert (await ended(client, thread_id, run_id))["status"] == "error"
    thread = await settled(client, thread_id)
    assert thread["status"] == "error"
    assert thread["error"] == seen[-1].data
    assert len(list(gate.folder.glob("fallen-*"))) == 3
    assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]


@pytest.mark.contract(171)
@pytest.mark.star
async def test_a_run_starts_at_once(http: httpx.AsyncClient) -> None:
    """Half of ten idle runs show their first event in less than the reference server's best half second."""
    waits = []
    for _ in range(10):
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        start = time.perf_counter()
        body = {"assistant_id": "noop", "input": {"items": []}}
        async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
            async for frame in frames(stream):
                if frame.event == "metadata":
                    waits.append(time.perf_counter() - start)
    assert len(waits) == 10
    assert median(waits) < 0.5, waits
