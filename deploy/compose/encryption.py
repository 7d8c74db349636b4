"""Composition of encryption: the keyring of a process, and the check of its key against what the database holds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from threadlog.deploy.compose.environment import api_url
from threadlog.deploy.compose.storage import pool_of
from threadlog.deploy.extras import ENCRYPTION
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.encryption.cipher import MasterKeys
from threadlog.engine.encryption.handlers import EncryptionHandlers
from threadlog.engine.encryption.key_table import PostgresKeys
from threadlog.engine.encryption.key_topic import KeyTopicKeeper, LoggedKeys
from threadlog.engine.encryption.keys import Keyring, KeyStore, KeyWrapper
from threadlog.engine.encryption.wrapping import HANDLERS, WithHandlers, WithInstallationKey
from threadlog.engine.gateway.sealing import SealingGateway
from threadlog.engine.log.opening import OpeningLog
from threadlog.engine.log.port import Log
from threadlog.engine.processor.ports import Gateway
from threadlog.engine.user_code.http_section import CodePlace
from threadlog.engine.user_code.importing import object_of
from threadlog.engine.user_code.langgraph_json import ConfigError, LanggraphJson
from threadlog.engine.user_code.langgraph_json import load as load_langgraph_json

if TYPE_CHECKING:
    from threadlog.engine.log.kafka.keys import KeyTopic

_CONNECTIONS = 4


@asynccontextmanager
async def keyring_of(settings: Settings, uri: str, *, name: str) -> AsyncIterator[Keyring | None]:
    """The data keys, for the process called `name`; None where nothing asks for encryption.

    Raises:
        CannotRun: the database holds content that this process can't decrypt, or a setting lacks another one.
        ConfigError: what `encryption.path` names can't be loaded or used.
    """
    wrapper, handlers = await wrapper_of(settings)
    await check_keys(uri, wrapper)
    if wrapper is None:
        yield None
        return
    options = keyring_options(settings, handlers)
    async with pool_of(uri, name=f"{name}-keys", size=_CONNECTIONS, seconds=settings.database_timeout_seconds) as pool:
        if settings.kafka_bootstrap_servers is None:
            yield Keyring(wrapper, PostgresKeys(pool), **options)
            return
        topic = _topic(settings)
        try:
            yield Keyring(wrapper, LoggedKeys(pool, topic), **options)
        finally:
            await topic.aclose()


def keyring_options(settings: Settings, handlers: EncryptionHandlers | None) -> dict[str, Any]:
    return {"handlers": handlers, "field_names": settings.aes_json_keys}


async def wrapper_of(settings: Settings) -> tuple[KeyWrapper | None, EncryptionHandlers | None]:
    """What encrypts data keys, the application's blob handlers, else `LANGGRAPH_AES_KEY`, None without both; and the
    application's handlers, if there are some.

    Raises: as `keyring_of`.
    """
    # An engine on a machine of its own need not have the file.
    app = (
        load_langgraph_json(settings.config) if settings.config.exists() or os.environ.get("LANGSERVE_GRAPHS") else None
    )
    keys = master_keys(settings)
    master = None if keys is None else WithInstallationKey(keys)
    handlers = None
    if app is not None and app.encryption is not None:
        handlers = await handlers_of(settings, app, app.encryption)
        if not handlers.has_blob and master is None:
            raise ConfigError(
                app.path,
                "encryption.path",
                "it has no blob handlers, and there is no LANGGRAPH_AES_KEY: states would be stored readable. Register "
                "encrypt.blob and decrypt.blob, or set the key.",
            )
        if not ENCRYPTION.installed:
            raise CannotRun(f"encryption.path in langgraph.json: {ENCRYPTION.missing}")
    if settings.aes_json_keys and master is None and handlers is None:
        raise CannotRun("LANGGRAPH_AES_JSON_KEYS: there is no key to encrypt with: set LANGGRAPH_AES_KEY, too")
    return WithHandlers(handlers, master) if handlers is not None and handlers.has_blob else master, handlers


_loaded: dict[tuple[str, str], EncryptionHandlers] = {}


async def handlers_of(settings: Settings, app: LanggraphJson, place: CodePlace) -> EncryptionHandlers:
    """The application's handlers. Raises ConfigError."""
    key = (place.source, place.attribute)
    if key not in _loaded:
        from threadlog.engine.user_code import loopback  # takes time to import, and is not needed otherwise

        loopback.install(api_url(settings, app))  # the module may make clients; so may its handlers
        # Without a running event loop, as graphs are imported.
        encryption = await asyncio.to_thread(_load, app, place)
        try:
            _loaded[key] = EncryptionHandlers(encryption)
        except ValueError as error:
            raise ConfigError(app.path, "encryption.path", f"{error}.") from None
    return _loaded[key]


