"""Data keys in Postgres: the table `data_keys`, on a pool of its own. The projection deletes a key with its thread."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from threadlog.engine.encryption.keys import WrappedKey

_COLUMNS = "owner, key_id, wrapped, wrapped_by"
# A thread that is being deleted is waited for, and its deletion for us: either it finds the key, or there is none.
_ADD = f"""
WITH thread AS (SELECT FROM threads WHERE $5 AND thread_id = $1::uuid FOR KEY SHARE),
made AS (
    INSERT INTO data_keys (owner, key_id, wrapped, wrapped_by, topic)
    SELECT $1, $2, $3, $4, $6 WHERE NOT $5 OR EXISTS (SELECT FROM thread)
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
        return [WrappedKey(*row) for row in rows]

    async def by_id(self, ids: Collection[bytes]) -> list[WrappedKey]:
        rows = await self._pool.fetch(f"SELECT {_COLUMNS} FROM data_keys WHERE key_id = ANY ($1)", list(ids))
        return [WrappedKey(*row) for row in rows]

    async def coming(self, ids: Collection[bytes]) -> set[bytes]:
        """Those of these keys whose record may not be in the topic yet."""
        rows = await self._pool.fetch(
            "SELECT key_id FROM data_keys WHERE key_id = ANY ($1) AND topic IS DISTINCT FROM 'there'", list(ids)
        )
        return {row[0] for row in rows}

    async def add(self, key: WrappedKey, *, of_thread: bool) -> WrappedKey | None:
        row = await self._pool.fetchrow(
            _ADD, key.owner, key.id, key.wrapped, key.wrapped_by, of_thread, self._topic_state
        )
        if row is not None:
            return WrappedKey(*row)
        for kept in await self.current([key.owner]):  # another process was first
            return kept
        return None
