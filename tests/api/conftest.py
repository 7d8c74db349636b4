"""Fixtures of the api's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from threadlog.api.settings import ApiSettings

from .api_harness import ApiHarness, api_harness


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiHarness]:
    """An api with one graph, `noop`, and no executor: the tests do what an executor would."""
    async with api_harness(database, ApiSettings(heartbeat_seconds=0.2, frame_wait_seconds=5)) as opened:
        await opened.register("noop")
        yield opened
