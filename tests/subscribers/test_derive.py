"""`THREADLOG_DERIVE`, `threadlog derive` and `threadlog usage`, with a server in both modes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
from langgraph_sdk import get_client

from tests.servers import Server
from tests.waiting import eventually

GRAPH = """
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

USED = {"input_tokens": 1_000_000, "output_tokens": 10, "total_tokens": 1_000_010}


def call(state):
    said = AIMessage("hm", usage_metadata=USED, response_metadata={"model_name": "gpt-5"})
    return {"messages": [GenericFakeChatModel(messages=iter([said])).invoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("call", call).add_edge(START, "call").compile()
"""


async def test_usage_of_runs_is_counted_beside_the_server(own_server: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(GRAPH)
    (tmp_path / "prices.json").write_text('{"gpt-*": {"input": 2, "output": 10}}')
    config = tmp_path / "langgraph.json"
    config.write_text('{"dependencies": ["."], "graphs": {"billed": "./graph.py:graph"}}')
    env = {"THREADLOG_DERIVE": "true", "THREADLOG_PRICES": str(tmp_path / "prices.json")}
    server = await asyncio.to_thread(own_server, config, env=env)

    async def counted() -> int:
        connection = await asyncpg.connect(server.database_uri)
        try:
            if await connection.fetchval("SELECT to_regclass('threadlog_derived.run_windows')") is None:
                return 0
            return await connection.fetchval(
                "SELECT coalesce(sum(runs), 0)::int FROM threadlog_derived.run_windows WHERE dimension = 'all'"
            )
        finally:
            await connection.close()

    def usage(*arguments: str) -> list[dict[str, Any]]:
        done = server.threadlog("usage", "--config", str(config), "--since", "1h", *arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    async with get_client(url=server.url, api_key=None) as client:
        said = {"messages": [{"role": "user", "content": "hi"}]}
        await client.runs.wait(None, "billed", input=said, config={"tags": ["red"]})
        await eventually(counted, lambda runs: runs == 1, says=lambda: server.output)
        pid = server.kill("derive")
        await client.runs.wait(None, "billed", input=said)
        await asyncio.to_thread(server.wait_replaced, "derive", pid)
        await eventually(counted, lambda runs: runs == 2, says=lambda: server.output)

    (row,) = await asyncio.to_thread(usage, "--by", "graph", "--json")
    assert (row["value"], row["runs"], row["succeeded"], row["calls"]) == ("billed", 2, 2, 2)
    assert (row["total_tokens"], round(row["cost"], 4)) == (2_000_020, 4.0002)
    assert row["models"]["gpt-5"]["input_tokens"] == 2_000_000
    (red,) = await asyncio.to_thread(usage, "--by", "tag", "--window", "day", "--json")
    assert (red["value"], red["runs"]) == ("red", 1)
    runs = await asyncio.to_thread(usage, "--runs")
    assert [run["status"] for run in runs] == ["success"] * 2 and runs[0]["tags"] == ["red"]
    table = await asyncio.to_thread(server.threadlog, "usage", "--config", str(config))
    assert table.stdout.split("\n")[1].split() == ["billed", "2", "0", "2", "2,000,000", "20", "4.00"], table.stdout
    busy = await asyncio.to_thread(server.threadlog, "derive", "--anew", "--config", str(config))
    assert busy.returncode == 78 and "stop it first" in busy.stderr
