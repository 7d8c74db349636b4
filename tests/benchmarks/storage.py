"""What conversations and agents cost in bytes and time, beside langgraph-checkpoint-postgres on the same server.

    python -m tests.benchmarks.storage [--turns 500] [--steps 200]

The checkpointer's side is measured with everything behind it: commands decided, events projected, in one process.
`tables` is what the rows hold (without indexes and bloat), `log` what the events (as the Postgres log stores them) and
the values topic hold.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import asyncpg
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph

from deploy.postgres import temporary_postgres
from engine.log.port import Topic
from projections.queries.state import get_history, get_state
from tests.checkpointer.desk import Desk

OURS = ("checkpoints", "checkpoint_writes", "channel_values")
THEIRS = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")
WORDS = [f"{a}{b}" for a in ("con", "re", "pro", "de", "in", "ex") for b in ("vert", "port", "duce", "struct", "form")]


class Cost(NamedTuple):
    tables: int
    log: int
    seconds: float
    cpu: float
    state_seconds: float


def words(n: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def chat() -> Any:
    """One answer per turn, no model behind it."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [AIMessage(words(60, len(s["messages"])))]})
    graph.add_edge(START, "model")
    return graph


class Work(TypedDict):
    document: str  # the Postgres saver writes strings into every checkpoint
    steps: int


def agent(steps: int) -> Any:
    """Steps that carry a large value along."""
    graph = StateGraph(Work)
    graph.add_node("step", lambda s: {"steps": s["steps"] + 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda s: "step" if s["steps"] < steps else "__end__", ["step", "__end__"])
    return graph


def noise(megabytes: float) -> str:
    return random.Random(0).randbytes(int(megabytes * 500_000)).hex()


async def table_bytes(pool: asyncpg.Pool, tables: tuple[str, ...]) -> int:
    sizes = [await pool.fetchval(f"SELECT coalesce(sum(pg_column_size(t)), 0) FROM {table} t") for table in tables]
    return int(sum(sizes))


@asynccontextmanager
async def database(uri: str) -> AsyncIterator[str]:
    name = f"bench_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(uri)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        yield uri.replace("/postgres?", f"/{name}?")
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def ours(uri: str, graph: Any, inputs: list[Any], limit: int) -> Cost:
    async with database(uri) as dsn, asyncpg.create_pool(dsn, min_size=2, max_size=4) as pool:
        for path in sorted((Path(__file__).parents[2] / "projections" / "migrations").glob("*.sql")):
            await pool.execute(path.read_text())
        desk, thread_id = Desk(pool), str(uuid.uuid4())
        begun, cpu = time.perf_counter(), time.process_time()
        for given in inputs:
            run = await desk.run(thread_id)
            compiled = graph.compile(checkpointer=run.saver)
            config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}, "recursion_limit": limit}
            async for ns, _, payload in compiled.astream(given, config, stream_mode=["checkpoints"], subgraphs=True):
                run.saver.planned(ns, payload)
            await run.saver.finish(compiled, config)
            await run.end()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        in_values = [
            len(record.value)
            for partition in range(desk.log.partitions)
            for record in await desk.log.read(Topic.VALUES, partition, 0, max_bytes=1 << 40)
        ]
        begun = time.perf_counter()
        async with pool.acquire() as conn:
            await get_state(conn, thread_id)
            await get_history(conn, thread_id, limit=10)
        return Cost(
            await table_bytes(pool, OURS), desk.event_bytes + sum(in_values), seconds, cpu, time.perf_counter() - begun
        )


async def theirs(uri: str, graph: Any, inputs: list[Any], limit: int) -> Cost:
    async with database(uri) as dsn, AsyncPostgresSaver.from_conn_string(dsn) as saver:
        await saver.setup()
        compiled = graph.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": limit}
        begun, cpu = time.perf_counter(), time.process_time()
        for given in inputs:
            async for _ in compiled.astream(given, config, stream_mode=["checkpoints"], subgraphs=True):
                pass
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        begun = time.perf_counter()
        await compiled.aget_state(config)
        _ = [state async for state in compiled.aget_state_history(config, limit=10)]
        read = time.perf_counter() - begun
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            return Cost(await table_bytes(pool, THEIRS), 0, seconds, cpu, read)


async def compare(name: str, uri: str, make: Callable[[], Any], inputs: list[Any], said: int, limit: int) -> None:
    print(f"\n{name}: {said / 1e6:.2f} MB of content")
    print(f"{'':12} {'tables':>12} {'log':>12} {'ms/input':>10} {'CPU ms/input':>13} {'state+10 hist':>14}")
    for who, measure in (("threadlog", ours), ("postgres", theirs)):
        cost = await measure(uri, make(), inputs, limit)
        n = len(inputs)
        print(
            f"{who:12} {cost.tables / 1e6:9.2f} MB {cost.log / 1e6:9.2f} MB {cost.seconds / n * 1e3:10.2f} "
            f"{cost.cpu / n * 1e3:13.2f} {cost.state_seconds * 1e3:11.1f} ms"
        )


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--turns", type=int, default=500)
    options.add_argument("--steps", type=int, default=200)
    asked = options.parse_args()
    with temporary_postgres({"fsync": "off"}) as server:
        turns = [{"messages": [HumanMessage(words(40, 1_000_000 + n))]} for n in range(asked.turns)]
        said = sum(len(words(60, n)) + len(words(40, 1_000_000 + n)) for n in range(asked.turns))
        await compare(f"a chat of {asked.turns} turns", server.uri, chat, turns, said, 25)
        document = noise(1)
        given = [{"document": document, "steps": 0}]
        limit = asked.steps + 5
        await compare(
            f"an agent of {asked.steps} steps with a constant value", server.uri, lambda: agent(asked.steps), given,
            len(document), limit,
        )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
