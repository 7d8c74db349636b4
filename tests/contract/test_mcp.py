"""The assistants as tools of an MCP client (contract 10.1), with the client of the `mcp` package."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually

from .gate import Gate

mcp = pytest.importorskip("mcp")


@pytest.mark.contract(166)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_the_public_client_lists_and_calls_tools(url: str, path: str) -> None:
    async with mcp.Client(f"{url}{path}") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["noop"].description == "Two nodes that append their names."
        called = await client.call_tool("noop", {"items": ["in"]})
        assert not called.is_error and called.content[0].text == '{"items":["in","a","b"]}'
        failed = await client.call_tool("failing", {"kind": "expected"})
        assert failed.is_error and failed.content[0].text == "ValueError: the secret"
        with pytest.raises(mcp.MCPError, match="Unknown tool"):
            await client.call_tool("nobody", {})


async def test_a_chat_is_asked_with_a_text(url: str) -> None:
    """The schema of LangChain's messages has 20 kB: a model would read it for each tool."""
    async with mcp.Client(f"{url}/mcp") as client:
        [schema] = [tool.input_schema for tool in (await client.list_tools()).tools if tool.name == "chat"]
        assert schema["properties"]["messages"]["type"] == "string" and "$defs" not in schema
        called = await client.call_tool("chat", {"messages": "hello there"})
        assert not called.is_error and '"content":"hello there"' in called.content[0].text


async def test_assistants_of_one_name_are_tools_of_their_own(url: str, client: LangGraphClient) -> None:
    name = f"twin {uuid4().hex}"
    made = [await client.assistants.create("noop", name=name, context={"n": n}) for n in range(2)]
    async with mcp.Client(f"{url}/mcp") as agent:
        names = [tool.name for tool in (await agent.list_tools()).tools]
        assert len(set(names)) == len(names)
        ours = [tool for tool in names if tool.startswith(name.replace(" ", "_"))]
        assert ours == [name.replace(" ", "_"), f"{name.replace(' ', '_')}_{made[1]['assistant_id'][-12:]}"]
        for tool in ours:
            assert not (await agent.call_tool(tool, {"items": []})).is_error
    for assistant in made:
        await client.assistants.delete(assistant["assistant_id"])


async def _left_behind(http: httpx.AsyncClient, gate: Gate) -> tuple[Callable[[], Coroutine[Any, Any, Any]], str]:
    """A call with a key, whose client leaves while its run waits: sends it again, and the run's id."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "gated", "arguments": gate.input}}
    headers = {"Idempotency-Key": f"mcp {uuid4()}"}

    def send() -> Coroutine[Any, Any, Any]:
        return http.post("/mcp", json=call, headers=headers)

    leaving = asyncio.create_task(send())
    run_id = (await eventually(gate.journal))[0].split()[1]
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    return send, run_id


@pytest.mark.star
async def test_a_call_sent_again_after_its_client_has_left_has_the_runs_result(
    http: httpx.AsyncClient, gate: Gate
) -> None:
    send, run_id = await _left_behind(http, gate)
    again = asyncio.create_task(send())
    gate.open()
    result = (await again).json()["result"]
    assert "isError" not in result and '"items"' in result["content"][0]["text"], run_id


@pytest.mark.star
async def test_a_call_sent_again_after_its_run_was_deleted_has_its_result(http: httpx.AsyncClient, gate: Gate) -> None:
    send, run_id = await _left_behind(http, gate)
    gate.open()

    async def deleted() -> bool:
        return (await http.get(f"/runs/{run_id}")).status_code == 404

    await eventually(deleted)
    result = (await send()).json()["result"]
    assert "isError" not in result and '"items"' in result["content"][0]["text"]


async def test_there_is_no_session_to_end(http: httpx.AsyncClient) -> None:
    for path in ("/mcp", "/mcp/"):
        assert (await http.delete(path)).status_code == 404
        assert (await http.get(path)).status_code == 405
