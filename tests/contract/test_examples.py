"""The example applications do what their first lines say, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langgraph_sdk import get_client

from tests.servers import Server

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


async def test_a_supervisor_asks_its_specialists(own_server: Callable[..., Server]) -> None:
    server = await asyncio.to_thread(own_server, EXAMPLES / "supervisor" / "langgraph.json", executors=1)
    async with get_client(url=server.url, api_key=None) as client:
        thread = (await client.threads.create())["thread_id"]
        given = {"messages": [{"role": "user", "content": "Where is A-1042, and what did it cost?"}]}
        spoken: dict[str, str] = {}
        async for part in client.runs.stream(
            thread, "office", input=given, stream_mode="messages-tuple", stream_subgraphs=True
        ):
            if part.event.startswith("messages") and part.data[0]["type"] == "AIMessageChunk":
                name = part.event.partition("|")[2].partition(":")[0]
                spoken[name] = spoken.get(name, "") + str(part.data[0]["content"])
        assert "89.00 EUR" in spoken["billing"] and "due on Friday" in spoken["shipping"]
        messages = (await client.threads.get_state(thread))["values"]["messages"]
        assert messages[-1]["content"] == "That is all we know."
        drawn = await client.assistants.get_graph("office", xray=True)
        assert {"billing:tools", "shipping:tools"} <= {node["id"] for node in drawn["nodes"]}


async def test_research_remembers_for_the_next_run(own_server: Callable[..., Server]) -> None:
    server = await asyncio.to_thread(own_server, EXAMPLES / "research" / "langgraph.json", executors=1)
    async with get_client(url=server.url, api_key=None) as client:
        given: dict[str, Any] = {"topic": "tides", "seconds_per_page": 0.0}
        pages = [
            part.data
            async for part in client.runs.stream(None, "research", input=given, stream_mode="custom")
            if part.event == "custom"
        ]
        assert len(pages) == 20 and {page["source"] for page in pages} >= {"almanac", "museum"}
        state = await client.runs.wait(None, "research", input=given)
        assert state["report"] == "0 new notes on tides, 4 known before."
        found = await client.store.search_items(["research", "tides"])
        assert len(found["items"]) == 4
        cron = await client.crons.create("research", schedule="0 7 * * *", input=given)
        assert cron["next_run_date"]
