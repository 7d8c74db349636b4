"""Every query of the api finds what it wants by an index, in tables large enough for the planner to care."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.databases import new_database
from tests.projections.grown import QUERIES, Explaining, fill
from threadlog.deploy.settings import EMBEDDED_PARTITIONS
from threadlog.projections.schema import migrate

pytestmark = pytest.mark.xdist_group("plans")  # filled once

THREADS, CHECKPOINTS = 20_000, 2_000
FEW = 1_100
"""Rows that a page may cost: those before it, and the page."""

MANY = {
    "count threads": "counts every row, of an index alone",
    "count threads, idle": "counts every row, of an index alone",
    "count assistants": "counts every row, of an index alone",
    "count tasks of an assistant": "counts each of its runs, of an index alone",
    "search threads, metadata of 50": "walks an order until a page is full, where the metadata is not rare",
    "search threads, metadata by updated_at": "as above",
    "count runs": "counts every row, of an index alone",
    "search runs, metadata of 50": "walks the runs, newest first, while they are few enough for that",
    "search runs, of threads of a user": "as above",
    "search runs, of threads of a tenth": "as above, and a thread for each",
    "search assistants, name": "a part of a name: walks the assistants, newest first",
    "history, metadata of none": "walks the thread's history",
    "last checkpoint of a run": "walks the thread's history down to the run",
}
"""Queries that may look at more, and why."""

SECONDARY = (
    "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND indexdef NOT LIKE 'CREATE UNIQUE %' "
    "AND tablename IN ('threads', 'runs', 'assistants')"
)


@pytest.fixture(scope="module")
async def grown(postgres_uri: str) -> AsyncIterator[asyncpg.Connection]:
    async with new_database(postgres_uri) as dsn:
        await migrate(dsn, partitions=EMBEDDED_PARTITIONS)
        conn = await asyncpg.connect(dsn)
        await fill(conn, THREADS, CHECKPOINTS)
        yield conn
        await conn.close()


async def explained(conn: asyncpg.Connection, name: str) -> Explaining:
    explaining = Explaining(conn)
    await QUERIES[name](explaining)
    return explaining


@pytest.mark.parametrize("name", QUERIES)
async def test_no_query_reads_a_table_whole(grown: asyncpg.Connection, name: str) -> None:
    explaining = await explained(grown, name)
    plans = "\n".join(explaining.outline())
    assert explaining.plans and explaining.indexes(), plans
    assert explaining.whole() == [], plans
    if name not in MANY:
        assert explaining.rows() <= FEW, plans


@pytest.mark.parametrize("name", [name for name in QUERIES if name.startswith("count") and "metadata" not in name])
async def test_counting_reads_an_index_alone(grown: asyncpg.Connection, name: str) -> None:
    plans = (await explained(grown, name)).outline()
    scans = [line for line in plans if "Scan" in line]
    assert scans and all("Index Only Scan" in line for line in scans), plans


async def test_every_index_is_needed(grown: asyncpg.Connection) -> None:
    """And the tests above notice when one is missing."""
    for (index,) in await grown.fetch(SECONDARY):
        transaction = grown.transaction()
        await transaction.start()
        try:
            await grown.execute(f"DROP INDEX {index}")
            worse = []
            for name in QUERIES:
                explaining = await explained(grown, name)
                if explaining.whole() or (name not in MANY and explaining.rows() > FEW):
                    worse.append(name)
        finally:
            await transaction.rollback()
        assert worse, index
