"""Runs and threads, once they are what a test waits for."""

from __future__ import annotations

from typing import Any

from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually


async def ended(client: LangGraphClient, thread_id: str, run_id: str) -> Any:
    """The run, once it is neither pending nor running."""
    return await eventually(
        lambda: client.runs.get(thread_id, run_id), lambda run: run["status"] not in ("pending", "running")
    )


async def running(client: LangGraphClient, thread_id: str, run_id: str) -> Any:
    """The run, once it is running."""
    return await eventually(lambda: client.runs.get(thread_id, run_id), lambda run: run["status"] == "running")


async def settled(client: LangGraphClient, thread_id: str) -> Any:
    """The thread, once it is not busy."""
    return await eventually(lambda: client.threads.get(thread_id), lambda thread: thread["status"] != "busy")
