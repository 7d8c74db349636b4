"""Data keys go with their threads, in the transaction of the deletion; what is read decrypted, and by whom."""

from __future__ import annotations

import asyncpg
import orjson
import pytest

from threadlog.engine.encryption.cipher import MasterKeys
from threadlog.engine.encryption.connection import ContentLost, opening
from threadlog.engine.encryption.key_table import PostgresKeys
from threadlog.engine.encryption.keys import Keyring
from threadlog.projections.schema import migrate

T, OTHER = "0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002"
RUN = "0198c0de-0000-7000-8000-00000000000a"
MASTER = MasterKeys("0123456789abcdef")
_THREAD = "INSERT INTO threads (thread_id, created_at, updated_at, state_updated_at) VALUES ($1, now(), now(), now())"
_WEBHOOK = """
INSERT INTO webhooks (run_id, thread_id, p, url, receiver, status, ended_at, attempt, due_at, created_at, metadata,
    kwargs, multitask_strategy, temporary)
VALUES ($1, $2, 0, '', '', 'success', now(), 1, now(), now(), '{}', '{}', 'enqueue', true)
"""


@pytest.fixture
async def pool(empty_database: str):
    await migrate(empty_database, partitions=1)
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=3) as pool:
        yield pool


async def owners(pool: asyncpg.Pool) -> list[str]:
    return [row[0] for row in await pool.fetch("SELECT owner FROM data_keys ORDER BY owner")]


async def test_a_key_goes_with_its_thread(pool: asyncpg.Pool) -> None:
    keyring = Keyring(MASTER, PostgresKeys(pool))
    for thread in (T, OTHER):
        await pool.execute(_THREAD, thread)
        await keyring.ensure(thread)
    await pool.execute("DELETE FROM threads WHERE thread_id = $1", T)
    assert await owners(pool) == [OTHER]


async def test_a_webhook_that_waits_keeps_it_until_it_is_over(pool: asyncpg.Pool) -> None:
    keyring = Keyring(MASTER, PostgresKeys(pool))
    await pool.execute(_THREAD, T)
    await keyring.ensure(T)
    await pool.execute(_WEBHOOK, RUN, T)
    await pool.execute("DELETE FROM threads WHERE thread_id = $1", T)
    assert await owners(pool) == [T]
    await pool.execute("DELETE FROM webhooks WHERE run_id = $1", RUN)
    assert await owners(pool) == []


async def test_two_processes_make_one_key(pool: asyncpg.Pool) -> None:
    one, two = Keyring(MASTER, PostgresKeys(pool)), Keyring(MASTER, PostgresKeys(pool))
    first, second = await one.ensure(T), await two.ensure(T)
    assert first is not None and first == second


async def test_an_executor_makes_none_for_a_thread_that_is_gone(pool: asyncpg.Pool) -> None:
    keyring = Keyring(MASTER, PostgresKeys(pool))
    assert await keyring.ensure(T, of_thread=True) is None
    await pool.execute(_THREAD, T)
    assert await keyring.ensure(T, of_thread=True) is not None


async def test_content_is_read_decrypted_and_a_clients_text_is_not(pool: asyncpg.Pool, empty_database: str) -> None:
    keyring = Keyring(MASTER, PostgresKeys(pool))
    await pool.execute(_THREAD, T)
    key = await keyring.ensure(T)
    assert key is not None
    token = key.token({"a": "ü"})
    text = orjson.dumps({"x": token}).decode()
    await pool.execute("UPDATE threads SET interrupts = $2, metadata = $3 WHERE thread_id = $1", T, text, text)
    await pool.execute("INSERT INTO channel_values VALUES ($1, 'h', 'msgpack', $2)", T, key.seal(b"data"))
    reader = Keyring(MASTER, PostgresKeys(pool))  # of another process
    connection = await asyncpg.connect(empty_database, connection_class=opening(reader))
    try:
        row = await connection.fetchrow("SELECT interrupts, metadata FROM threads")
        assert orjson.loads(row["interrupts"]) == {"x": {"a": "ü"}} and orjson.loads(row["metadata"]) == {"x": token}
        ((name, data),) = await connection.fetch("SELECT hash, data FROM channel_values")
        assert (name, data) == ("h", b"data")
        await pool.execute("DELETE FROM data_keys")
        forgetful = Keyring(MASTER, PostgresKeys(pool))
        blind = await asyncpg.connect(empty_database, connection_class=opening(forgetful))
        try:
            with pytest.raises(ContentLost):
                await blind.fetch("SELECT data FROM channel_values")
        finally:
            await blind.close()
    finally:
        await connection.close()
