"""Agents that are no graphs (docs/agents.md): the examples, one per framework, through the public client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.contract.conftest import APP
from tests.installed import task_tokens
from tests.servers import Server

# Looked for, not imported: that would take every collection seconds, and the server does it.
missing = [name for name in ("pydantic_ai", "agents", "smolagents") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

CONFIG = APP.parents[2] / "deploy" / "examples" / "agents" / "langgraph.json"


async def turn(client: LangGraphClient, thread: str, agent: str, **given: Any) -> tuple[list[str], list[Any]]:
    """The pieces of text a run streams, and its interrupts."""
    pieces: list[str] = []
    asked: list[Any] = []
    async for part in client.runs.stream(thread, agent, stream_mode=["messages-tuple", "values"], **given):
        assert part.event != "error", part.data
        if part.event == "messages" and part.data[0]["type"] == "AIMessageChunk":
            pieces += [part.data[0]["content"]] if part.data[0]["content"] else []
        elif part.event == "values":
            asked = [one["value"] for one in part.data.get("__interrupt__", [])]
    return pieces, asked


def said(text: str) -> dict[str, Any]:
    return {"input": {"messages": [{"role": "user", "content": text}]}}


async def converse(client: LangGraphClient, agent: str) -> None:
    thread = (await client.threads.create())["thread_id"]
    pieces, _ = await turn(client, thread, agent, **said("Hello, I am Ada"))
    assert pieces == ["Nice ", "to ", "meet ", "you, ", "Ada."], agent
    _, [question] = await turn(client, thread, agent, **said("Please refund order 7"))
    assert question["action"] == "refund" and "7" in str(question), agent
    assert (await client.threads.get(thread))["status"] == "interrupted"
    pieces, asked = await turn(client, thread, agent, command={"resume": "approve"})
    assert "".join(pieces) == "I asked for it: order 7 is refunded." and not asked, agent
    pieces, _ = await turn(client, thread, agent, **said("Who am I?"))
    assert "".join(pieces) == "You are Ada.", agent
    state = await client.threads.get_state(thread)
    texts = [message["content"] for message in state["values"]["messages"]]
    assert texts[0] == "Hello, I am Ada" and texts[3].endswith("I asked for it: order 7 is refunded."), agent
    assert texts[-1] == "You are Ada." and len(texts) == 6, agent


@task_tokens
async def test_each_example_streams_asks_and_remembers(own_server: Callable[..., Server]) -> None:
    server = await asyncio.to_thread(own_server, CONFIG, executors=1)
    async with get_client(url=server.url, api_key=None) as client:
        agents = {assistant["graph_id"] for assistant in await client.assistants.search()}
        assert agents == {"plain", "pydantic_ai", "openai_agents", "smolagents"}
        for agent in sorted(agents):
            await converse(client, agent)
