"""A search by values reads states until it has enough: others are not held up by it, nobody's is not gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.api.api_harness import ApiHarness
from tests.api.test_threads import saved
from tests.waiting import eventually
from threadlog.api.context import API, SCANS
from threadlog.projections.queries import state
from threadlog.projections.queries.threads import SCAN_PAGE

pytestmark = pytest.mark.usefixtures("some_threads")
THREADS = 2 * SCAN_PAGE + 5


@pytest.fixture
async def some_threads(api: ApiHarness) -> None:
    await saved(api, await api.thread(), {"n": 1})
    # More of them, with states that are found but hold nothing.
    await api.pool.execute(
        "INSERT INTO threads SELECT gen_random_uuid(), now(), now(), now(), '{}', '{}', 'idle', NULL, '{}', NULL, 'x' "
        "FROM generate_series(2, $1::int)",
        THREADS,
    )


@asynccontextmanager
async def states_locked(api: ApiHarness) -> AsyncIterator[None]:
    """Nobody can read a state."""
    async with api.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
        yield


async def waiting(api: ApiHarness) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'checkpoints'::regclass"
    return int(await api.pool.fetchval(query))


async def test_other_requests_are_answered_meanwhile(api: ApiHarness) -> None:
    async with asyncio.timeout(20):
        async with states_locked(api):
            counts = [
                asyncio.create_task(api.call("POST", "/threads/count", {"values": {"n": 1}})) for _ in range(20)
            ]  # more than there are connections
            await eventually(lambda: waiting(api), lambda scans: scans >= SCANS)
            for _ in range(20):
                await api.call("POST", "/threads/search", {"select": ["thread_id"]})
            assert await waiting(api) == SCANS
        assert await asyncio.gather(*counts) == [1] * len(counts)


async def test_a_search_ends_when_its_client_is_gone(api: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    get_values = state.get_values

    async def counted(conn: Any, thread_ids: Collection[str]) -> dict[str, Any]:
        read.append(len(thread_ids))
        return await get_values(conn, thread_ids)

    monkeypatch.setattr(state, "get_values", counted)
    scans = api.client.app[API].scans if api.client.app is not None else None
    assert scans is not None
    async with asyncio.timeout(20):
        async with states_locked(api):
            count = asyncio.create_task(api.call("POST", "/threads/count", {"values": {"n": 1}}))
            await eventually(lambda: waiting(api))
            count.cancel()
            await asyncio.gather(count, return_exceptions=True)
        free = [await scans.acquire() for _ in range(SCANS)]
    assert all(free) and read == [SCAN_PAGE]
    for _ in free:
        scans.release()
    assert await api.call("POST", "/threads/count", {"values": {"n": 1}}) == 1
    assert read[1:] == [SCAN_PAGE, SCAN_PAGE, 5]
