"""What a long conversation and a long-running agent cost in bytes and time, beside langgraph-checkpoint-postgres.

    python -m tests.benchmarks.storage [--turns 500] [--steps 200] [--detail]

threadlog is measured as a whole: `threadlog up` with its log in Postgres, driven over HTTP. Bytes are those of the
relations (rows, TOAST and indexes) less those of an empty server. `kept` is everything but the frames of the streams
(kept for hours, listed beside it) and the commands (kept for days, counted in `now`).
LangGraph's saver is used in this process on a server of its own; its bytes are those of its three tables.

Times are medians over ten turns: of a run that streams its updates, and of the newest state as JSON (as long as
the conversation). What LangGraph itself needs for them is measured with its saver in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import orjson
from langgraph.checkpoint.memory import InMemorySaver

from tests.benchmarks.client import Client
from tests.benchmarks.servers import kinds, running
from tests.benchmarks.storage_app import graphs
from tests.databases import new_database
from threadlog.deploy.postgres import running_uri, temporary_postgres

APP = Path(__file__).parent / "storage_app"
THEIRS = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")
PASSING = ("log_commands", "log_stream")
WARM: dict[str, Any] = {"chat": {"messages": [("human", "hi")]}, "agent": {"document": "", "steps_left": 1}}
TURN_WORDS = 100  # of the user; the answer has twice as many


class Cost(NamedTuple):
    """`sizes`: bytes by table; `turns`: all bytes after each tenth of the inputs; times in seconds, one per input."""

    sizes: dict[str, int]
    growth: list[int]
    writing: list[float]
    reading: list[float]


async def sizes(pool: asyncpg.Pool | asyncpg.Connection) -> dict[str, int]:
    rows = await pool.fetch(
        "SELECT relname AS name, pg_total_relation_size(oid)::bigint AS bytes FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return {row["name"]: row["bytes"] for row in rows}


async def parts(pool: asyncpg.Connection) -> list[tuple[str, int]]:
    """Tables without what belongs to them, their TOAST tables, and indexes, by size."""
    rows = await pool.fetch(
        "SELECT relname AS name, pg_relation_size(oid)::bigint AS bytes FROM pg_class "
        "WHERE relkind IN ('r', 'i', 't') AND relnamespace IN ('public'::regnamespace, 'pg_toast'::regnamespace) "
        "ORDER BY 2 DESC LIMIT 25"
    )
    named = dict(await pool.fetch("SELECT reltoastrelid::regclass::text, relname || ' (TOAST)' FROM pg_class"))
    return [(named.get(f"pg_toast.{row['name']}", row["name"]), row["bytes"]) for row in rows]


async def ours(graph: str, inputs: list[Any], *, detail: bool) -> Cost:
    with (
        tempfile.NamedTemporaryFile(suffix=".log") as log,
        running(kinds(kafka=None)[0], Path(log.name), app=APP) as server,
    ):
        uri = running_uri(server.data / "postgres")
        assert uri is not None
        connection = await asyncpg.connect(uri)
        async with Client(server.url) as client:
            warm = await client.thread()
            await client.wait(warm, graph, WARM[graph])
            await client.call("DELETE", f"/threads/{warm}")
            await connection.execute("VACUUM")
            before = await sizes(connection)
            thread = await client.thread()
            body = {"assistant_id": graph, "stream_mode": ["updates"], "config": {"recursion_limit": 10_000}}
            writing, reading, growth = [], [], []
            for n, given in enumerate(inputs):
                begun = time.perf_counter()
                async for _ in client.stream("POST", f"/threads/{thread}/runs/stream", {**body, "input": given}):
                    pass
                writing.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                async with client.session.get(f"{server.url}/threads/{thread}/state") as answer:
                    await answer.read()
                reading.append(time.perf_counter() - begun)
                if (n + 1) % max(len(inputs) // 10, 1) == 0:
                    growth.append(sum((await sizes(connection)).values()) - sum(before.values()))
        after = await sizes(connection)
        if detail:
            for name, size in await parts(connection):
                print(f"    {name:40} {size / 1e3:10.0f} kB")
        await connection.close()
        return Cost({name: after[name] - before.get(name, 0) for name in after}, growth, writing, reading)


async def theirs(uri: str, graph: Any, inputs: list[Any]) -> Cost:
    # Of the extra `bench`: tests import this module without it.
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    async with new_database(uri) as dsn, AsyncPostgresSaver.from_conn_string(dsn) as saver:
        await saver.setup()
        pool = await asyncpg.connect(dsn)
        try:
            cost = await alone(graph, inputs, saver, pool)
            found = await sizes(pool)
            return cost._replace(sizes={table: found[table] for table in THEIRS})
        finally:
            await pool.close()


async def alone(graph: Any, inputs: list[Any], saver: Any, pool: asyncpg.Connection | None = None) -> Cost:
    """LangGraph in this process."""
    graph = graph.copy(update={"checkpointer": saver})
    config: Any = {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": 10_000}
    writing, reading, growth = [], [], []
    for n, given in enumerate(inputs):
        begun = time.perf_counter()
        async for _ in graph.astream(given, config, stream_mode="updates"):
            pass
        writing.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        orjson.dumps((await graph.aget_state(config)).values, default=lambda message: message.model_dump())
        reading.append(time.perf_counter() - begun)
        if pool is not None and (n + 1) % max(len(inputs) // 10, 1) == 0:
            found = await sizes(pool)
            growth.append(sum(found[table] for table in THEIRS))
    return Cost({}, growth, writing, reading)


def early_and_late(seconds: list[float]) -> tuple[float, float]:
    """Milliseconds around the tenth input, and at the end."""
    return statistics.median(seconds[5:15]) * 1e3, statistics.median(seconds[-10:]) * 1e3


async def compare(name: str, uri: str, graph: str, inputs: list[Any], said: int, *, detail: bool) -> None:
    print(f"\n{name}: {said / 1e6:.2f} MB of content", flush=True)
    compiled = getattr(graphs, graph)
    peer = await theirs(uri, compiled, inputs)
    floor = await alone(compiled, inputs, InMemorySaver())
    mine = await ours(graph, inputs, detail=detail)
    now = sum(mine.sizes.values()) - mine.sizes["log_stream"]
    kept = now - mine.sizes["log_commands"]
    theirs_bytes = sum(peer.sizes.values())
    for table, size in sorted(mine.sizes.items(), key=lambda item: -item[1]):
        if size > 50_000:
            print(f"  {table:26} {size / 1e6:9.2f} MB")
    print(f"  langgraph-checkpoint-postgres {theirs_bytes / 1e6:9.2f} MB")
    print(f"  threadlog now (without frames){now / 1e6:9.2f} MB  1/{theirs_bytes / now:.1f}")
    print(f"  threadlog kept                {kept / 1e6:9.2f} MB  1/{theirs_bytes / kept:.1f}")
    if len(inputs) >= 20:
        for who, cost in (("threadlog", mine), ("langgraph-checkpoint-postgres", peer)):
            tenths = [b - a for a, b in zip([0, *cost.growth], cost.growth, strict=False)]
            per = len(inputs) // 10
            print(f"  kB per input, {who}: " + " ".join(f"{tenth / per / 1e3:.1f}" for tenth in tenths))
        for what in ("writing", "reading"):
            for who, cost in (("threadlog", mine), ("langgraph in memory", floor), ("checkpoint-postgres", peer)):
                early, late = early_and_late(getattr(cost, what))
                print(f"  ms {what} {who:22} 10th {early:8.2f}   last {late:8.2f}")
    else:
        print(f"  s: threadlog {mine.writing[0]:.2f}, in memory {floor.writing[0]:.2f}, postgres {peer.writing[0]:.2f}")


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--turns", type=int, default=500)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--detail", action="store_true", help="list the largest relations")
    asked = options.parse_args()
    with temporary_postgres({"fsync": "off"}) as server:
        said = [graphs.words(TURN_WORDS, 1_000_000 + n) for n in range(asked.turns)]
        turns = [{"messages": [{"type": "human", "content": text}]} for text in said]
        content = sum(len(text) for text in said) + sum(len(graphs.words(200, n)) for n in range(asked.turns))
        if asked.turns:
            await compare(f"a chat of {asked.turns} turns", server.uri, "chat", turns, content, detail=asked.detail)
        if asked.steps:
            text = random.Random(0).randbytes(500_000).hex()
            fields = {str(n): text[n * 1000 : (n + 1) * 1000] for n in range(1000)}
            for kind, document in (("string", text), ("dict", fields)):
                given = [{"document": document, "steps_left": asked.steps}]
                title = f"an agent of {asked.steps} steps with a constant {kind}"
                await compare(title, server.uri, "agent", given, len(text), detail=asked.detail)


if __name__ == "__main__":
    asyncio.run(main())
