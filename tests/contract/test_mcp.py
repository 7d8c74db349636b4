"""The assistants as tools of an MCP client (contract 10.1), with the client of the `mcp` package."""

from __future__ import annotations

import pytest

mcp = pytest.importorskip("mcp")


@pytest.mark.contract(166)
async def test_the_public_client_lists_and_calls_tools(url: str) -> None:
    async with mcp.Client(f"{url}/mcp") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["noop"].description == "Two nodes that append their names."
        called = await client.call_tool("noop", {"items": ["in"]})
        assert not called.is_error and called.content[0].text == '{"items":["in","a","b"]}'
        failed = await client.call_tool("failing", {"kind": "expected"})
        assert failed.is_error and failed.content[0].text == "ValueError: the secret"
        with pytest.raises(mcp.MCPError, match="Unknown tool"):
            await client.call_tool("nobody", {})
