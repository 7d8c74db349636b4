"""What all these tests leave behind (this file is collected last): nothing hangs, and the log tells the same story."""

from __future__ import annotations

import asyncio

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.servers import Server
from tests.waiting import eventually


async def test_no_run_is_left_hanging(client: LangGraphClient) -> None:
    async def hanging() -> list[dict]:
        found = []
        for thread in await client.threads.search(status="busy", limit=1000):
            for run in await client.runs.list(thread["thread_id"], limit=100):
                delayed = run["kwargs"]["config"]["configurable"].get("__after_seconds__")
                if run["status"] == "running" or (run["status"] == "pending" and not delayed):
                    found.append(run)
        return found

    await eventually(hanging, lambda found: not found, within=100)


async def test_the_read_models_are_what_the_log_says(server: Server) -> None:
    if not isinstance(server, Server):
        pytest.skip("only our own server has a log to compare with")
    verified = await asyncio.to_thread(server.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "No difference" in verified.stdout
