"""Graphs that call the server they run on, with a client that has no url."""

from __future__ import annotations

import pytest
from langgraph_sdk.client import LangGraphClient

from .gate import Gate

# the reference server's development mode runs one run at a time, and a sync client without a url goes to another port
pytestmark = pytest.mark.star


async def test_a_node_makes_a_thread_and_waits_for_a_run_on_it(client: LangGraphClient, url: str) -> None:
    called = (await client.runs.wait(None, "calls", input={}))["called"]
    assert called["values"]["items"] == ["asked", "a", "b"]
    thread = await client.threads.get(called["thread"])
    assert thread["metadata"]["made"] == "by a node"
    assert called["url"] == url


async def test_a_node_in_a_thread_does_so_with_both_clients(client: LangGraphClient) -> None:
    called = (await client.runs.wait(None, "calls_sync", input={}))["called"]
    assert [values["items"] for values in called["values"]] == [["sync", "a", "b"], ["loop", "a", "b"]]
    assert (await client.threads.get_state(called["thread"]))["values"]["items"] == ["sync", "a", "b"]


async def test_what_a_node_streams_comes_as_it_is_made(client: LangGraphClient, gate: Gate) -> None:
    called = (await client.runs.wait(None, "calls_streaming", input={"gate": str(gate.folder)}))["called"]
    assert called == {"first": {"tick": 0}}
