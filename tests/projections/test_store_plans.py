"""Searches of a store with many items walk an index: the plans are those of a million (tests.benchmarks.store)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.databases import new_database
from tests.projections.grown import Explaining
from tests.projections.grown_store import FILL, SEARCHES
from threadlog.engine.store import listing, reading

ITEMS = 30_000
LOOKED_AT = 2 * reading.FEW_ITEMS + 500  # rows and index entries, by any search here; a namespace has 100 items


@pytest.fixture(scope="module")
async def grown(postgres_uri: str, _template: str) -> AsyncIterator[asyncpg.Connection]:
    async with new_database(postgres_uri, template=_template) as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute(FILL, ITEMS)
        await connection.execute("VACUUM ANALYZE store_items")
        yield connection
        await connection.close()


@pytest.mark.parametrize("name", SEARCHES)
async def test_a_search_looks_at_few_rows(grown: asyncpg.Connection, name: str) -> None:
    asked: dict[str, Any] = SEARCHES[name]
    explaining = Explaining(grown)
    rows = await reading.search(explaining, asked["namespace_prefix"], filter=asked.get("filter"))
    assert explaining.rows() < LOOKED_AT, "\n".join(explaining.outline())
    assert len(rows) == (1 if name == "of all, by a field" else 10)


async def test_namespaces_are_a_step_each(grown: asyncpg.Connection) -> None:
    explaining = Explaining(grown)
    assert len(await listing.namespaces(explaining, (), limit=100)) == 100
    assert explaining.rows() < LOOKED_AT, "\n".join(explaining.outline())
