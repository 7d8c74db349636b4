"""Fork, `threadlog fork`: a new thread with the state and history that another had at a position of the log.

The thread alone is rebuilt up to there, in a schema of its own that is gone afterwards; from it the same commands are
made as for a copy. The engine decides them, as it does all others.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import asyncpg
import click
import orjson

from threadlog.api.threads.copy import creation, imports
from threadlog.deploy.commands.terminal import RebuildProgress, write
from threadlog.deploy.compose.encryption import wrapper_of
from threadlog.deploy.compose.storage import existing_log, pool_of
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.domain.commands import Command, DeleteThread
from threadlog.engine.gateway.event_tail import EventTail
from threadlog.engine.gateway.gateway import LogGateway
from threadlog.engine.log.port import Log, Topic
from threadlog.engine.log.records import partition_of
from threadlog.projections.commit.applied import PostgresApplied
from threadlog.projections.queries import threads
from threadlog.projections.rebuild.rebuild import rebuild
from threadlog.projections.schema import create_beside

_SECONDS = 60.0


async def fork(settings: Settings, thread_id: str, at: str, *, as_json: bool) -> int:
    """Make the new thread and print its id; returns the exit code, 1 when there was no such thread at that position."""
    uri = settings.database_uri
    assert uri is not None
    async with (
        existing_log(settings) as log,
        pool_of(uri, name="fork", size=4, seconds=_SECONDS) as pool,
        pool.acquire() as connection,
    ):
        partition = partition_of(thread_id, log.partitions)
        offset = await _offset(log, partition, at)
        target = str(uuid.uuid4())
        transaction = connection.transaction()
        await transaction.start()
        try:
            if (await wrapper_of(settings))[0] or await connection.fetchval("SELECT EXISTS (SELECT FROM data_keys)"):
                raise CannotRun("threads are encrypted here, each with a key of its own: they can't be forked")
            plain = cast(asyncpg.Connection, connection)
            await create_beside(plain, f"fork_{uuid.uuid4().hex[:12]}", log.partitions)
            with RebuildProgress() as progress:
                await rebuild(plain, log, {partition: offset}, only=thread_id, progress=progress)
            row = await threads.get(connection, thread_id)
            if row is None:
                click.echo(f"threadlog: there was no thread {thread_id} at {partition}@{offset}", err=True)
                return 1
            async with _gateway(pool, log) as gateway:
                await _submit(gateway, creation(row, thread_id, target, orjson.loads(row["metadata"])))
                try:
                    async for command in imports(connection, thread_id, target):
                        await _submit(gateway, command)
                except BaseException:
                    await gateway.submit(DeleteThread(thread_id=target))
                    raise
        finally:
            await transaction.rollback()
    if as_json:
        write([orjson.dumps({"thread_id": target, "copied_from": thread_id, "at": f"{partition}@{offset}"}).decode()])
    else:
        write([target])
    return 0


async def _offset(log: Log, partition: int, at: str) -> int:
    named, separator, offset = at.rpartition("@")
    if separator and named != str(partition):
        raise CannotRun(f"the thread's events are in partition {partition}, not in {named}")
    _, end = await log.bounds(Topic.EVENTS, partition)
    if int(offset) >= end:
        raise CannotRun(f"the log ends at {partition}@{end - 1}")
    return int(offset)


@asynccontextmanager
async def _gateway(pool: asyncpg.Pool, log: Log) -> AsyncIterator[LogGateway]:
    gateway = LogGateway(log, deadline_seconds=_SECONDS)
    tail = EventTail(log, PostgresApplied(pool))
    tail.add_listener(gateway)
    await tail.start()
    try:
        yield gateway
    finally:
        await tail.stop()


async def _submit(gateway: LogGateway, command: Command) -> None:
    decided = await gateway.submit(command)
    if decided.rejection is not None:
        raise CannotRun(f"the engine refused it: {decided.rejection.detail}")
