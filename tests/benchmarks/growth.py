"""What the api's queries cost when the tables have grown: their plans and times at a million threads and runs.

    python -m tests.benchmarks.growth [--threads 1000000] [--checkpoints 10000] [--plans]

The tables are filled with SQL (no log behind them). A query that reads all of a large table is marked.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median

import asyncpg

from deploy.postgres import temporary_postgres
from deploy.settings import EMBEDDED_PARTITIONS
from projections.schema import migrate
from tests.benchmarks.storage import database
from tests.projections.grown import QUERIES, Explaining, fill

TIMES = 7


async def measure(uri: str, threads: int, checkpoints: int, plans: bool) -> None:
    async with database(uri) as dsn:
        await migrate(dsn, partitions=EMBEDDED_PARTITIONS)
        conn = await asyncpg.connect(dsn)  # as the api's pool is set up
        begun = time.perf_counter()
        await fill(conn, threads, checkpoints)
        print(f"{threads:,} threads and runs, {checkpoints:,} checkpoints in {time.perf_counter() - begun:.0f} s")
        print("\n| query | ms | rows looked at | indexes |\n|---|---|---|---|", flush=True)
        for name, query in QUERIES.items():
            explaining = Explaining(conn)
            await query(explaining)
            taken = []
            for _ in range(TIMES):
                begun = time.perf_counter()
                await query(conn)
                taken.append(time.perf_counter() - begun)
            read_by = explaining.indexes() + [f"**all of** {table}" for table in explaining.whole()]
            print(f"| {name} | {median(taken) * 1e3:.2f} | {explaining.rows():,} | {', '.join(read_by)} |", flush=True)
            if plans:
                print("\n".join(explaining.outline()), flush=True)
        await conn.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=1_000_000)
    options.add_argument("--checkpoints", type=int, default=10_000)
    options.add_argument("--plans", action="store_true", help="print the whole plans")
    asked = options.parse_args()
    with temporary_postgres() as server:
        asyncio.run(measure(server.uri, asked.threads, asked.checkpoints, asked.plans))


if __name__ == "__main__":
    main()
