"""Connections to storage: Postgres, waited for and migrated, and the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from asyncpg.pool import PoolAcquireContext

from threadlog.deploy import extras
from threadlog.deploy.failures import CannotRun, DatabaseAway
from threadlog.deploy.settings import Settings, without_password
from threadlog.engine.backoff import Backoff
from threadlog.engine.encryption.connection import opening
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.log.port import Log, LogUnavailable
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.metrics import METRICS
from threadlog.engine.postgres.connection import leave_as_it_is
from threadlog.engine.postgres.errors import AWAY
from threadlog.engine.store.embedding import Embedder
from threadlog.engine.store.similarity import NoVectors, prepare
from threadlog.engine.user_code.embeddings import load_embeddings
from threadlog.engine.user_code.langgraph_json import LanggraphJson
from threadlog.engine.user_code.store_config import StoreConfig
from threadlog.projections.schema import migrate

log = logging.getLogger("threadlog")

PATIENCE_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 300.0


async def database_ready(uri: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Return when Postgres accepts connections: it may be starting beside us.

    Raises:
        DatabaseAway: it did not in `patience_seconds`.
    """
    began = time.monotonic()
    backoff, warned = Backoff(0.02, 0.5, factor=1.3), False  # a start waits for this
    while True:
        try:
            connection = await asyncpg.connect(uri, timeout=5)
            await connection.close()
            return
        except AWAY as error:
            waited = time.monotonic() - began
            if waited > patience_seconds:
                raise DatabaseAway(
                    f"Postgres at {without_password(uri)} does not answer ({error}). Start it, or correct DATABASE_URI."
                ) from None
            if waited > 3 and not warned:
                warned = True
                log.warning("waiting for Postgres: %s", error)
        await backoff.wait()


async def prepared_database(settings: Settings) -> str:
    """The DSN of a reachable database that has all tables of the read models."""
    assert settings.database_uri is not None
    await database_ready(settings.database_uri)
    await migrate(settings.database_uri, partitions=settings.partition_count)
    return settings.database_uri


async def prepared_store(uri: str, config: StoreConfig) -> None:
    """Make what semantic search needs in the database, if the application's file asks for it.

    Raises:
        CannotRun: the database has no pgvector that can be used.
    """
    if config.index is None:
        return
    connection = await asyncpg.connect(uri)
    try:
        await prepare(connection, config.index.dims)
    except NoVectors as error:
        raise CannotRun(str(error)) from None
    finally:
        await connection.close()


def embedder_of(application: LanggraphJson) -> Embedder | None:
    """Of `store.index`; it loads the application's code when it is asked to."""
    index = application.store.index
    return None if index is None else Embedder(index, lambda: load_embeddings(application, index))


class _Acquired(PoolAcquireContext):
    """A connection on which a statement was given up is not given back, which would wait for the server again."""

    async def __aexit__(self, *exc: object) -> None:
        if any(isinstance(part, TimeoutError) for part in exc) and self.connection is not None:
            with suppress(asyncpg.InterfaceError):  # its user has done so
                self.connection.terminate()
        await super().__aexit__(*exc)


class BoundedPool(asyncpg.Pool):
    """A pool whose users don't wait for ever for a server that neither answers nor ends its connections.

    Every statement, waiting for a connection, and giving one back raises TimeoutError after `seconds`; a connection on
    which one did is closed.
    """

    def __init__(
        self,
        uri: str,
        *,
        name: str,
        size: int,
        seconds: float,
        connection_class: type[asyncpg.Connection] = asyncpg.Connection,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        super().__init__(
            uri,
            min_size=1,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=idle_seconds,
            connect=None,
            setup=None,
            init=None,
            reset=leave_as_it_is,
            loop=None,
            connection_class=connection_class,
            record_class=asyncpg.Record,
            timeout=min(seconds, _CONNECT_SECONDS),
            command_timeout=seconds,
            server_settings={"application_name": f"threadlog-{name}"},
        )
        self._seconds = seconds

    def acquire(self, *, timeout: float | None = None) -> Any:
        """The time limit counts for giving the connection back, too, when a statement given up is cancelled."""
        if self.get_idle_size() == 0 and self.get_size() >= self.get_max_size():
            METRICS.count("pg_pool_requests_queued")
        return _Acquired(self, self._seconds if timeout is None else timeout)


@asynccontextmanager
async def pool_of(
    uri: str,
    *,
    name: str,
    size: int,
    seconds: float,
    keyring: Keyring | None = None,
    idle_seconds: float = _IDLE_SECONDS,
) -> AsyncIterator[asyncpg.Pool]:
    """Connections for one purpose, `name`d in `pg_stat_activity`; see `BoundedPool`. `keyring`: decrypts what they
    read. One not used for `idle_seconds` is closed."""
    pool = await BoundedPool(
        uri, name=name, size=size, seconds=seconds, connection_class=opening(keyring), idle_seconds=idle_seconds
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), _CLOSE_SECONDS)
        except Exception:
            pool.terminate()


@asynccontextmanager
async def opened_log(
    settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS, quiet: bool = False
) -> AsyncIterator[Log]:
    """The log, made if it does not exist; waited for if it can't be reached at first. `quiet`: see `PostgresLog`.

    Raises:
        CannotRun: it exists with another number of partitions, or the client for it is not installed.
        LogUnavailable: it couldn't be reached in `patience_seconds`.
    """
    extras.require(settings)
    began, warned = time.monotonic(), False
    while True:
        try:
            opened = await _open(settings, quiet)
            break
        except ValueError as error:
            raise CannotRun(f"{error} (THREADLOG_PARTITIONS)") from None
        except LogUnavailable as error:
            waited = time.monotonic() - began
            if waited > patience_seconds:
                raise
            if waited > 3 and not warned:
                warned = True
                log.warning("waiting for the log: %s", error)
        await asyncio.sleep(0.2)
    try:
        yield opened
    finally:
        await opened.aclose()


async def _open(settings: Settings, quiet: bool) -> Log:
    if settings.kafka_bootstrap_servers is None:
        assert settings.database_uri is not None
        return await PostgresLog.create(
            settings.database_uri,
            settings.partition_count,
            quiet=quiet,
            commands_are_rare=settings.link is not None,  # else they go through the link and the processor
        )
    from threadlog.engine.log.kafka.log import KafkaLog  # aiokafka takes time to import, and is not needed otherwise

    return await KafkaLog.create(
        settings.kafka_bootstrap_servers,
        prefix=settings.topic_prefix,
        partitions=settings.partition_count,
        replication_factor=settings.topic_replication_factor,
        commands_seconds=settings.commands_retention_hours * 3600,
        stream_seconds=settings.stream_retention_seconds,
    )


@asynccontextmanager
async def existing_log(settings: Settings) -> AsyncIterator[Log]:
    """The log as it is, to read from.

    Raises:
        CannotRun: there is none.
        DatabaseAway, LogUnavailable: it can't be reached.
    """
    assert settings.database_uri is not None
    await database_ready(settings.database_uri, patience_seconds=2)
    connection = await asyncpg.connect(settings.database_uri)
    try:
        if await connection.fetchval("SELECT to_regclass('partitions')") is None:
            raise CannotRun("this database was not used by threadlog yet: start a server on it first")
        partitions = await connection.fetchval("SELECT count(*) FROM partitions")
    finally:
        await connection.close()
    as_it_is = settings.model_copy(update={"partitions": partitions})
    async with opened_log(as_it_is, patience_seconds=5) as opened:
        yield opened
