"""MCP: messages and their answers, as the specification and the contract (10.1) have them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from .api_harness import ApiHarness


async def post(api: ApiHarness, message: Any, **headers: str) -> tuple[int, Any]:
    return await api.ask("POST", "/mcp", message, headers=headers)


async def call(api: ApiHarness, method: str, params: Any = None) -> Any:
    status, answer = await post(api, {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}})
    assert status == 200 and answer["jsonrpc"] == "2.0" and answer["id"] == 7
    return answer.get("result", answer.get("error"))


@pytest.mark.contract(166)
async def test_a_client_begins_without_a_session(api: ApiHarness) -> None:
    begun = await call(api, "initialize", {"protocolVersion": "2025-03-26", "capabilities": {}})
    assert begun["protocolVersion"] == "2025-03-26" and begun["capabilities"] == {"tools": {"listChanged": False}}
    assert begun["serverInfo"]["name"] == "LangGraph"
    assert await post(api, {"jsonrpc": "2.0", "method": "notifications/initialized"}) == (202, None)
    assert await post(api, {"jsonrpc": "2.0", "id": 1, "result": {}}) == (202, None)
    assert await call(api, "ping") == {}
    async with api.client.get("/mcp") as answer:
        assert answer.status == 405


@pytest.mark.parametrize("asked", ["2026-07-28", "x", 5, None])
async def test_other_versions_are_answered_with_the_newest_known(api: ApiHarness, asked: Any) -> None:
    begun = await call(api, "initialize", {"protocolVersion": asked})
    assert begun["protocolVersion"] == "2025-11-25"


@pytest.mark.contract(166)
async def test_every_assistant_is_a_tool(api: ApiHarness) -> None:
    await api.call("POST", "/assistants", {"graph_id": "noop", "name": "my helper!", "description": "helps"})
    tools = {tool["name"]: tool for tool in (await call(api, "tools/list"))["tools"]}
    assert tools.keys() == {"noop", "my_helper_"}
    assert (tools["my_helper_"]["title"], tools["my_helper_"]["description"]) == ("my helper!", "helps")
    assert tools["noop"]["inputSchema"]["type"] == "object" and tools["noop"]["description"] == "does nothing"


async def ended(api: ApiHarness, task: asyncio.Task[Any], status: str, **outcome: Any) -> Any:
    """What a tool's call returns once an executor has ended its run."""
    while (found := await api.pool.fetchrow("SELECT run_id, thread_id FROM run_queue")) is None:
        assert not task.done(), task.result()
    run, thread = str(found["run_id"]), str(found["thread_id"])
    await api.claim(run)
    if status == "success":
        await api.emit(thread, run, [("values", {"items": ["out"]})])
    await api.report(thread, run, status, frames=1 if status == "success" else 0, **outcome)
    return await task


@pytest.mark.contract(166)
async def test_a_tools_call_is_a_stateless_run(api: ApiHarness) -> None:
    task = asyncio.create_task(call(api, "tools/call", {"name": "noop", "arguments": {"items": ["in"]}}))
    assert await ended(api, task, "success") == {"content": [{"type": "text", "text": '{"items":["out"]}'}]}
    assert await api.call("POST", "/threads/search", {}) == []


async def test_a_call_that_takes_long_keeps_its_connection_alive(api: ApiHarness) -> None:
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "noop", "arguments": {}}}
    headers = {"Idempotency-Key": "slow"}
    async with api.client.post("/mcp", json=message, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.content.readexactly(1) == b"\n"
        body = await ended(api, asyncio.create_task(answer.read()), "success")
    result = {"content": [{"type": "text", "text": '{"items":["out"]}'}]}
    assert orjson.loads(body) == {"jsonrpc": "2.0", "id": 7, "result": result}
    async with api.client.post("/mcp", json=message, headers=headers) as answer:
        assert answer.headers["Idempotent-Replayed"] == "true" and (await answer.json())["result"] == result


async def test_a_run_that_fails_is_an_error_of_the_tool(api: ApiHarness) -> None:
    task = asyncio.create_task(call(api, "tools/call", {"name": "noop", "arguments": {}}))
    failed = await ended(api, task, "error", error={"error": "ValueError", "message": "boom"})
    assert failed == {"isError": True, "content": [{"type": "text", "text": "ValueError: boom"}]}


@pytest.mark.parametrize(
    ("method", "params", "code", "says"),
    [
        ("resources/list", {}, -32601, "Method not found: resources/list"),
        ("tools/call", {"name": "nope"}, -32602, "Unknown tool: nope"),
        ("tools/call", {}, -32602, "Unknown tool: None"),
        ("tools/call", {"name": "noop", "arguments": [1]}, -32602, "arguments: must be an object"),
        ("tools/call", [1], -32602, "params: must be an object"),
        ("tools/list", {"cursor": "x"}, -32602, "cursor: must be the nextCursor of an earlier page"),
    ],
)
async def test_calls_that_can_not_be_answered(api: ApiHarness, method: str, params: Any, code: int, says: str) -> None:
    assert await call(api, method, params) == {"code": code, "message": says}


@pytest.mark.parametrize(
    "message", [[], [{"jsonrpc": "2.0", "id": 1, "method": "ping"}], {"id": 1, "method": "ping"}, 3]
)
async def test_what_is_no_message_is_400(api: ApiHarness, message: Any) -> None:
    status, answer = await post(api, message)
    assert (status, answer["error"]) == (400, "Invalid message format.")


async def test_bodies_and_headers_are_checked(api: ApiHarness) -> None:
    async with api.client.post("/mcp", data=b"{") as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "Invalid JSON")
    status, answer = await post(api, {"jsonrpc": "2.0", "id": 1, "method": "ping"}, Accept="text/html")
    assert status == 400 and "Accept" in answer["error"]
