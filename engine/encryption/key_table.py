"""Data keys in Postgres: the table `data_keys`, on a pool of its own. The projection deletes a key with its thread."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg
import orjson

from threadlog.engine.encryption.keys import WrappedKey
from threadlog.engine.encryption_context import Context

_COLUMNS = "owner, key_id, wrapped, wrapped_by, context"
# A thread that is being deleted is waited for, and its deletion for us: either it finds the key, or there is none.
_ADD = f"""
WITH thread AS (SELECT FROM threads WHERE thread_id = CASE WHEN $5 THEN $1::text::uuid END FOR KEY SHARE),
made AS (
    INSERT INTO data_keys (owner, key_id, wrapped, wrapped_by, topic, context)
    SELECT $1, $2, $3, $4, $6, $7::json WHERE NOT $5 OR EXISTS (SELECT FROM thread)
    ON CONFLICT (owner) DO NOTHING RETURNING {_COLUMNS}
)
SELECT {_COLUMNS} FROM made
"""


class PostgresKeys:
    """`engine.encryption.keys.KeyStore`."""

    def __init__(self, pool: asyncpg.Pool, *, topic: str | None = None) -> None:
        """`topic`: what is noted of the key's record in the topic of keys, where there is one."""
        self._pool, self._topic_state = pool, topic

    async def current(self, owners: Collection[str]) -> list[WrappedKey]:
        rows = await self._pool.fetch(f"SELECT {_COLUMNS} FROM data_keys WHERE owner = ANY ($1)", list(owners))
        return [_key(row) for row in rows]

    async def by_id(self, ids: Collection[bytes]) -> list[WrappedKey]:
        rows = await self._pool.fetch(f"SELECT {_COLUMNS} FROM data_keys WHERE key_id = ANY ($1)", list(ids))
        return [_key(row) for row in rows]

    async def coming(self, ids: Collection[bytes]) -> set[bytes]:
        """Those of these keys whose record may not be in the topic yet."""
        rows = await self._pool.fetch(
            "SELECT key_id FROM data_keys WHERE key_id = ANY ($1) AND topic IS DISTINCT FROM 'there'", list(ids)
        )
        return {row[0] for row in rows}

    async def add(self, key: WrappedKey, *, of_thread: bool) -> WrappedKey | None:
        row = await self._pool.fetchrow(
            _ADD, key.owner, key.id, key.wrapped, key.wrapped_by, of_thread, self._topic_state,
            context_json(key.context),
        )  # fmt: skip
        if row is not None:
            return _key(row)
        for kept in await self.current([key.owner]):  # another process was first
            return kept
        return None

    async def replace(self, key: WrappedKey, new: WrappedKey) -> None:
        await self.replaced(key, new)

    async def replaced(self, key: WrappedKey, new: WrappedKey) -> bool:
        """Whether it was still there, as it was."""
        done = await self._pool.execute(
            "UPDATE data_keys SET wrapped = $3, wrapped_by = $4 WHERE key_id = $1 AND wrapped = $2",
            key.id, key.wrapped, new.wrapped, new.wrapped_by,
        )  # fmt: skip
        return str(done) == "UPDATE 1"


def context_json(context: Context | None) -> str | None:
    return orjson.dumps(context).decode() if context else None


def _key(row: asyncpg.Record) -> WrappedKey:
    owner, id, wrapped, wrapped_by, context = row
    return WrappedKey(owner, id, wrapped, wrapped_by, None if context is None else orjson.loads(context))
