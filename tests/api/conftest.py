"""Fixtures of the api's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from threadlog.api.settings import ApiSettings

from .house import House, house


@pytest.fixture
async def api(database: str) -> AsyncIterator[House]:
    """A house with one graph, `noop`, and nobody to run it: the tests do what an executor would."""
    async with house(database, ApiSettings(heartbeat_seconds=0.2, frame_wait_seconds=5)) as opened:
        await opened.register("noop")
        yield opened
