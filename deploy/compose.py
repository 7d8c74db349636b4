"""The composition root: which objects a process consists of, and how they are started and stopped together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from deploy.settings import Settings
from engine.log.port import Log
from engine.log.postgres import PostgresLog
from engine.log.postgres_append import AWAY
from projections.schema import migrate

log = logging.getLogger("threadlog")

DATABASE_PATIENCE_SECONDS = 60.0


class CannotRun(Exception):
    """This process cannot work as it is set up; the message says what to change."""


class DatabaseAway(Exception):
    """Postgres did not answer in time."""


async def database_ready(uri: str, *, patience_seconds: float = DATABASE_PATIENCE_SECONDS) -> None:
    """Return when Postgres accepts connections: it may be starting beside us.

    Raises:
        DatabaseAway: it did not in `patience_seconds`.
    """
    began = time.monotonic()
    pause, told = 0.02, False
    while True:
        try:
            connection = await asyncpg.connect(uri, timeout=5)
            await connection.close()
            return
        except AWAY as error:
            waited = time.monotonic() - began
            if waited > patience_seconds:
                from deploy.failures import without_password

                raise DatabaseAway(
                    f"Postgres at {without_password(uri)} does not answer ({error}). Start it, or correct DATABASE_URI."
                ) from None
            if waited > 3 and not told:
                told = True
                log.warning("waiting for Postgres: %s", error)
        await asyncio.sleep(pause)
        pause = min(pause * 1.3, 0.5)


@asynccontextmanager
async def opened_log(settings: Settings) -> AsyncIterator[Log]:
    """The log that exists, to read from it.

    Raises:
        CannotRun: there is none.
        DatabaseAway, LogUnavailable: it can't be reached.
    """
    assert settings.database_uri is not None
    await database_ready(settings.database_uri, patience_seconds=2)
    connection = await asyncpg.connect(settings.database_uri)
    try:
        if await connection.fetchval("SELECT to_regclass('log_settings')") is None:
            raise CannotRun("this database holds no log yet: start a server on it first")
        partitions = await connection.fetchval("SELECT partitions FROM log_settings")
    finally:
        await connection.close()
    opened = await PostgresLog.create(settings.database_uri, partitions)
    try:
        yield opened
    finally:
        await opened.aclose()


async def prepared_database(settings: Settings) -> str:
    """The DSN of a reachable database with all tables."""
    assert settings.database_uri is not None
    await database_ready(settings.database_uri)
    await migrate(settings.database_uri, partitions=settings.partition_count)
    return settings.database_uri
