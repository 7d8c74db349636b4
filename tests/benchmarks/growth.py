"""What the api's queries cost when the tables have grown: their plans and times at a million threads and runs.

    python -m tests.benchmarks.growth [--threads 1000000] [--checkpoints 10000] [--plans]

The tables are filled with SQL (no log behind them). A plan that reads a whole large table is marked `SEQ SCAN`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import asyncpg

from deploy.postgres import temporary_postgres
from deploy.settings import EMBEDDED_PARTITIONS
from projections.queries import assistants, runs, state, system, threads
from projections.schema import migrate
from tests.benchmarks.storage import database

LARGE = ("threads", "runs", "checkpoints", "checkpoint_writes", "channel_values", "assistants", "aggregates")
TIMES = 7

# Ids tell their number: thread n is 10000000-…-n.
FILL = (
    """INSERT INTO threads SELECT
        ('10000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, t, t + interval '1 minute', t,
        jsonb_build_object('graph_id', 'g' || n % 10, 'assistant_id', 'a' || n % 100, 'user', 'u' || n % 20000),
        '{}', CASE WHEN n % 1000 = 0 THEN 'busy' WHEN n % 100 = 0 THEN 'interrupted' WHEN n % 50 = 0 THEN 'error'
        ELSE 'idle' END, NULL, '{}', NULL, '1f000000-0000-6000-8000-' || lpad(to_hex(0), 12, '0')
        FROM generate_series(1, $1::int) n, LATERAL (SELECT now() - make_interval(secs => $1::int - n) AS t) _""",
    """INSERT INTO runs SELECT
        ('20000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
        ('10000000-0000-4000-8000-' || lpad(to_hex(CASE WHEN n % 100 = 0 THEN 1 ELSE n END), 12, '0'))::uuid,
        ('30000000-0000-4000-8000-' || lpad(to_hex(n % 1000 + 1), 12, '0'))::uuid, 'g' || n % 10, t, t,
        CASE WHEN n % 10000 = 0 THEN 'pending' WHEN n % 50 = 0 THEN 'error' ELSE 'success' END, 1, '{}',
        '{"input": {"messages": [{"role": "user", "content": "hello"}]}}', 'enqueue', false, NULL, 3, 0
        FROM generate_series(1, $1::int) n, LATERAL (SELECT now() - make_interval(secs => $1::int - n) AS t) _""",
    """INSERT INTO assistants SELECT
        ('30000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'g' || n % 1000, 'assistant ' || n, NULL,
        '{}', '{}', jsonb_build_object('owner', 'o' || n % 5000), 1, t, t
        FROM generate_series(1, greatest($1::int / 10, 1000)) n,
            LATERAL (SELECT now() - make_interval(secs => $1::int - n) AS t) _""",
)
HISTORY = (
    """INSERT INTO checkpoints SELECT
        '10000000-0000-4000-8000-000000000001', '', '1f000000-0000-6000-8000-' || lpad(to_hex(n), 12, '0'),
        CASE WHEN n > 0 THEN '1f000000-0000-6000-8000-' || lpad(to_hex(n - 1), 12, '0') END,
        ('20000000-0000-4000-8000-' || lpad(to_hex(n / 4 * 100), 12, '0'))::uuid, now(),
        jsonb_build_object('source', 'loop', 'step', n, 'half', n % 2, 'rare', n / 100),
        json_build_object('v', 4, 'ts', now()),
        json_build_object('messages', json_build_object('h', 'hash-' || n)), '[]', '["messages"]', NULL
        FROM generate_series(0, $1::int - 1) n""",
    """INSERT INTO checkpoint_writes SELECT
        '10000000-0000-4000-8000-000000000001', '', '1f000000-0000-6000-8000-' || lpad(to_hex(n), 12, '0'),
        'task', 0, '', 'messages', '{"h": "x"}', NULL FROM generate_series(0, $1::int - 1) n""",
    """INSERT INTO channel_values SELECT '10000000-0000-4000-8000-000000000001', 'hash-' || n, 'msgpack', '\\x9101'
        FROM generate_series(0, $1::int - 1) n""",
)
THREAD = "10000000-0000-4000-8000-000000000001"
RUN = "20000000-0000-4000-8000-000000000064"
ASSISTANT = "30000000-0000-4000-8000-000000000005"

Query = Callable[[Any], Awaitable[Any]]


def thread_search(**given: Any) -> Query:
    asked = {
        "metadata": None, "status": None, "ids": None, "sort_by": "created_at", "descending": True, "limit": 11,
        "offset": 0, **given,
    }  # fmt: skip
    return lambda db: threads.search(db, **asked)


def assistant_search(**given: Any) -> Query:
    asked = {
        "metadata": None, "graph_id": None, "name": None, "sort_by": "created_at", "descending": True, "limit": 11,
        "offset": 0, **given,
    }  # fmt: skip
    return lambda db: assistants.search(db, **asked)


def checkpoint_id(n: int) -> str:
    return f"1f000000-0000-6000-8000-{n:012x}"


QUERIES: dict[str, Query] = {
    "thread": lambda db: threads.get(db, THREAD),
    "search threads, newest": thread_search(),
    "search threads, oldest": thread_search(descending=False),
    "search threads, page 100": thread_search(offset=1000),
    **{f"search threads, by {key}": thread_search(sort_by=key) for key in sorted(threads.SORT_KEYS)},
    "search threads, by updated_at, oldest": thread_search(sort_by="updated_at", descending=False),
    "search threads, metadata of 50": thread_search(metadata='{"user": "u77"}'),
    "search threads, metadata of a tenth": thread_search(metadata='{"graph_id": "g3"}'),
    "search threads, metadata of none": thread_search(metadata='{"user": "nobody"}'),
    "search threads, metadata by updated_at": thread_search(metadata='{"user": "u77"}', sort_by="updated_at"),
    "search threads, ids": thread_search(ids=[THREAD, THREAD[:-1] + "2"]),
    **{
        f"search threads, {status}": thread_search(status=status) for status in ("busy", "interrupted", "error", "idle")
    },
    "search threads, busy by updated_at": thread_search(status="busy", sort_by="updated_at"),
    "search threads, interrupted of a user": thread_search(status="interrupted", metadata='{"user": "u100"}'),
    "count threads": lambda db: threads.count(db, metadata=None, status=None),
    "count threads, metadata of 50": lambda db: threads.count(db, metadata='{"user": "u77"}', status=None),
    "count threads, busy": lambda db: threads.count(db, metadata=None, status="busy"),
    "count threads, idle": lambda db: threads.count(db, metadata=None, status="idle"),
    "threads of an assistant": lambda db: threads.ids_of_assistant(db, "a5"),
    "run": lambda db: runs.get(db, RUN, THREAD),
    "runs of a thread": lambda db: runs.search(db, THREAD, status=None, limit=10, offset=0),
    "runs of a thread, error": lambda db: runs.search(db, THREAD, status="error", limit=10, offset=0),
    "runs in flight": lambda db: runs.in_flight(db, ["pending", "running"]),
    "runs in flight of an assistant": lambda db: runs.in_flight_of_assistant(db, ASSISTANT),
    "last checkpoint of a run": lambda db: runs.last_checkpoint(db, THREAD, RUN),
    "queue": system.queue,
    "state": lambda db: state.get_state(db, THREAD),
    "state, with subgraphs": lambda db: state.get_state(db, THREAD, subgraphs=True),
    "state at a checkpoint": lambda db: state.get_state(db, THREAD, checkpoint_id=checkpoint_id(77)),
    "history, first page": lambda db: state.get_history(db, THREAD, limit=10),
    "history, page in the middle": lambda db: state.get_history(db, THREAD, limit=10, before=checkpoint_id(500)),
    "history, metadata of half": lambda db: state.get_history(db, THREAD, limit=10, metadata={"half": 1}),
    "history, metadata of none": lambda db: state.get_history(db, THREAD, limit=10, metadata={"half": 2}),
    "values of a thread": lambda db: state.get_values(db, [THREAD]),
    "assistant": lambda db: assistants.get(db, ASSISTANT),
    "search assistants, newest": assistant_search(),
    **{f"search assistants, by {key}": assistant_search(sort_by=key) for key in sorted(assistants.SORT_KEYS)},
    "search assistants, graph": assistant_search(graph_id="g5"),
    "search assistants, metadata": assistant_search(metadata='{"owner": "o5"}'),
    "search assistants, name": assistant_search(name="ANT 77"),
    "count assistants": lambda db: assistants.count(db, metadata=None, graph_id=None, name=None),
    "versions of an assistant": lambda db: assistants.versions(db, ASSISTANT, metadata=None, limit=10, offset=0),
}


async def fill(conn: asyncpg.Connection, threads_: int, checkpoints: int) -> None:
    for sql in FILL:
        await conn.execute(sql, threads_, timeout=600)
    for sql in HISTORY:
        await conn.execute(sql, checkpoints, timeout=600)
    await conn.execute(
        "UPDATE threads SET checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints) WHERE thread_id = $1", THREAD
    )
    await conn.execute("VACUUM ANALYZE", timeout=600)


class Explaining:
    """Reads as a connection does, and keeps the plans."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self._conn = conn
        self.plans: list[list[str]] = []

    async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
        rows = await self._conn.fetch(f"EXPLAIN (COSTS OFF) {query}", *args)
        self.plans.append([row[0] for row in rows])

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        await self._explain(query, args)
        return await self._conn.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        await self._explain(query, args)
        return await self._conn.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._conn.fetchval(query, *args)

    def scans(self) -> list[str]:
        """Lines of the plans that read all of a large table."""
        return [
            line.strip()
            for plan in self.plans
            for line in plan
            if "Seq Scan on" in line and line.split("Seq Scan on ")[1].split(" ")[0] in LARGE
        ]

    def paths(self) -> list[str]:
        """How each table is read."""
        found = []
        for plan in self.plans:
            for line in plan:
                if " Scan " in line:
                    found.append(line.replace("->", "").strip())
        return list(dict.fromkeys(found))


async def measure(uri: str, threads_: int, checkpoints: int, plans: bool) -> None:
    async with database(uri) as dsn:
        await migrate(dsn, partitions=EMBEDDED_PARTITIONS)
        # As the api's pool is set up.
        conn = await asyncpg.connect(dsn, server_settings={"plan_cache_mode": "auto"})
        begun = time.perf_counter()
        await fill(conn, threads_, checkpoints)
        print(f"{threads_:,} threads and runs, {checkpoints:,} checkpoints in {time.perf_counter() - begun:.0f} s")
        print("\n| query | ms | read by |\n|---|---|---|", flush=True)
        for name, query in QUERIES.items():
            explaining = Explaining(conn)
            await query(explaining)
            taken = []
            for _ in range(TIMES):
                begun = time.perf_counter()
                await query(conn)
                taken.append(time.perf_counter() - begun)
            mark = " **SEQ SCAN**" if explaining.scans() else ""
            print(f"| {name} | {median(taken) * 1e3:.2f} | {'; '.join(explaining.paths())}{mark} |", flush=True)
            if plans:
                for plan in explaining.plans:
                    print("\n".join(plan), flush=True)
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
