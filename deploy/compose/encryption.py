"""Composition of encryption: the keyring of a process, and the check of its key against what the database holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from threadlog.deploy.compose.storage import pool_of
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.encryption.cipher import MasterKeys
from threadlog.engine.encryption.key_table import PostgresKeys
from threadlog.engine.encryption.key_topic import KeyTopicKeeper, LoggedKeys
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.gateway.sealing import SealingGateway
from threadlog.engine.log.opening import OpeningLog
from threadlog.engine.log.port import Log
from threadlog.engine.processor.ports import Gateway

if TYPE_CHECKING:
    from threadlog.engine.log.kafka.keys import KeyTopic

_CONNECTIONS = 4


@asynccontextmanager
async def keyring_of(settings: Settings, uri: str, *, name: str) -> AsyncIterator[Keyring | None]:
    """The data keys, for the process called `name`; None without `LANGGRAPH_AES_KEY`.

    Raises:
        CannotRun: the database holds content that the installation's keys can't decrypt.
    """
    master = master_keys(settings)
    await check_keys(uri, master)
    if master is None:
        yield None
        return
    async with pool_of(uri, name=f"{name}-keys", size=_CONNECTIONS, seconds=settings.database_timeout_seconds) as pool:
        if settings.kafka_bootstrap_servers is None:
            yield Keyring(master, PostgresKeys(pool))
            return
        topic = _topic(settings)
        try:
            yield Keyring(master, LoggedKeys(pool, topic))
        finally:
            await topic.aclose()


def sealing(gateway: Gateway, keyring: Keyring | None) -> Gateway:
    """The gateway, with the content of commands encrypted on the way if there are keys."""
    return gateway if keyring is None else SealingGateway(gateway, keyring)


def readable_log(source: Log, keyring: Keyring | None) -> Log:
    """The log, with frames decrypted if there are keys."""
    return source if keyring is None else OpeningLog(source, keyring)


@asynccontextmanager
async def keeping_the_topic(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[None]:
    """For an engine, around its projections: the topic of keys has what Postgres has, and the other way round."""
    if settings.aes_key is None or settings.kafka_bootstrap_servers is None:
        yield
        return
    topic = _topic(settings)
    keeper = KeyTopicKeeper(pool, topic)
    try:
        await keeper.start()
        yield
    finally:
        await keeper.stop()
        await topic.aclose()


def _topic(settings: Settings) -> KeyTopic:
    from threadlog.engine.log.kafka.keys import KeyTopic  # as in `opened_log`

    assert settings.kafka_bootstrap_servers is not None
    return KeyTopic(
        settings.kafka_bootstrap_servers,
        prefix=settings.topic_prefix,
        replication_factor=settings.topic_replication_factor,
    )


def master_keys(settings: Settings) -> MasterKeys | None:
    if settings.aes_key is None:
        return None
    return MasterKeys(settings.aes_key, settings.aes_old_keys)


async def check_keys(uri: str, master: MasterKeys | None) -> None:
    """Raises `CannotRun` when the database holds data keys that these keys can't decrypt."""
    known = [] if master is None else master.names
    connection = await asyncpg.connect(uri)
    try:
        if await connection.fetchval("SELECT to_regclass('data_keys')") is None:
            return  # this database is not threadlog's yet, or an earlier version's
        unreadable = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM data_keys WHERE wrapped_by <> ALL ($1::text[]))", known
        )
    finally:
        await connection.close()
    if not unreadable:
        return
    if master is None:
        raise CannotRun(
            "this database holds encrypted threads, and there is no key: set LANGGRAPH_AES_KEY to the one they were "
            "encrypted with"
        )
    raise CannotRun(
        "this database holds threads that were encrypted with another LANGGRAPH_AES_KEY: set it to that one, or add "
        "that one to THREADLOG_AES_OLD_KEYS"
    )
