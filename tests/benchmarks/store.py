"""What the store costs beside langgraph's `AsyncPostgresStore` on the same Postgres; its searches at a million items.

    python -m tests.benchmarks.store [--calls 200] [--items 1000000] [--plans]

The calls are made in a node, by turns. The searches are timed on tables filled with SQL (no log behind them), on
namespaces of 100 items and on all of them; `rows` is what Postgres looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
from langgraph.store.postgres.aio import AsyncPostgresStore

from tests.benchmarks.client import Client
from tests.benchmarks.servers import kinds, running
from tests.databases import new_database
from tests.projections.grown import Explaining
from tests.projections.grown_store import FILL, SEARCHES
from threadlog.deploy.postgres import running_uri, temporary_postgres
from threadlog.engine.store import listing, reading
from threadlog.projections.schema import migrate

APP = Path(__file__).parent / "store_app"
TIMES = 9
FILL_THEIRS = """
INSERT INTO store (prefix, key, value, created_at, updated_at)
SELECT namespace, key, value, created_at, updated_at FROM store_items
"""


async def calls(count: int) -> None:
    with (
        tempfile.NamedTemporaryFile(suffix=".log") as log,
        running(kinds(kafka=None)[0], Path(log.name), APP) as server,
    ):
        uri = running_uri(server.data / "postgres")
        async with Client(server.url) as client:
            body = {"assistant_id": "measuring", "input": {"uri": uri, "calls": count, "figures": {}}}
            values = await client.call("POST", "/runs/wait", body)
            if "figures" not in values:
                raise SystemExit(f"the run failed: {values}")
            figures = values["figures"]
    print(f"medians of {count} calls in a node, ms\n")
    print("| call | threadlog | AsyncPostgresStore | ratio |\n|---|---|---|---|")
    for kind in figures["threadlog"]:
        ours, theirs = figures["threadlog"][kind], figures["AsyncPostgresStore"][kind]
        print(f"| {kind} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |", flush=True)


async def searches(uri: str, items: int, plans: bool) -> None:
    async with new_database(uri) as dsn:
        await migrate(dsn, partitions=16)
        conn = await asyncpg.connect(dsn)
        begun = time.perf_counter()
        await conn.execute(FILL, items)
        await conn.execute("VACUUM ANALYZE store_items")
        pool = {"min_size": 1, "max_size": 1}
        async with AsyncPostgresStore.from_conn_string(dsn, pool_config=pool) as theirs:  # type: ignore[arg-type]
            await theirs.setup()
            await conn.execute(FILL_THEIRS)
            await conn.execute("VACUUM ANALYZE store")
            print(f"\n{items:,} items in {time.perf_counter() - begun:.0f} s; medians, ms\n")
            print("| search | threadlog | rows | indexes | AsyncPostgresStore |\n|---|---|---|---|---|", flush=True)
            for name, asked in SEARCHES.items():
                prefix, filter = asked["namespace_prefix"], asked.get("filter")
                explaining = Explaining(conn)
                await reading.search(explaining, prefix, filter=filter)
                ours = await _median(lambda p=prefix, f=filter: reading.search(conn, p, filter=f))
                other = await _median(lambda p=prefix, f=filter: theirs.asearch(p, filter=f))
                _show(name, explaining, ours, other, plans)
            explaining = Explaining(conn)
            await listing.namespaces(explaining, (), limit=100)
            ours = await _median(lambda: listing.namespaces(conn, (), limit=100))
            other = await _median(lambda: theirs.alist_namespaces(limit=100))
            _show("100 namespaces", explaining, ours, other, plans)
        await conn.close()


def _show(name: str, explaining: Explaining, ours: float, theirs: float, plans: bool) -> None:
    read_by = explaining.indexes() + [f"**all of** {table}" for table in explaining.whole()]
    print(f"| {name} | {ours:.2f} | {explaining.rows():,} | {', '.join(read_by)} | {theirs:.2f} |", flush=True)
    if plans:
        print("\n".join(explaining.outline()), flush=True)


async def _median(call: Any) -> float:
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--plans", action="store_true")
    options = parser.parse_args()
    if options.calls:
        asyncio.run(calls(options.calls))
    if options.items:
        with temporary_postgres() as server:
            asyncio.run(searches(server.uri, options.items, options.plans))


if __name__ == "__main__":
    main()
