"""Fixtures of the executor's tests: its surroundings, and an executor at work in them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.executor.executor_harness import ExecutorHarness
from threadlog.engine.executor.worker import Executor


@pytest.fixture
async def harness(database: str, tmp_path: Path) -> AsyncIterator[ExecutorHarness]:
    before, modules = list(sys.path), set(sys.modules)
    async with ExecutorHarness.open(database, tmp_path) as opened:
        yield opened
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file and file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
async def serving(harness: ExecutorHarness) -> AsyncIterator[Callable[..., Awaitable[Executor]]]:
    """`await serving("graph", …, slots=…)`: an executor that claims these graphs, drained after the test."""
    running: list[tuple[Executor, asyncio.Task[None]]] = []

    async def start(*names: str, **options: Any) -> Executor:
        executor = harness.executor(*names, **options)
        await executor.start()
        running.append((executor, asyncio.create_task(executor.serve())))
        return executor

    yield start
    for executor, task in running:
        executor.hurry()
        await executor.drain()
        await task
        await executor.aclose()
