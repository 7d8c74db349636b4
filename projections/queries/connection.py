"""What the queries read from: a pool, or one connection (several reads in one transaction)."""

from __future__ import annotations

from typing import Any, Protocol

import asyncpg


class Reader(Protocol):
    """The reading methods that `asyncpg.Pool` and `asyncpg.Connection` have in common."""

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]: ...

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...
