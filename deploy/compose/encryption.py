"""Composition of encryption: the keyring of a process, and the check of its key against what the database holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from threadlog.deploy.compose.storage import pool_of
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.encryption.cipher import MasterKeys
from threadlog.engine.encryption.key_table import PostgresKeys
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.gateway.sealing import SealingGateway
from threadlog.engine.log.opening import OpeningLog
from threadlog.engine.log.port import Log
from threadlog.engine.processor.ports import Gateway

_CONNECTIONS = 4


@asynccontextmanager
async def keyring_of(settings: Settings, uri: str, *, name: str) -> AsyncIterator[Keyring | None]:
    """The data keys, for the process called `name`; None without `LANGGRAPH_AES_KEY`.

    Raises:
        CannotRun: the database holds content that the installation's keys can't decrypt.
    """
    master = master_keys(settings)
    await _check(uri, master)
    if master is None:
        yield None
        return
    async with pool_of(uri, name=f"{name}-keys", size=_CONNECTIONS, seconds=settings.database_timeout_seconds) as pool:
        yield Keyring(master, PostgresKeys(pool))


def sealing(gateway: Gateway, keyring: Keyring | None) -> Gateway:
    """The gateway, with the content of commands encrypted on the way if there are keys."""
    return gateway if keyring is None else SealingGateway(gateway, keyring)


def readable_log(source: Log, keyring: Keyring | None) -> Log:
    """The log, with frames decrypted if there are keys."""
    return source if keyring is None else OpeningLog(source, keyring)


def master_keys(settings: Settings) -> MasterKeys | None:
    """Raises `CannotRun` for a log whose copies of the keys could not be destroyed."""
    if settings.aes_key is None:
        return None
    if settings.kafka_bootstrap_servers is not None:
        raise CannotRun("LANGGRAPH_AES_KEY: encryption is not there yet with the log in Kafka. Unset one of the two.")
    return MasterKeys(settings.aes_key, settings.aes_old_keys)


async def _check(uri: str, master: MasterKeys | None) -> None:
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
