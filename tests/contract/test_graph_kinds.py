"""Every kind of graph a `langgraph.json` may name, and what it does through the server."""

from __future__ import annotations

import asyncio

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import Durability

from tests.installed import server_runtime


async def test_a_builder_is_compiled_for_the_user(client: LangGraphClient, thread_id: str) -> None:
    assert await client.runs.wait(thread_id, "uncompiled", input={"items": []}) == {"items": ["a", "b"]}
    assert len(await client.threads.get_history(thread_id)) == 4


async def test_a_function_is_a_graph(client: LangGraphClient, thread_id: str) -> None:
    assert await client.runs.wait(thread_id, "functional", input=[1, 2, 3]) == {"doubled": [2, 4, 6]}
    state = await client.threads.get_state(thread_id)
    assert (state["values"], state["next"]) == ({"doubled": [2, 4, 6]}, [])


async def test_typed_state_is_checked_and_stored_as_json(client: LangGraphClient, thread_id: str) -> None:
    people = [{"name": "Ada", "age": 36}, {"name": "Grace", "age": 85}]
    values = await client.runs.wait(thread_id, "typed", input={"people": people})
    assert values["oldest"] == {"name": "Grace", "age": 85}
    state = await client.threads.get_state(thread_id)
    assert state["values"] == {"people": people, "oldest": {"name": "Grace", "age": 85}}
    assert (await client.threads.get(thread_id))["values"] == state["values"]
    with pytest.raises(Exception, match="ValidationError"):
        await client.runs.wait(None, "typed", input={"people": [{"name": "Nobody", "age": -1}]})


async def test_a_factory_makes_the_graph_of_each_run(client: LangGraphClient) -> None:
    async def made(*words: str) -> list[str]:
        config = {"configurable": {"words": list(words)}}
        return (await client.runs.wait(None, "factory", input={"items": []}, config=config))["items"]

    assert await asyncio.gather(made("x", "y"), made("z")) == [["x", "y"], ["z"]]
    assert (await client.runs.wait(None, "factory", input={"items": []}))["items"] == ["made"]


async def test_an_async_factory_may_return_a_builder(client: LangGraphClient, thread_id: str) -> None:
    assert (await client.runs.wait(thread_id, "async_factory", input={"items": []}))["items"] == ["made", "later"]
    assert (await client.threads.get_state(thread_id))["next"] == []


async def test_a_context_manager_stays_open_while_the_graph_runs(client: LangGraphClient) -> None:
    assert (await client.runs.wait(None, "context_manager", input={"items": []}))["items"] == ["open"]


async def test_the_graph_of_a_factory_has_a_drawing_and_can_be_updated(client: LangGraphClient, thread_id: str) -> None:
    graph = await client.assistants.get_graph("factory")
    assert {node["id"] for node in graph["nodes"]} == {"__start__", "made", "__end__"}
    await client.runs.wait(thread_id, "async_factory", input={"items": []})
    await client.threads.update_state(thread_id, {"items": ["by hand"]}, as_node="made")
    state = await client.threads.get_state(thread_id)
    assert (state["values"]["items"], state["next"]) == (["made", "later", "by hand"], ["later"])


@server_runtime
async def test_a_factory_is_told_what_its_graph_is_for(client: LangGraphClient, thread_id: str) -> None:
    forged = {"configurable": {"mine": 1, "__is_for_execution__": "forged", "__pregel_runtime": "forged"}}
    values = await client.runs.wait(thread_id, "told", input={"items": []}, config=forged)
    assert values["items"] == ["run (threads.create_run, True)"]
    keys = {"run_id", "thread_id", "graph_id", "assistant_id", "user_id", "langgraph_auth_user",
            "langgraph_auth_user_id", "langgraph_auth_permissions", "langgraph_request_id", "__request_start_time_ms__",
            "__after_seconds__", "checkpoint_ns", "__is_for_execution__", "__pregel_runtime", "mine"}  # fmt: skip
    assert keys <= set(values["told"])
    assert (values["told"]["thread_id"], values["told"]["mine"]) == (thread_id, 1)
    assert values["told"]["__pregel_runtime"]["access_context"] == "threads.create_run"
    await client.threads.update_state(thread_id, {"items": ["by hand"]}, as_node="node")
    state = await client.threads.get_state(thread_id)
    assert state["values"]["items"][1:] == ["by hand (threads.update, True)"]
    node = next(node for node in (await client.assistants.get_graph("told"))["nodes"] if node["id"] == "node")
    assert node["metadata"]["label"] == "assistants.read, False"


async def test_a_fan_out_gathers_what_its_workers_did(client: LangGraphClient, thread_id: str) -> None:
    values = await client.runs.wait(thread_id, "fan_out", input={"items": [], "n": 5})
    assert values == {"items": [f"worker {n}" for n in range(5)], "n": 5}
    history = await client.threads.get_history(thread_id)
    spread = next(at for at in history if at["next"] == ["worker"] * 5)
    assert sorted(task["result"]["items"][0] for task in spread["tasks"]) == values["items"]


async def test_an_agent_calls_its_tool(client: LangGraphClient, thread_id: str) -> None:
    question = {"messages": [{"role": "user", "content": "add 20 22"}]}
    messages = (await client.runs.wait(thread_id, "agent", input=question))["messages"]
    assert [message["type"] for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1]["content"] == "The sum is 42"
    again = await client.runs.wait(thread_id, "agent", input={"messages": [{"role": "user", "content": "thanks"}]})
    assert len(again["messages"]) == 6
    assert again["messages"][:4] == messages


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_graph_called_on_a_loop_of_a_nodes_own_keeps_its_checkpoints(
    client: LangGraphClient, thread_id: str, durability: Durability
) -> None:
    """A plain function that calls a subgraph under `asyncio.run`, twice."""
    inner = ["first", "inner", 120_000, "second", "inner", 120_000]
    values = await client.runs.wait(thread_id, "own_loop", input={"items": []}, durability=durability)
    assert values["items"] == inner
    state = await client.threads.get_state(thread_id)
    assert (state["values"]["items"], state["next"]) == (inner, [])
