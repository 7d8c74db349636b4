"""Data keys with the log in Kafka: in Postgres and in a topic, so that content outlives the loss of Postgres.

Postgres decides: a key is used once its row and then its record are durable, and destroyed with its row. What that
leaves in the topic is followed up by the engines (`KeyTopicKeeper`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Protocol

import asyncpg

from threadlog.engine.encryption.key_table import PostgresKeys, context_json
from threadlog.engine.encryption.keys import WrappedKey

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
LATE_SECONDS = 300.0
"""A record that was on its way when its key was destroyed is in the topic after this, or its sender has given up."""

_COMING = "UPDATE data_keys SET topic = 'there' WHERE key_id = $1"
_TO_BE_TOLD = """
SELECT key_id FROM destroyed_keys WHERE NOT told OR destroyed_at < now() - make_interval(secs => $1) LIMIT 500
"""
_TOLD = """
WITH late AS (
    DELETE FROM destroyed_keys WHERE key_id = ANY ($1) AND told AND destroyed_at < now() - make_interval(secs => $2)
)
UPDATE destroyed_keys SET told = true WHERE key_id = ANY ($1) AND NOT told
"""
# A key without a row: Postgres was lost, unless it knows that the thread is deleted: the record is deleted then.
_RESTORE = """
WITH found AS (
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::text[])
        f (owner, key_id, wrapped, wrapped_by, context)
), gone AS (
    SELECT f.owner, f.key_id FROM found f
    JOIN aggregates a ON a.key = regexp_replace(f.owner, '^assistant:', '') AND a.deleted_at IS NOT NULL
    WHERE NOT EXISTS (SELECT FROM data_keys k WHERE k.key_id = f.key_id)
), restored AS (
    INSERT INTO data_keys (owner, key_id, wrapped, wrapped_by, topic, context)
    SELECT owner, key_id, wrapped, wrapped_by, 'there', context::json FROM found f
    WHERE NOT EXISTS (SELECT FROM gone g WHERE g.key_id = f.key_id)
        AND NOT EXISTS (SELECT FROM destroyed_keys d WHERE d.key_id = f.key_id)
    ON CONFLICT DO NOTHING
)
INSERT INTO destroyed_keys (owner, key_id) SELECT owner, key_id FROM gone ON CONFLICT DO NOTHING
"""


class KeyLog(Protocol):
    """The topic of data keys (`engine.log.kafka.keys.KeyTopic`). Raises `LogUnavailable`."""

    async def add(self, key: WrappedKey) -> None: ...

    async def delete(self, ids: Iterable[bytes]) -> None: ...

    async def read(self) -> list[WrappedKey]: ...


class LoggedKeys:
    """`engine.encryption.keys.KeyStore`. `current` and `add` return keys that are in the topic."""

    def __init__(self, pool: asyncpg.Pool, topic: KeyLog) -> None:
        self._pool, self._topic = pool, topic
        self._table = PostgresKeys(pool, topic="coming")

    async def current(self, owners: Collection[str]) -> list[WrappedKey]:
        kept = await self._table.current(owners)
        coming = await self._table.coming([key.id for key in kept])
        for key in kept:
            if key.id in coming:  # its maker has died, or is about to do the same: twice does no harm
                await self._write(key)
        return kept

    async def by_id(self, ids: Collection[bytes]) -> list[WrappedKey]:
        return await self._table.by_id(ids)

    async def add(self, key: WrappedKey, *, of_thread: bool) -> WrappedKey | None:
        kept = await self._table.add(key, of_thread=of_thread)
        if kept is not None:
            await self._write(kept)
        return kept

    async def replace(self, key: WrappedKey, new: WrappedKey) -> None:
        if await self._table.replaced(key, new):
            await self._topic.add(new)

    async def _write(self, key: WrappedKey) -> None:
        await self._topic.add(key)
        await self._pool.execute(_COMING, key.id)


class KeyTopicKeeper:
    """Of an engine: restores keys that Postgres has lost, and deletes from the topic those that were destroyed."""

    def __init__(self, pool: asyncpg.Pool, topic: KeyLog, *, late_seconds: float = LATE_SECONDS) -> None:
        self._pool, self._topic, self._late = pool, topic, late_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The keys of the topic are known when it returns. Before the engine projects: deletions then find them."""
        await self.restore()
        self._task = asyncio.create_task(self._follow(), name="data keys")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def restore(self) -> None:
        keys = await self._topic.read()
        if keys:
            rows = ((k.owner, k.id, k.wrapped, k.wrapped_by, context_json(k.context)) for k in keys)
            columns = zip(*rows, strict=True)
            await self._pool.execute(_RESTORE, *map(list, columns))

    async def follow_up(self) -> None:
        """Append the tombstones that are due."""
        while ids := [row[0] for row in await self._pool.fetch(_TO_BE_TOLD, self._late)]:
            await self._topic.delete(ids)
            await self._pool.execute(_TOLD, ids, self._late)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.follow_up()
            except Exception as error:
                logger.warning("destroyed data keys can't be deleted from the topic yet: %s", error)
