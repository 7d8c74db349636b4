"""With LANGGRAPH_AES_KEY no table and no topic has readable content, and what a deleted thread leaves can't be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from langgraph_sdk import get_client

from tests.servers import Server
from tests.waiting import eventually
from threadlog.deploy.commands import doctor
from threadlog.deploy.compose.encryption import keyring_of
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.encryption import cipher
from threadlog.engine.encryption.cipher import MAGIC, MasterKeys
from threadlog.engine.encryption.key_table import PostgresKeys
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.encryption.wrapping import WithInstallationKey
from threadlog.engine.log.kafka.keys import KeyTopic

from .conftest import APP
from .stored import settings_of, stored

KEY = "an AES key of 32 characters long"
CANARY = "canary-5d1f"
LARGE = CANARY + "".join(f"{i * i * 7919 % 100_003:x}" for i in range(40_000))  # beyond 32 KiB, compressed


@pytest.fixture(scope="module")
def encrypted(start_server: Callable[..., Server]) -> Iterator[Server]:
    server = start_server(APP / "langgraph.json", env={"LANGGRAPH_AES_KEY": KEY}, executors=1)
    yield server
    server.stop()


@asynccontextmanager
async def topic_of_keys(server: Server) -> AsyncIterator[KeyTopic]:
    settings = settings_of(server, aes_key=KEY)
    assert settings.kafka_bootstrap_servers is not None
    topic = KeyTopic(settings.kafka_bootstrap_servers, prefix=settings.topic_prefix, replication_factor=-1)
    try:
        yield topic
    finally:
        await topic.aclose()


async def test_content_is_never_stored_readable_and_is_gone_with_its_thread(encrypted: Server) -> None:
    client = get_client(url=encrypted.url)
    thread = await client.threads.create(metadata={"plain": "to be found"})
    thread_id = thread["thread_id"]
    asked = await client.runs.wait(thread_id, "ask", input={"items": [CANARY]})
    assert asked["items"] == [CANARY] and "__interrupt__" in asked
    chunks = [
        part
        async for part in client.runs.stream(
            thread_id, "ask", command={"resume": LARGE}, stream_mode=["values", "updates"], stream_resumable=True,
            context={"who": CANARY, "tenant": {"secret": CANARY}},
        )
    ]  # fmt: skip
    assert LARGE in chunks[-1].data["items"]
    await client.threads.update_state(thread_id, {"items": [f"{CANARY} by hand"]})
    state = await client.threads.get_state(thread_id)
    assert state["values"]["items"][0] == CANARY and f"{CANARY} by hand" in state["values"]["items"]
    history = await client.threads.get_history(thread_id, limit=50)
    assert any(LARGE in at["values"].get("items", ()) for at in history)
    runs = await client.runs.list(thread_id)
    assert {run["kwargs"]["context"].get("who") for run in runs} == {CANARY, None}
    joined = [part async for part in client.runs.join_stream(thread_id, runs[0]["run_id"], last_event_id="-1")]
    assert any(LARGE in (part.data or {}).get("items", ()) for part in joined if part.event == "values")
    copy = await client.threads.copy(thread_id)
    copied = await client.threads.get_state(copy["thread_id"])
    assert LARGE in copied["values"]["items"]
    failed = await client.runs.wait(thread_id, "failing", input={"items": [CANARY]}, raise_error=False)
    assert "__error__" in failed

    before = await stored(encrypted)
    assert any(b"to be found" in value for value in before)  # metadata stay plain: it is looked for where it would be
    assert not [value[:200] for value in before if CANARY.encode() in value]

    await client.threads.delete(thread_id)
    await client.threads.delete(copy["thread_id"])
    after = await stored(encrypted)
    assert not [value[:200] for value in after if CANARY.encode() in value]
    # What is left in the log, and was in the tables, is asked of the product with the installation's own key.
    connection_pool = await asyncpg.create_pool(encrypted.database_uri, min_size=1, max_size=1)
    try:
        keyring = Keyring(WithInstallationKey(MasterKeys(KEY)), PostgresKeys(connection_pool))
        ids = {id for value in before + after for id in _key_ids(value)}
        assert ids
        await keyring.load(ids)
        assert [id for id in ids if keyring.known(id) is not None] == []
        for value in before + after:
            if value.startswith(MAGIC):
                assert cipher.open_bytes(value, keyring.known) is None
            elif value.isascii():
                assert CANARY not in cipher.open_text(value.decode(), keyring.known)
    finally:
        await connection_pool.close()
    if encrypted.mode == "kafka":  # what is not compacted away yet is followed by its tombstone
        async with topic_of_keys(encrypted) as topic:

            async def deleted() -> bool:
                owners = {key.owner for key in await topic.read()}
                return not owners & {thread_id, copy["thread_id"]}

            await eventually(deleted, says=lambda: "the topic of keys has a tombstone for each")


def _key_ids(value: bytes) -> set[bytes]:
    return cipher.key_ids(value) | (cipher.key_ids(value.decode()) if value.isascii() else set())


async def test_a_stateless_run_leaves_no_key(encrypted: Server) -> None:
    client = get_client(url=encrypted.url)
    assert (await client.runs.wait(None, "ask", input={"items": [CANARY]}))["items"] == [CANARY]
    connection = await asyncpg.connect(encrypted.database_uri)
    try:
        assert await connection.fetchval("SELECT count(*) FROM data_keys") == await connection.fetchval(
            "SELECT count(*) FROM data_keys k JOIN threads t ON k.owner = t.thread_id::text"
        )
    finally:
        await connection.close()


async def test_what_a_cron_asks_is_encrypted_until_it_is_deleted(encrypted: Server) -> None:
    client = get_client(url=encrypted.url)
    canary = f"{CANARY}-cron"
    thread = await client.threads.create()
    cron = await client.crons.create_for_thread(
        thread["thread_id"], "ask", schedule="* * * * * *", input={"items": [canary]}
    )

    async def asked() -> bool:
        runs = await client.runs.list(thread["thread_id"])
        return any(run["kwargs"]["input"] == {"items": [canary]} and run["status"] == "success" for run in runs)

    await eventually(asked, says=lambda: f"the cron's run ends:\n{encrypted.output}")
    (found,) = await client.crons.search(thread_id=thread["thread_id"])
    assert found["payload"]["input"] == {"items": [canary]}
    assert not [value[:200] for value in await stored(encrypted) if canary.encode() in value]
    await client.crons.delete(cron["cron_id"])
    await client.threads.delete(thread["thread_id"])
    connection = await asyncpg.connect(encrypted.database_uri)
    try:
        owners = {row[0] for row in await connection.fetch("SELECT owner FROM data_keys")}
        assert not owners & {cron["cron_id"], thread["thread_id"]}
    finally:
        await connection.close()


async def test_the_read_models_are_those_of_the_log(encrypted: Server) -> None:
    client = get_client(url=encrypted.url)
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "ask", input={"items": [CANARY]})
    verified = await asyncio.to_thread(encrypted.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize(
    ("key", "sentence"),
    [(None, "set LANGGRAPH_AES_KEY to the one"), ("another key of as many characters"[:32], "THREADLOG_AES_OLD_KEYS")],
)
async def test_a_server_without_the_right_key_does_not_start(encrypted: Server, key: str | None, sentence: str) -> None:
    client = get_client(url=encrypted.url)
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "ask", input={"items": [CANARY]})
    settings = Settings.load(database_uri=encrypted.database_uri, aes_key=key)
    with pytest.raises(CannotRun, match=sentence):
        async with keyring_of(settings, encrypted.database_uri, name="test"):
            pass
    findings = [finding async for finding in doctor.database(settings, encrypted.database_uri)]
    assert any(finding.ok is False and sentence in finding.what for finding in findings)
