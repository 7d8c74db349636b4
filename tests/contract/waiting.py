"""Waiting for conditions instead of for time: every wait is bounded and says what it last saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from langgraph_sdk.client import LangGraphClient

T = TypeVar("T")


async def eventually(probe: Callable[[], Awaitable[T]], holds: Callable[[T], Any] = bool, *, within: float = 45.0) -> T:
    """Probe until the condition holds and return what was seen; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        seen = await probe()
        if holds(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {within:g} s: {seen!r}")
        await asyncio.sleep(0.02)


async def ended(client: LangGraphClient, thread_id: str, run_id: str) -> dict[str, Any]:
    """The run, once it is neither pending nor running."""
    return await eventually(
        lambda: client.runs.get(thread_id, run_id), lambda run: run["status"] not in ("pending", "running")
    )


async def running(client: LangGraphClient, thread_id: str, run_id: str) -> dict[str, Any]:
    """The run, once it is running."""
    return await eventually(lambda: client.runs.get(thread_id, run_id), lambda run: run["status"] == "running")


async def settled(client: LangGraphClient, thread_id: str) -> dict[str, Any]:
    """The thread, once it is not busy."""
    return await eventually(lambda: client.threads.get(thread_id), lambda thread: thread["status"] != "busy")
