"""A client sees no frame that is not in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx
from langgraph_sdk import get_client

from tests.servers import Server
from threadlog.engine.log.records import partition_of

PARTITIONS = 16  # of an embedded server

GRAPH = """
import asyncio, os
from typing import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

class State(TypedDict):
    gate: str

async def speak(state):
    get_stream_writer()("hello")
    while not os.path.exists(state["gate"]):
        await asyncio.sleep(0.01)

builder = StateGraph(State)
builder.add_node("speak", speak)
builder.add_edge(START, "speak")
graph = builder.compile()
"""


async def test_what_the_log_does_not_take_is_not_shown(tmp_path: Path, up: Callable[..., Server]) -> None:
    (tmp_path / "langgraph.json").write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}')
    (tmp_path / "agent.py").write_text(GRAPH)
    gate = tmp_path / "gate"
    server = await asyncio.to_thread(up, tmp_path / "langgraph.json", executors=1)
    seen: list[str] = []
    shown = asyncio.Event()
    # Two: what a transaction has once seen of other sessions it sees to its end.
    connection, observer = [await asyncpg.connect(server.database_uri) for _ in range(2)]
    async with get_client(url=server.url, api_key=None) as client, asyncio.timeout(120):
        thread = (await client.threads.create())["thread_id"]

        async def follow() -> None:
            async for part in client.runs.stream(thread, "agent", input={"gate": str(gate)}, stream_mode="custom"):
                seen.append(part.event)
                shown.set()

        async with connection.transaction():  # nobody else can append this thread's frames
            await connection.execute(
                "SELECT FROM log_heads WHERE topic = 'stream' AND partition = $1 FOR UPDATE",
                partition_of(thread, PARTITIONS),
            )
            following = asyncio.create_task(follow())
            while not await observer.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ILIKE '%log_append%'"
            ):
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(base_url=server.url) as http:
                await http.get("/ok")  # what the server has for its clients, it has sent by now
            assert seen == []
        await shown.wait()
        gate.touch()
        await following
    assert seen == ["metadata", "custom"]
    await connection.close()
    await observer.close()
