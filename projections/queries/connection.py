"""What the queries read from: a pool, or one connection (several reads in one transaction); and filters of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import asyncpg
import orjson

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
"""A connection of the pool."""


class Reader(Protocol):
    """The reading methods that `asyncpg.Pool` and `asyncpg.Connection` have in common."""

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]: ...

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...


def containment(metadata: Mapping[str, Any] | None) -> str | None:
    """The right side of `metadata @> …`, as JSON text; None for an empty filter, which every row passes."""
    return orjson.dumps(metadata).decode() if metadata else None
