"""What clients are told of a run's error: everything, or with THREADLOG_HIDE_ERRORS only what is meant for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import Server

from .conftest import APP

EXPECTED = [("expected", "ValueError"), ("recursion", "GraphRecursionError")]


async def told(http: httpx.AsyncClient, kind: str) -> tuple[list[Any], str]:
    """The error in the answer, the stream, the thread and the run's tasks; and everything a client can read."""
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    run = {"assistant_id": "failing", "input": {"kind": kind}, "stream_mode": ["updates", "tasks", "debug", "events"]}
    streamed = (await http.post(f"/threads/{thread_id}/runs/stream", json=run)).text
    waited = await http.post(f"/threads/{thread_id}/runs/wait", json=run)
    thread = await http.get(f"/threads/{thread_id}")
    state = await http.get(f"/threads/{thread_id}/state")
    last = json.loads(streamed.rstrip().rsplit("data: ", 1)[1])
    errors = [waited.json()["__error__"], last, thread.json()["error"], state.json()["tasks"][0]["error"]]
    return errors, streamed + waited.text + thread.text + state.text


@pytest.mark.star  # the reference server always hides them
@pytest.mark.parametrize(("kind", "name"), [*EXPECTED, ("unexpected", "DatabaseError")])
async def test_clients_are_told_all_errors(http: httpx.AsyncClient, kind: str, name: str) -> None:
    errors, _ = await told(http, kind)
    assert errors == [{"error": name, "message": "the secret"}] * 3 + [f"{name}('the secret')"]


@pytest.fixture
async def discreet(own_server: Callable[..., Server], tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A server that hides the text of unexpected errors."""
    file = tmp_path / "langgraph.json"
    file.write_text(json.dumps({"dependencies": [str(APP)], "graphs": {"failing": f"{APP}/odd.py:failing"}}))
    started = await asyncio.to_thread(own_server, file, executors=1, env={"THREADLOG_HIDE_ERRORS": "true"})
    async with httpx.AsyncClient(base_url=started.url, timeout=60) as http:
        yield http


async def test_unexpected_ones_may_be_kept_from_them(discreet: httpx.AsyncClient) -> None:
    for kind, name in EXPECTED:
        errors, _ = await told(discreet, kind)
        assert errors == [{"error": name, "message": "the secret"}] * 3 + [f"{name}('the secret')"]
    errors, everything = await told(discreet, "unexpected")
    hidden = "An internal error occurred"
    assert errors == [{"error": "DatabaseError", "message": hidden}] * 3 + [f"DatabaseError('{hidden}')"]
    assert "the secret" not in everything
