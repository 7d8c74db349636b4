"""What a server has stored, looked at from outside."""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import suppress
from typing import Any

import asyncpg

from tests.servers import Server
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import Settings
from threadlog.engine.compression.codec import unpack_record
from threadlog.engine.log.port import Log, Topic


async def stored(server: Server) -> list[bytes]:
    """Every value of every table, and every record of every topic, as readable as one can have them without keys."""
    everything: list[bytes] = []
    connection = await asyncpg.connect(server.database_uri)
    try:
        for (table,) in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            for row in await connection.fetch(f'SELECT * FROM "{table}"'):
                for value in row.values():
                    everything.append(_readable(value) if isinstance(value, bytes) else str(value).encode())
    finally:
        await connection.close()
    async with existing_log(settings_of(server)) as log:
        for topic in Topic:
            for p in range(log.partitions):
                everything += [record.value for record in await _records(log, topic, p)]
    for texts in list(everything):  # base64, as values stand in records
        for found in re.findall(rb'"b":"([A-Za-z0-9+/=]{8,})"', texts):
            with suppress(ValueError):
                everything.append(b64decode(found))
    return everything


def _readable(value: bytes) -> bytes:
    try:
        return unpack_record(value)
    except ValueError:
        return value


async def _records(log: Log, topic: Topic, p: int) -> list[Any]:
    at, end = await log.bounds(topic, p)
    records: list[Any] = []
    while at < end and (read := await log.read(topic, p, at, end=end)):
        records += read
        at = read[-1].offset + 1
    return records


def settings_of(server: Server, **more: Any) -> Settings:
    environment = server._environment()
    return Settings.load(
        database_uri=server.database_uri,
        kafka_bootstrap_servers=environment.get("KAFKA_BOOTSTRAP_SERVERS"),
        topic_prefix=environment.get("THREADLOG_TOPIC_PREFIX"),
        **more,
    )
