"""How long an export and the explanation of a large run take, and how large an export is.

    python -m tests.benchmarks.audit [--threads 3000]

The log is filled as for the rebuild, then a run of 10 000 events is written into it, and as much again after it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import zlib
from datetime import UTC, datetime

import asyncpg
import orjson

from tests.benchmarks.rebuild import _tables, fill, play
from tests.databases import new_database
from threadlog.deploy.commands.events import Selection
from threadlog.deploy.commands.explain import story_of
from threadlog.deploy.commands.export import exported
from threadlog.deploy.commands.places import Place
from threadlog.deploy.postgres import temporary_postgres
from threadlog.deploy.settings import EMBEDDED_PARTITIONS
from threadlog.engine.ids import new_id
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.log.records import EventRecord, partition_of
from threadlog.projections.schema import migrate

RECORDS, EVENTS = 1_000, 10
"""Of the large run: so many records, with so many events each."""


def long_run(thread_id: str, run_id: str, after: int) -> list[EventRecord]:
    about = {"thread_id": thread_id, "run_id": run_id}
    at = datetime.now(UTC).isoformat()
    records = []
    for n in range(RECORDS):
        step = {"metadata": {"step": n, "source": "loop"}, "channels": {"messages": {"h": "h" * 22}}}
        events = [{"type": "checkpoint.saved", **about, "checkpoint_id": f"{n}-{m}", **step} for m in range(EVENTS)]
        if n == 0:
            events[:2] = [
                {"type": "run.created", **about, "graph_id": "g", "run": {}},
                {"type": "run.scheduled", **about, "attempt": 1},
            ]
        if n == RECORDS - 1:
            events[-1] = {"type": "run.succeeded", **about, "attempt": 1}
        records.append(EventRecord(0, after + 1 + n, f"c{n}", thread_id, at, events, after=after + n))
    return records


async def measure(uri: str, threads: int) -> None:
    async with new_database(uri) as dsn, asyncpg.create_pool(dsn, min_size=2, max_size=8) as pool:
        await migrate(dsn, partitions=EMBEDDED_PARTITIONS)
        kinds = await play(pool)
        await pool.execute("TRUNCATE " + ", ".join(await _tables(pool)))
        log = await PostgresLog.create(pool, EMBEDDED_PARTITIONS)
        records, events = await fill(log, kinds, threads)
        print(f"{threads} threads: {records} records, {events} events", flush=True)

        plain = packed = 0
        compress = zlib.compressobj(6, wbits=31)
        begun = time.perf_counter()
        async for line in exported(log, Selection()):
            text = orjson.dumps(line) + b"\n"
            plain += len(text)
            packed += len(compress.compress(text))
        packed += len(compress.flush())
        seconds = time.perf_counter() - begun
        stored = await pool.fetchval("SELECT sum(octet_length(value)) FROM log_events")
        print(
            f"export: {seconds:.1f} s, {events / seconds:,.0f} events/s; {plain / events:.0f} bytes an event, "
            f"{packed / events:.0f} as .gz, {stored / events:.0f} in the log", flush=True,
        )  # fmt: skip

        thread_id, run_id, other = new_id(), new_id(), new_id()
        p = partition_of(thread_id, EMBEDDED_PARTITIONS)
        _, end = await log.bounds(Topic.EVENTS, p)
        last = EventRecord.decode((await log.read(Topic.EVENTS, p, end - 1))[0].value).cmd_off
        place = Place(thread_id, datetime.now(UTC))
        mine = long_run(thread_id, run_id, last)
        for record in (*mine, *long_run(other, new_id(), last + RECORDS)):
            await log.append([Append(Topic.EVENTS, p, record.key, record.encode())])
        for what, known in (("in its place", place), ("by the time in its id", None)):
            begun = time.perf_counter()
            story = await story_of(log, run_id, known)
            print(f"explain {what}: {time.perf_counter() - begun:.2f} s, {len(story.chapters)} events", flush=True)
        await log.aclose()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=3000)
    asked = options.parse_args()
    with temporary_postgres() as server:
        asyncio.run(measure(server.uri, asked.threads))


if __name__ == "__main__":
    main()