def _load(app: LanggraphJson, place: CodePlace) -> Any:
    try:
        from langgraph_sdk import Encryption
    except ImportError:
        raise ConfigError(app.path, "encryption.path", "it needs langgraph-sdk 0.3.1 or newer: install it.") from None
    return object_of(app, "encryption.path", place.source, place.attribute, Encryption, is_file=place.is_file)


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """Where data keys are kept, and what decrypts them."""

    wrapper: KeyWrapper
    store: KeyStore


@asynccontextmanager
async def key_store(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[KeyAccess | None]:
    """For an import of data keys; None where nothing encrypts. Raises as `keyring_of`."""
    wrapper, _ = await wrapper_of(settings)
    if wrapper is None:
        yield None
    elif settings.kafka_bootstrap_servers is None:
        yield KeyAccess(wrapper, PostgresKeys(pool))
    else:
        topic = _topic(settings)
        try:
            yield KeyAccess(wrapper, LoggedKeys(pool, topic))
        finally:
            await topic.aclose()


def sealing(gateway: Gateway, keyring: Keyring | None) -> Gateway:
    """The gateway, with the content of commands encrypted on the way if there are keys."""
    return gateway if keyring is None else SealingGateway(gateway, keyring)


def readable_log(source: Log, keyring: Keyring | None) -> Log:
    """The log, with frames decrypted if there are keys."""
    return source if keyring is None else OpeningLog(source, keyring)


@asynccontextmanager
async def keeping_the_topic(settings: Settings, pool: asyncpg.Pool, keyring: Keyring | None) -> AsyncIterator[None]:
    """For an engine, around its projections: the topic of keys has what Postgres has, and the other way round."""
    if keyring is None or settings.kafka_bootstrap_servers is None:
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
    return None if settings.aes_key is None else MasterKeys(settings.aes_key, settings.aes_old_keys)


async def check_keys(uri: str, wrapper: KeyWrapper | None) -> None:
    """Raises `CannotRun` when the database holds data keys that these keys, or handlers, can't decrypt."""
    known = [] if wrapper is None else wrapper.names
    connection = await asyncpg.connect(uri)
    try:
        if await connection.fetchval("SELECT to_regclass('data_keys')") is None:
            return  # this database is not threadlog's yet, or an earlier version's
        unreadable = await connection.fetchval(
            "SELECT wrapped_by FROM data_keys WHERE wrapped_by <> ALL ($1::text[]) LIMIT 1", known
        )
    finally:
        await connection.close()
    if unreadable is None:
        return
    if unreadable == HANDLERS:
        raise CannotRun(
            "this database holds threads that were encrypted by handlers of the application, and this process has "
            "none: it needs the langgraph.json with `encryption.path`, and what it names"
        )
    if not set(known) - {HANDLERS}:
        raise CannotRun(
            "this database holds encrypted threads, and there is no key: set LANGGRAPH_AES_KEY to the one they were "
            "encrypted with"
        )
    raise CannotRun(
        "this database holds threads that were encrypted with another LANGGRAPH_AES_KEY: set it to that one, or add "
        "that one to THREADLOG_AES_OLD_KEYS"
    )
