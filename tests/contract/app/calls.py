"""Graphs that call the server they run on: `get_client()` without a url, made at import and in nodes, both kinds."""

import asyncio
import os
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client, get_sync_client
from typing_extensions import TypedDict

at_import = get_client()


class Called(TypedDict, total=False):
    gate: str
    called: dict[str, Any]


async def call(state: Called) -> dict[str, Any]:
    thread = await at_import.threads.create(metadata={"made": "by a node"})
    async with get_client() as client:
        run = await client.runs.create(thread["thread_id"], "noop", input={"items": ["asked"]})
        values = await client.runs.join(thread["thread_id"], run["run_id"])
    return {"called": {"thread": thread["thread_id"], "values": values, "url": os.environ["LANGGRAPH_API_URL"]}}


def call_from_thread(state: Called) -> dict[str, Any]:
    """A sync node, with the sync client, and with the async one on a loop of its own."""
    with get_sync_client() as client:
        thread = client.threads.create()
        values = client.runs.wait(thread["thread_id"], "noop", input={"items": ["sync"]})
    again = asyncio.run(at_import.runs.wait(None, "noop", input={"items": ["loop"]}))
    return {"called": {"thread": thread["thread_id"], "values": [values, again]}}


async def call_streaming(state: Called) -> dict[str, Any]:
    """Leaves the stream of a run that goes on for a minute: it has to come as it is made."""
    asked = {"items": [], "gate": state["gate"]}
    async for part in at_import.runs.stream(None, "ticker", input=asked, stream_mode="custom", on_disconnect="cancel"):
        if part.event == "custom":
            return {"called": {"first": part.data}}
    return {"called": {}}


def graph(node: Any) -> Any:
    builder = StateGraph(Called)
    builder.add_node("call", node)
    builder.add_edge(START, "call")
    return builder.compile()


calls = graph(call)
calls_sync = graph(call_from_thread)
calls_streaming = graph(call_streaming)
