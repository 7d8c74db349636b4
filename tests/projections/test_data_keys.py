"""Data keys go with their threads, in the transaction of the deletion; what is read decrypted, and by whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import asyncpg
import orjson
import pytest
from langgraph_sdk import Encryption

from tests.waiting import eventually
from threadlog.engine.encryption.cipher import DataKey, MasterKeys
from threadlog.engine.encryption.connection import ContentLost, opening
from threadlog.engine.encryption.field_cipher import field_token
from threadlog.engine.encryption.handlers import EncryptionHandlers
from threadlog.engine.encryption.key_table import PostgresKeys
from threadlog.engine.encryption.key_topic import KeyTopicKeeper, LoggedKeys
from threadlog.engine.encryption.keys import Keyring, WrappedKey
from threadlog.engine.encryption.wrapping import WithHandlers, WithInstallationKey
from threadlog.engine.encryption_context import CONTEXT
from threadlog.engine.log.port import LogUnavailable
from threadlog.projections.schema import migrate

T, OTHER = "0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002"
RUN = "0198c0de-0000-7000-8000-00000000000a"
MASTER = MasterKeys("0123456789abcdef")
WRAPPER = WithInstallationKey(MASTER)
_THREAD = "INSERT INTO threads (thread_id, created_at, updated_at, state_updated_at) VALUES ($1, now(), now(), now())"
_WEBHOOK = """
INSERT INTO webhooks (run_id, thread_id, p, url, receiver, status, ended_at, attempt, due_at, created_at, metadata,
    kwargs, multitask_strategy, temporary)
