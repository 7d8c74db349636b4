"""What happens when many crons are due in the same minute: how long until all have fired and have their runs, and what
other clients feel of it.

    python -m tests.benchmarks.crons [--crons 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg

from tests.benchmarks.client import Client, spread
from tests.benchmarks.servers import kinds, running
from tests.benchmarks.workloads import percentile, warm
from threadlog.deploy.postgres import running_uri

FIRED_SECONDS = 15.0
"""The budget: all have fired so long after they were due."""
CREATED_PER_SECOND = 80  # more than this is created, on any machine


async def measure(client: Client, uri: str, count: int) -> bool:
    database = await asyncpg.connect(uri)
    due = (datetime.now(UTC) + timedelta(seconds=60 + count / CREATED_PER_SECOND)).replace(second=0, microsecond=0)
    cron = {"assistant_id": "noop", "schedule": f"{due.minute} {due.hour} * * *", "input": {}}
    begun = time.perf_counter()
    await spread([partial(client.call, "POST", "/runs/crons", cron) for _ in range(count)], 16, lambda _: None)
    print(f"{count} crons created in {time.perf_counter() - begun:.1f} s")
    print(f"quiet: wait p50, p99 {await _waits(client, datetime.now(UTC) + timedelta(seconds=5))}")
    await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
    waits = asyncio.create_task(_waits(client, due + timedelta(seconds=FIRED_SECONDS)))
    took: dict[str, float] = {}
    while len(took) < 3:
        fired, pending, unfinished = await database.fetchrow(
            "SELECT (SELECT count(*) FROM crons WHERE last_firing IS NOT NULL), (SELECT count(*) FROM cron_firings), "
            "(SELECT count(*) FROM run_queue)"
        )
        now = (datetime.now(UTC) - due).total_seconds()
        reached = fired == count, fired == count and not pending, fired == count and not pending and not unfinished
        for what, so in zip(("all have fired", "all have their runs", "all runs have ended"), reached, strict=True):
            if so and what not in took:
                took[what] = now
                print(f"{what}: {now:.1f} s after they were due", flush=True)
        await asyncio.sleep(0.1)
    print(f"meanwhile: wait p50, p99 {await waits}")
    await database.close()
    return took["all have fired"] <= FIRED_SECONDS


async def _waits(client: Client, until: datetime) -> str:
    """What one client after the other waits for a run."""
    latencies: list[float] = []
    while datetime.now(UTC) < until:
        thread = await client.thread()
        begun = time.perf_counter()
        await client.wait(thread, "noop", {})
        latencies.append((time.perf_counter() - begun) * 1e3)
    if not latencies:
        return "none"
    return f"{percentile(latencies, 50):.0f}, {percentile(latencies, 99):.0f} ms of {len(latencies)}"


async def main(count: int) -> bool:
    kind = kinds(kafka=None)[0]
    with running(kind, Path(tempfile.gettempdir()) / "threadlog-bench-servers.log") as server:
        uri = running_uri(server.data / "postgres")
        assert uri is not None
        async with Client(server.url) as client:
            await warm(client)
            return await measure(client, uri, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--crons", type=int, default=10_000)
    raise SystemExit(0 if asyncio.run(main(parser.parse_args().crons)) else 1)
