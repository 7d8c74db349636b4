"""Records per second that an agent of `threadlog.events` reads, on both transports.

    python -m tests.benchmarks.subscribers [RECORDS]

Each log is written first, then an app begins with its first record: what is measured begins with the first record an
agent has and ends with the last one. One by one, and in batches of up to 200. The log in Postgres is an embedded one
with its default settings; Kafka one node on this machine.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
import uuid
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from tests.subscribers.logs import decided, start
from tests.subscribers.systems import PARTITIONS, InKafka, InPostgres, System, running
from tests.waiting import eventually
from threadlog.deploy.kafka.cluster import KafkaCluster
from threadlog.deploy.postgres import temporary_postgres
from threadlog.engine.log.port import Append, Topic
from threadlog.projections.subscribers.app import EVENTS

RECORDS = 50_000
EVENT = {"type": "run.succeeded", "thread_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4()), "attempt": 1}


async def fill(system: System, records: int) -> None:
    each = records // PARTITIONS
    for p in range(PARTITIONS):
        values = [start(1), *(decided(1, n, n - 1, EVENT, EVENT) for n in range(each))]
        for i in range(0, len(values), 500):
            await system.log.append([Append(Topic.EVENTS, p, "thread", value) for value in values[i : i + 500]])


async def rate(system: System, records: int, *, batches: bool) -> tuple[float, float]:
    """`(records per second, microseconds of CPU per record)`."""
    app = system.app(f"bench-{uuid.uuid4().hex[:8]}", broker_commit_interval=1.0)
    seen, began, cpu = 0, 0.0, 0.0

    def count(n: int) -> None:
        nonlocal seen, began, cpu
        if not seen:
            began, cpu = time.perf_counter(), time.process_time()
        seen += n

    @app.agent(EVENTS)
    async def read(stream: Any) -> None:
        if batches:
            async for batch in stream.batches(200):
                count(len(batch))
        else:
            async for _ in stream:
                count(1)

    async with running(app):
        await eventually(lambda: seen >= records, within=600)
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
    return seen / seconds, used / seen * 1e6


async def main(records: int) -> None:
    logging.disable(logging.WARNING)
    with ExitStack() as servers:
        folder = servers.enter_context(tempfile.TemporaryDirectory())
        postgres = servers.enter_context(temporary_postgres())
        kafka = KafkaCluster()
        servers.callback(kafka.stop)
        kafka.start()
        systems: dict[str, System] = {
            "threadlog://": InPostgres(postgres.uri, Path(folder)),
            "kafka://": InKafka(kafka.bootstrap, "bench.", Path(folder)),
        }
        async with AsyncExitStack() as opened:
            for name, system in systems.items():
                await system.open(opened)
                await fill(system, records)
                for batches in (False, True):
                    found = [await rate(system, records // PARTITIONS * PARTITIONS, batches=batches) for _ in range(3)]
                    best, cpu = max(found)
                    how = "in batches" if batches else "one by one"
                    print(f"{name:<13} {how}: {best:8,.0f} records/s, {cpu:4.0f} us of CPU each", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS))