VALUES ($1, $2, 0, '', '', 'success', now(), 1, now(), now(), '{}', '{}', 'enqueue', true)
"""
_CRON = """
INSERT INTO crons (cron_id, p, assistant_id, schedule, payload, enabled, version, created_at, updated_at)
VALUES ($1, 0, $1, '* * * * *', '{}', true, 1, now(), now())
"""
_ASSISTANT = """
INSERT INTO assistants (assistant_id, graph_id, name, version, created_at, updated_at)
VALUES ($1, '', '', 1, now(), now())
"""


@pytest.fixture
async def pool(empty_database: str):
    await migrate(empty_database, partitions=1)
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=3) as pool:
        yield pool


async def delete(pool: asyncpg.Pool, thread_id: str) -> None:
    """As a fold does that deletes it."""
    await pool.execute("SELECT project_removals($1::uuid[], '{}', '{}')", [thread_id])


async def owners(pool: asyncpg.Pool) -> list[str]:
    return [row[0] for row in await pool.fetch("SELECT owner FROM data_keys ORDER BY owner")]


async def test_a_key_goes_with_its_thread(pool: asyncpg.Pool) -> None:
    keyring = Keyring(WRAPPER, PostgresKeys(pool))
    for thread in (T, OTHER):
        await pool.execute(_THREAD, thread)
        await keyring.ensure(thread)
    await delete(pool, T)
    assert await owners(pool) == [OTHER]


async def test_so_it_does_with_a_thread_that_begins_and_ends_in_one_fold(pool: asyncpg.Pool) -> None:
    await Keyring(WRAPPER, PostgresKeys(pool)).ensure(T)
    await delete(pool, T)
    assert await owners(pool) == []


async def test_a_thread_with_the_id_of_a_cron_leaves_it_its_key(pool: asyncpg.Pool) -> None:
    await pool.execute(_CRON, T)
    await Keyring(WRAPPER, PostgresKeys(pool)).ensure(T)
    await pool.execute(_THREAD, T)  # as anybody can make one
    await delete(pool, T)
    assert await owners(pool) == [T]
    await pool.execute("DELETE FROM crons")
    assert await owners(pool) == []


async def test_the_key_of_an_assistant_goes_with_it(pool: asyncpg.Pool) -> None:
    await pool.execute(_ASSISTANT, T)
    await Keyring(WRAPPER, PostgresKeys(pool)).ensure(f"assistant:{T}")
    await pool.execute("DELETE FROM assistants")
    assert await owners(pool) == []


async def test_a_webhook_that_waits_keeps_it_until_it_is_over(pool: asyncpg.Pool) -> None:
    keyring = Keyring(WRAPPER, PostgresKeys(pool))
    await pool.execute(_THREAD, T)
    await keyring.ensure(T)
    await pool.execute(_WEBHOOK, RUN, T)
    await delete(pool, T)
    assert await owners(pool) == [T]
    await pool.execute("DELETE FROM webhooks WHERE run_id = $1", RUN)
    assert await owners(pool) == []


async def test_two_processes_make_one_key(pool: asyncpg.Pool) -> None:
    one, two = Keyring(WRAPPER, PostgresKeys(pool)), Keyring(WRAPPER, PostgresKeys(pool))
    first, second = await one.ensure(T), await two.ensure(T)
    assert first is not None and first == second


async def test_an_executor_makes_none_for_a_thread_that_is_gone(pool: asyncpg.Pool) -> None:
    keyring = Keyring(WRAPPER, PostgresKeys(pool))
    assert await keyring.of_threads([T, OTHER]) == {}
    await pool.execute(_THREAD, T)
    assert (await keyring.of_threads([T, OTHER])).keys() == {T}


async def test_a_key_that_is_made_while_its_thread_is_deleted_goes_with_it(
    pool: asyncpg.Pool, empty_database: str
) -> None:
    await pool.execute(_THREAD, T)
    maker = await asyncpg.connect(empty_database)
    try:
        transaction = maker.transaction()
        await transaction.start()
        new = DataKey.new(T)
        wrapped = WrappedKey(T, new.id, MASTER.wrap(new), MASTER.name)
        assert await PostgresKeys(maker).add(wrapped, of_thread=True) is not None  # and is slow to commit
        deleting = asyncio.create_task(delete(pool, T))

        async def waits() -> bool:
            return await pool.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock')"
            )

        await eventually(waits, says="the deletion waits for the thread's row")
        await transaction.commit()
        await deleting
    finally:
        await maker.close()
    assert await owners(pool) == []


async def test_content_is_read_decrypted_and_a_clients_text_is_not(pool: asyncpg.Pool, empty_database: str) -> None:
    keyring = Keyring(WRAPPER, PostgresKeys(pool))
    await pool.execute(_THREAD, T)
    key = await keyring.ensure(T)
    assert key is not None
    token = key.token({"a": "ü"})
    text = orjson.dumps({"x": token}).decode()
    await pool.execute("UPDATE threads SET interrupts = $2, metadata = $3 WHERE thread_id = $1", T, text, text)
    await pool.execute("INSERT INTO channel_values VALUES ($1, 'h', 'msgpack', $2)", T, key.seal(b"data"))
    reader = Keyring(WRAPPER, PostgresKeys(pool))  # of another process
    connection = await asyncpg.connect(empty_database, connection_class=opening(reader))
    try:
        row = await connection.fetchrow("SELECT interrupts, metadata FROM threads")
        assert orjson.loads(row["interrupts"]) == {"x": {"a": "ü"}} and orjson.loads(row["metadata"]) == {"x": token}
        ((name, data),) = await connection.fetch("SELECT hash, data FROM channel_values")
        assert (name, data) == ("h", b"data")
        await pool.execute("DELETE FROM data_keys")
        forgetful = Keyring(WRAPPER, PostgresKeys(pool))
        blind = await asyncpg.connect(empty_database, connection_class=opening(forgetful))
        try:
            with pytest.raises(ContentLost):
                await blind.fetch("SELECT data FROM channel_values")
        finally:
            await blind.close()
    finally:
        await connection.close()


async def test_a_key_that_handlers_do_not_give_hides_its_rows_alone(pool: asyncpg.Pool, empty_database: str) -> None:
    encryption = Encryption()

    @encryption.encrypt.blob
    async def encrypt(ctx: Any, data: bytes) -> bytes:
        return data

    @encryption.decrypt.blob
    async def decrypt(ctx: Any, data: bytes) -> bytes:
        if ctx.metadata == {"tenant": "ann"} and refuses:
            raise RuntimeError("her key is disabled")
        return data

    refuses = False
    handlers = EncryptionHandlers(encryption)
    keyring = Keyring(WithHandlers(handlers), PostgresKeys(pool), handlers=handlers)
    for thread, tenant in ((T, "ann"), (OTHER, "bob")):
        CONTEXT.set({"tenant": tenant})
        key = await keyring.ensure(thread)
        metadata = {"name": tenant, "secret": field_token(key, f"of {tenant}")}
        await pool.execute(_THREAD, thread)
        await pool.execute(
            "UPDATE threads SET metadata = $2::text::jsonb, error = $3::text::json WHERE thread_id = $1",
            thread, orjson.dumps(metadata).decode(), orjson.dumps({"message": key.token("it failed")}).decode(),
        )  # fmt: skip
    refuses = True
    reader = Keyring(WithHandlers(handlers), PostgresKeys(pool), handlers=handlers)
    connection = await asyncpg.connect(empty_database, connection_class=opening(reader))
    try:
        rows = await connection.fetch("SELECT metadata::text, error::text FROM threads ORDER BY thread_id")
    finally:
        await connection.close()
    (hers, her_error), (his, his_error) = [(orjson.loads(row[0]), orjson.loads(row[1])) for row in rows]
    assert his == {"name": "bob", "secret": "of bob"} and his_error == {"message": "it failed"}
    assert hers["name"] == "ann" and hers["secret"].startswith("~encj1:")
    assert her_error["message"].startswith("~enc1:")


# --- with the log in Kafka --------------------------------------------------------------------------------------------


class TopicInMemory:
    def __init__(self) -> None:
        self.records: dict[bytes, WrappedKey] = {}
        self.tombstones: list[bytes] = []

    async def add(self, key: WrappedKey) -> None:
        self.records[key.id] = key

    async def delete(self, ids: Iterable[bytes]) -> None:
        for id in ids:
            self.records.pop(id, None)
            self.tombstones.append(id)

    async def read(self) -> list[WrappedKey]:
        return list(self.records.values())


async def test_a_key_is_in_the_topic_before_it_is_used_and_is_deleted_there_after_its_thread(
    pool: asyncpg.Pool,
) -> None:
    topic = TopicInMemory()
    key = await Keyring(WRAPPER, LoggedKeys(pool, topic)).ensure(T)
    assert key is not None and [kept.owner for kept in topic.records.values()] == [T]
    keeper = KeyTopicKeeper(pool, topic, late_seconds=300)
    await keeper.follow_up()
    assert topic.records and not topic.tombstones
    await delete(pool, T)
    await keeper.follow_up()
    assert not topic.records
    await topic.add(WrappedKey(T, key.id, b"", ""))  # it was on its way, its sender slow
    await KeyTopicKeeper(pool, topic, late_seconds=0).follow_up()
    assert not topic.records and await pool.fetchval("SELECT count(*) FROM destroyed_keys") == 0


async def test_a_process_that_dies_between_row_and_record_leaves_the_record_to_the_next(pool: asyncpg.Pool) -> None:
    class Away(TopicInMemory):
        async def add(self, key: WrappedKey) -> None:
            raise LogUnavailable("not now")

    with pytest.raises(LogUnavailable):
        await Keyring(WRAPPER, LoggedKeys(pool, Away())).ensure(T)
    topic = TopicInMemory()
    key = await Keyring(WRAPPER, LoggedKeys(pool, topic)).ensure(T)
    assert key is not None and list(topic.records) == [key.id]


async def test_a_new_database_has_its_keys_from_the_topic_but_for_those_of_deleted_threads(pool: asyncpg.Pool) -> None:
    topic = TopicInMemory()
    keyring = Keyring(WRAPPER, LoggedKeys(pool, topic))
    kept, gone = await keyring.ensure(T), await keyring.ensure(OTHER)
    assert kept is not None and gone is not None
    await pool.execute("DELETE FROM data_keys")  # as if it was lost
    await pool.execute("INSERT INTO aggregates (key, p, state, deleted_at) VALUES ($1, 0, '{}', now())", OTHER)
    keeper = KeyTopicKeeper(pool, topic)
    await keeper.restore()
    assert await owners(pool) == [T]
    assert await Keyring(WRAPPER, LoggedKeys(pool, topic)).ensure(T) == kept
    await keeper.follow_up()
    assert list(topic.records) == [kept.id] and topic.tombstones == [gone.id]
    await keeper.restore()
    assert await owners(pool) == [T]


async def test_the_context_of_a_key_and_its_new_form_are_in_the_topic_too(pool: asyncpg.Pool) -> None:
    topic = TopicInMemory()
    CONTEXT.set({"tenant": "ann"})
    key = await Keyring(WRAPPER, LoggedKeys(pool, topic)).ensure(T)
    CONTEXT.set({})
    new = WithInstallationKey(MasterKeys("x" * 32, ["0123456789abcdef"]))
    assert await Keyring(new, LoggedKeys(pool, topic)).ensure(T) == key
    (record,) = topic.records.values()
    assert (record.wrapped_by, record.context) == (MasterKeys("x" * 32).name, {"tenant": "ann"})
    await pool.execute("DELETE FROM data_keys")  # as if it was lost
    await KeyTopicKeeper(pool, topic).restore()
    assert await Keyring(new, LoggedKeys(pool, topic)).context_of(T) == {"tenant": "ann"}
