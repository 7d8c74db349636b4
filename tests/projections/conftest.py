"""A connection to a fresh database, and event records projected in every way they can be."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.projections.run_script import RunScript, no_values, tables, told
from threadlog.projections.fold.project import fold_by_key, write

Tables = dict[str, list[dict[str, Any]]]
Tell = Callable[..., Awaitable[Tables]]


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
def tell(conn: asyncpg.Connection) -> Tell:
    """Projects a script and returns the tables; in one batch, record by record, and as a rebuild does: they have to
    agree."""

    async def tell(script: RunScript, read: Any = None) -> Tables:
        names = {"read": read} if read is not None else {}
        transaction = conn.transaction()
        await transaction.start()
        await told(conn, [[item] for item in script.accepted], **names)
        one_by_one = await tables(conn)
        await transaction.rollback()
        transaction = conn.transaction()
        await transaction.start()
        await write(conn, fold_by_key(3, script.accepted), names.get("read", no_values), quiet=True)
        by_key = await tables(conn)
        await transaction.rollback()
        await told(conn, [script.accepted], **names)
        in_one = await tables(conn)
        assert in_one == one_by_one == by_key
        return in_one

    return tell
