"""What the api's queries cost when the tables have grown: their plans and times at a million threads and runs.

    python -m tests.benchmarks.growth [--threads 1000000] [--checkpoints 10000] [--plans]
    python -m tests.benchmarks.growth --partitions 4,16,64,256

The tables are filled with SQL (no log behind them). A query that reads all of a large table is marked.

With `--partitions`: what a run and an idle server cost with so many partitions, each on a server of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import asyncpg

from tests.benchmarks.client import Client
from tests.benchmarks.servers import Kind, kinds, running
from tests.benchmarks.workloads import Figures, idle, wait_16, wait_one, warm
from tests.benchmarks.workloads import median as median_of
from tests.databases import new_database
from tests.projections.grown import QUERIES, Explaining, fill
from threadlog.deploy.postgres import temporary_postgres
from threadlog.deploy.settings import EMBEDDED_PARTITIONS
from threadlog.projections.schema import migrate

TIMES = 7


async def measure(uri: str, threads: int, checkpoints: int, plans: bool) -> None:
    async with new_database(uri) as dsn:
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


async def measure_partitions(counts: list[int], rounds: int) -> None:
    found: dict[int, list[Figures]] = {count: [] for count in counts}
    for n in range(rounds):
        for count in counts if n % 2 == 0 else reversed(counts):
            up = kinds(kafka=None)[0]
            kind = Kind(f"{count} partitions", up.command, {"THREADLOG_PARTITIONS": str(count)})
            with tempfile.NamedTemporaryFile(suffix=".log") as log, running(kind, Path(log.name)) as server:
                async with Client(server.url) as client:
                    await warm(client)
                    figures = await idle(server, client)
                    for name, workload in (("one", wait_one), ("sixteen", wait_16)):
                        figures |= {f"{name}_{key}": value for key, value in (await workload(server, client)).items()}
            found[count].append(figures)
    shown = {
        "cold_start_s": "cold start s", "memory_mb": "idle MB", "cpu_percent": "idle CPU %", "one_p50_ms": "p50 ms",
        "one_cpu_ms": "CPU ms a run", "sixteen_runs_per_s": "16 clients: runs/s",
        "sixteen_cpu_ms": "16 clients: CPU ms a run",
    }  # fmt: skip
    print("| partitions | " + " | ".join(shown.values()) + " |\n|" + "---|" * (len(shown) + 1))
    for count in counts:
        figures = median_of(found[count])
        print(f"| {count} | " + " | ".join(f"{figures[key]:.2f}" for key in shown) + " |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=1_000_000)
    options.add_argument("--checkpoints", type=int, default=10_000)
    options.add_argument("--plans", action="store_true", help="print the whole plans")
    options.add_argument("--partitions", type=lambda text: [int(n) for n in text.split(",")])
    options.add_argument("--rounds", type=int, default=1, help="of --partitions")
    asked = options.parse_args()
    if asked.partitions:
        asyncio.run(measure_partitions(asked.partitions, asked.rounds))
        return
    with temporary_postgres() as server:
        asyncio.run(measure(server.uri, asked.threads, asked.checkpoints, asked.plans))


if __name__ == "__main__":
    main()
