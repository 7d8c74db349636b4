"""LangGraph's own `RemoteGraph`: a graph on the server used as if it were here."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from langgraph.errors import GraphInterrupt
from langgraph.graph import START, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from tests.installed import forks_older


def on_thread() -> dict:
    return {"configurable": {"thread_id": str(uuid4())}}


async def test_a_remote_graph_is_invoked(url: str) -> None:
    graph = RemoteGraph("noop", url=url)
    assert await graph.ainvoke({"items": ["in"]}) == {"items": ["in", "a", "b"]}
    config = on_thread()
    await graph.ainvoke({"items": ["one"]}, config)
    assert await graph.ainvoke({"items": ["two"]}, config) == {"items": ["one", "a", "b", "two", "a", "b"]}


async def test_a_remote_graph_works_without_asyncio(url: str) -> None:
    graph = RemoteGraph("noop", url=url)

    def use() -> tuple:
        config = on_thread()
        values = graph.invoke({"items": []}, config)
        return values, list(graph.stream({"items": []}, config, stream_mode="updates")), graph.get_state(config)

    values, updates, state = await asyncio.to_thread(use)
    assert values == {"items": ["a", "b"]}
    assert updates == [{"a": {"items": ["a"]}}, {"b": {"items": ["b"]}}]
    assert state.values == {"items": ["a", "b", "a", "b"]}


async def test_a_remote_graph_streams_several_modes(url: str) -> None:
    graph = RemoteGraph("noop", url=url)
    parts = [part async for part in graph.astream({"items": []}, stream_mode=["values", "updates"])]
    assert [(mode, data) for mode, data, *_ in parts] == [
        ("values", {"items": []}),
        ("updates", {"a": {"items": ["a"]}}),
        ("values", {"items": ["a"]}),
        ("updates", {"b": {"items": ["b"]}}),
        ("values", {"items": ["a", "b"]}),
    ]


async def test_a_remote_graph_streams_its_subgraphs(url: str) -> None:
    graph = RemoteGraph("chat_parent", url=url)
    question = {"messages": [{"role": "user", "content": "hello there"}]}
    parts = [part async for part in graph.astream(question, stream_mode="updates", subgraphs=True)]
    assert [(len(namespace), list(update)) for namespace, update in parts] == [(1, ["model"]), (0, ["child"])]
    assert parts[0][0][0].startswith("child:")


@forks_older
async def test_the_state_of_a_remote_graph_is_read_and_updated(url: str) -> None:
    graph = RemoteGraph("four", url=url)
    config = on_thread()
    await graph.ainvoke({"items": []}, config)
    state = await graph.aget_state(config)
    assert (state.values, state.next) == ({"items": ["one", "two", "three", "four"]}, ())
    assert state.config["configurable"]["thread_id"] == config["configurable"]["thread_id"]
    updated = await graph.aupdate_state(state.parent_config, {"items": ["by hand"]}, as_node="two")
    assert updated["configurable"]["thread_id"] == config["configurable"]["thread_id"]
    assert (await graph.aget_state(config)).next == ("three",)
    assert (await graph.ainvoke(None, config))["items"] == ["one", "two", "three", "by hand", "three", "four"]


async def test_the_history_of_a_remote_graph(url: str) -> None:
    graph = RemoteGraph("noop", url=url)
    config = on_thread()
    await graph.ainvoke({"items": []}, config)
    history = [state async for state in graph.aget_state_history(config)]
    assert [state.next for state in history] == [(), ("b",), ("a",), ("__start__",)]
    assert [state async for state in graph.aget_state_history(config, limit=2)] == history[:2]
    before = [state async for state in graph.aget_state_history(config, filter={"source": "input"})]
    assert [state.next for state in before] == [("__start__",)]


@pytest.mark.star
async def test_the_history_of_a_remote_graph_before_a_checkpoint(url: str) -> None:
    graph = RemoteGraph("noop", url=url)
    config = on_thread()
    await graph.ainvoke({"items": []}, config)
    history = [state async for state in graph.aget_state_history(config)]
    before = [state async for state in graph.aget_state_history(config, before=history[1].config)]
    assert before == history[2:]


async def test_the_drawing_of_a_remote_graph(url: str) -> None:
    graph = await RemoteGraph("grandparent", url=url).aget_graph(xray=True)
    assert "parent:child:model" in graph.nodes
    drawn = (await RemoteGraph("agent", url=url).aget_graph()).draw_mermaid()
    assert "model -.-> tools" in drawn or "model -.-> __end__" in drawn
    assert "tools --> model" in drawn


async def test_a_remote_graph_interrupts_and_resumes(url: str) -> None:
    graph = RemoteGraph("ask", url=url)
    config = on_thread()
    values = await graph.ainvoke({"items": []}, config)
    assert values["items"] == []
    state = await graph.aget_state(config)
    assert state.next == ("question",)
    [task] = state.tasks
    assert task.interrupts[0].value == {"question": "ok?"}
    resumed = await graph.ainvoke(Command(resume="yes"), config)
    assert resumed["items"] == ["yes", "done"]
    assert (await graph.aget_state(config)).next == ()


async def test_an_interrupt_in_a_remote_graph_that_is_a_node_stops_the_local_graph(url: str) -> None:
    """As a subgraph, its interrupt is raised through the local graph."""
    graph = RemoteGraph("ask", url=url)
    with pytest.raises(GraphInterrupt) as stopped:
        async for _ in graph.astream(
            {"items": []},
            {"configurable": {**on_thread()["configurable"], "checkpoint_ns": "outer:1"}},
            stream_mode="values",
        ):
            pass
    assert stopped.value.args[0][0].value == {"question": "ok?"}


async def test_a_remote_graph_is_a_node_of_a_local_one(url: str) -> None:
    class Outer(TypedDict, total=False):
        items: list

    builder = StateGraph(Outer)
    builder.add_node("remote", RemoteGraph("noop", url=url))
    builder.add_edge(START, "remote")
    assert await builder.compile().ainvoke({"items": ["in"]}) == {"items": ["in", "a", "b"]}


async def test_an_error_in_a_remote_graph_is_raised_here(url: str) -> None:
    with pytest.raises(RemoteException, match="kaboom"):
        await RemoteGraph("flaky", url=url).ainvoke({"items": [], "n": 0})


async def test_a_state_of_a_subgraph_is_read_through_the_remote_graph(url: str) -> None:
    graph = RemoteGraph("family", url=url)
    config = on_thread()
    await graph.ainvoke({"items": []}, config)
    state = await graph.aget_state(config, subgraphs=True)
    assert state.tasks[0].state.next == ("question",)
    assert state.tasks[0].state.values["items"] == ["before", "thought"]
    assert (await graph.ainvoke(Command(resume="yes"), config))["items"][-2:] == ["yes", "after"]
