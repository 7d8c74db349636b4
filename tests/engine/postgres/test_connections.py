"""Connections that are kept: opened when they are needed, thrown away when they fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from threadlog.engine.backoff import Backoff
from threadlog.engine.postgres.connection import PinnedConnection
from threadlog.engine.postgres.errors import AWAY, FAILED


@pytest.fixture
async def pool(empty_database: str) -> AsyncIterator[asyncpg.Pool]:
    """With a single connection: whoever does not give it back keeps the next one waiting."""
    pool = await asyncpg.create_pool(empty_database, min_size=0, max_size=1)
    yield pool
    pool.terminate()


async def backend(connection: asyncpg.Connection) -> int:
    number: int = await connection.fetchval("SELECT pg_backend_pid()")
    return number


async def test_a_connection_is_kept_and_prepared_once(pool: asyncpg.Pool) -> None:
    prepared: list[int] = []

    async def prepare(connection: asyncpg.Connection) -> None:
        prepared.append(await backend(connection))

    pinned = PinnedConnection(pool, prepare)
    assert not pinned.is_open, "nothing is opened before it is needed"
    async with pinned.use() as connection:
        first = await backend(connection)
    async with pinned.use() as connection:
        assert await backend(connection) == first
    assert prepared == [first]
    await pinned.drop()


async def test_after_an_error_the_next_use_opens_another(pool: asyncpg.Pool) -> None:
    pinned = PinnedConnection(pool)
    first = await backend(await pinned.get())
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with pinned.use() as connection:
            await connection.execute("SELECT 1 / 0")
    assert not pinned.is_open
    assert await backend(await pinned.get()) != first, "and the pool's one place was given back for it"
    await pinned.drop()


async def test_a_connection_that_the_server_ended_is_replaced(pool: asyncpg.Pool, empty_database: str) -> None:
    pinned = PinnedConnection(pool)
    first = await backend(await pinned.get())
    other = await asyncpg.connect(empty_database)
    await other.execute("SELECT pg_terminate_backend($1)", first)
    await other.close()
    with suppress(*AWAY):  # unless the end of the connection was known already
        async with pinned.use() as connection:
            await backend(connection)
    assert await backend(await pinned.get()) != first
    await pinned.drop()


async def test_a_connection_that_cannot_be_prepared_is_not_kept(pool: asyncpg.Pool) -> None:
    async def prepare(connection: asyncpg.Connection) -> None:
        await connection.execute("SET no.such_thing = nonsense; SELECT nonsense")

    pinned = PinnedConnection(pool, prepare)
    for _ in range(2):  # the second would wait for ever, had the first kept its place
        with pytest.raises(FAILED):
            await pinned.get()
        assert not pinned.is_open


async def test_a_connection_of_ones_own_is_closed(empty_database: str) -> None:
    opened: list[asyncpg.Connection] = []

    async def connect() -> asyncpg.Connection:
        opened.append(await asyncpg.connect(empty_database))
        return opened[-1]

    pinned = PinnedConnection(connect)
    await pinned.get()
    await pinned.aclose()
    await pinned.aclose()
    assert [connection.is_closed() for connection in opened] == [True]


def test_waits_double_up_to_a_limit_until_a_try_succeeds() -> None:
    backoff = Backoff(0.1, 0.5)
    assert [backoff.next() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert backoff.next() == 0.1
