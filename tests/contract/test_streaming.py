"""Contract statements 115 to 125: what a run streams."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import StreamPart

from .frames import events, frames
from .gate import Gate

HELLO = {"messages": [{"role": "user", "content": "tell me a short story"}]}
STORY = "You said: tell me a short story"


async def streamed(client: LangGraphClient, thread_id: str, graph: str, **options: Any) -> list[StreamPart]:
    return [part async for part in client.runs.stream(thread_id, graph, **options)]


def names(parts: Sequence[StreamPart]) -> list[str]:
    return [part.event for part in parts]


@pytest.mark.contract(115)
async def test_the_first_event_is_metadata(client: LangGraphClient, thread_id: str) -> None:
    parts = await streamed(client, thread_id, "noop", input={"items": []})
    [run] = await client.runs.list(thread_id)
    assert parts[0].event == "metadata"
    assert parts[0].data == {"run_id": run["run_id"], "attempt": 1}
    assert names(parts).count("metadata") == 1


@pytest.mark.contract(115)
async def test_headers_and_framing_of_a_stream(http: httpx.AsyncClient, thread_id: str) -> None:
    body = {"assistant_id": "noop", "input": {"items": []}}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        seen = await events(stream)
    assert [frame.fields for frame in seen] == [["event", "data"]] * len(seen)
    assert seen[-1].event == "values"


@pytest.mark.contract(116)
async def test_values_and_updates(client: LangGraphClient) -> None:
    values = await streamed(client, None, "noop", input={"items": ["in"]}, stream_mode="values")
    assert [(part.event, part.data) for part in values[1:]] == [
        ("values", {"items": ["in"]}),
        ("values", {"items": ["in", "a"]}),
        ("values", {"items": ["in", "a", "b"]}),
    ]
    updates = await streamed(client, None, "noop", input={"items": ["in"]}, stream_mode="updates")
    assert [(part.event, part.data) for part in updates[1:]] == [
        ("updates", {"a": {"items": ["a"]}}),
        ("updates", {"b": {"items": ["b"]}}),
    ]


@pytest.mark.contract(117)
async def test_messages_mode(client: LangGraphClient, thread_id: str) -> None:
    parts = await streamed(client, thread_id, "chat", input=HELLO, stream_mode="messages")
    assert set(names(parts)) <= {"metadata", "messages/metadata", "messages/partial", "messages/complete"}
    assert {"messages/metadata", "messages/partial"} <= set(names(parts))
    last = next(part for part in reversed(parts) if part.event in ("messages/partial", "messages/complete"))
    [final] = last.data
    stored = (await client.threads.get_state(thread_id))["values"]["messages"][-1]
    assert (final["id"], final["content"], final["type"]) == (stored["id"], STORY, "ai")
    about = [part.data for part in parts if part.event == "messages/metadata" and final["id"] in part.data]
    assert len(about) == 1
    assert about[0][final["id"]]["metadata"]["langgraph_node"] == "model"


@pytest.mark.contract(117)
async def test_a_message_that_was_not_streamed_comes_complete(client: LangGraphClient, thread_id: str) -> None:
    parts = await streamed(client, thread_id, "review", input={"messages": []}, stream_mode="messages")
    complete = [part.data for part in parts if part.event == "messages/complete"]
    assert [[message["content"] for message in messages] for messages in complete] == [["a first draft"]]
    assert "messages/partial" not in names(parts)


@pytest.mark.contract(118)
async def test_message_chunks_add_up_to_the_message(client: LangGraphClient, thread_id: str) -> None:
    parts = await streamed(client, thread_id, "chat", input=HELLO, stream_mode="messages-tuple")
    assert set(names(parts)) == {"metadata", "messages"}
    chunks = [part.data[0] for part in parts if part.event == "messages"]
    stored = (await client.threads.get_state(thread_id))["values"]["messages"][-1]
    assert {chunk["id"] for chunk in chunks} == {stored["id"]}
    assert {chunk["type"] for chunk in chunks} == {"AIMessageChunk"}
    assert "".join(chunk["content"] for chunk in chunks) == stored["content"] == STORY
    assert len([chunk for chunk in chunks if chunk["content"]]) == len(STORY.split())
    assert [chunk.get("chunk_position") for chunk in chunks].count("last") == 1
    assert chunks[-1]["chunk_position"] == "last"
    about = parts[1].data[1]
    assert about["langgraph_node"] == "model" and about["thread_id"] == thread_id and about["run_attempt"] == 1


@pytest.mark.contract(118)
async def test_a_tool_call_is_streamed_in_chunks(client: LangGraphClient, thread_id: str) -> None:
    question = {"messages": [{"role": "user", "content": "add 2 3"}]}
    parts = await streamed(client, thread_id, "agent", input=question, stream_mode="messages-tuple")
    messages = [part.data[0] for part in parts if part.event == "messages"]
    calls = [call for message in messages for call in message.get("tool_call_chunks") or []]
    assert [call["name"] for call in calls] == ["add"]
    [result] = [message for message in messages if message["type"] == "tool"]
    assert (result["content"], result["tool_call_id"]) == ("5", "call-1")
    state = await client.threads.get_state(thread_id)
    kinds = [message["type"] for message in state["values"]["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    assert state["values"]["messages"][1]["tool_calls"][0]["args"] == {"left": 2, "right": 3}
    assert state["values"]["messages"][-1]["content"] == "The sum is 5"


@pytest.mark.contract(119)
async def test_partial_messages_are_growing_prefixes(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "chat", input=HELLO, stream_mode="messages")
    partial = [part.data[0]["content"] for part in parts if part.event == "messages/partial"]
    assert partial[-1] == STORY
    for shorter, longer in pairwise(partial):
        assert longer.startswith(shorter)
    assert len(set(partial)) == len(STORY.split())


@pytest.mark.contract(120)
async def test_modes_interleave_step_by_step(client: LangGraphClient, thread_id: str) -> None:
    modes = ["values", "updates", "tasks", "checkpoints"]
    parts = await streamed(client, thread_id, "noop", input={"items": []}, stream_mode=modes)
    step = ["tasks", "updates", "tasks", "values", "checkpoints"]
    assert names(parts) == ["metadata", "checkpoints", "values", "checkpoints", *step, *step]
    assert [part.data["metadata"]["step"] for part in parts if part.event == "checkpoints"] == [-1, 0, 1, 2]
    start, result = [part.data for part in parts if part.event == "tasks"][:2]
    assert start["id"] == result["id"]
    assert (start["name"], start["input"], start["triggers"]) == ("a", {"items": []}, ["branch:to:a"])
    assert (result["error"], result["result"], result["interrupts"]) == (None, {"items": ["a"]}, [])
    history = await client.threads.get_history(thread_id)
    configured = [part.data["config"]["configurable"]["checkpoint_id"] for part in parts if part.event == "checkpoints"]
    assert configured == [at["checkpoint"]["checkpoint_id"] for at in reversed(history)]


@pytest.mark.contract(120)
async def test_events_mode_combines_with_others(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "chat", input=HELLO, stream_mode=["events", "values"])
    assert set(names(parts)) == {"metadata", "events", "values"}
    kinds = [part.data["event"] for part in parts if part.event == "events"]
    assert kinds[0] == "on_chain_start" and kinds[-1] == "on_chain_end"
    said = [
        part.data["data"]["chunk"]["content"]
        for part in parts
        if part.event == "events" and part.data["event"] == "on_chat_model_stream"
    ]
    assert "".join(said) == STORY
    assert [part for part in parts if part.event == "values"][-1].data["messages"][-1]["content"] == STORY


@pytest.mark.contract(120)
async def test_events_are_those_of_nodes_and_what_they_call(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "fan_out", input={"items": [], "n": 2}, stream_mode="events")
    told = [part.data for part in parts if part.event == "events"]
    assert not [event for event in told if "langsmith:hidden" in event["tags"]]
    assert [event["name"] for event in told if event["event"] == "on_chain_start"] == [
        "fan_out", "worker", "worker", "gather"
    ]  # fmt: skip
    parts = await streamed(client, None, "chat_parent", input=HELLO, stream_mode="events", stream_subgraphs=True)
    [task] = {
        part.data["metadata"]["langgraph_checkpoint_ns"].partition("|")[0]
        for part in parts
        if part.event == "events" and part.data["event"] == "on_chat_model_stream"
    }
    inside = [part.data["metadata"] for part in parts if part.event == "events" and part.data["name"] == "model"]
    assert {metadata["checkpoint_ns"] for metadata in inside} == {task}


@pytest.mark.contract(121)
async def test_subgraph_events_carry_their_namespace(client: LangGraphClient) -> None:
    modes = ["updates", "messages-tuple"]
    inside = await streamed(client, None, "chat_parent", input=HELLO, stream_mode=modes, stream_subgraphs=True)
    spaced = [name for name in names(inside) if "|" in name]
    assert {name.split("|")[0] for name in spaced} == {"updates", "messages"}
    [namespace] = {name.split("|", 1)[1] for name in spaced}
    assert namespace.startswith("child:") and len(namespace) == len("child:") + 36
    updates = [(part.event, list(part.data)) for part in inside if part.event.startswith("updates")]
    assert updates == [(f"updates|{namespace}", ["model"]), ("updates", ["child"])]
    chunks = [part.data[0]["content"] for part in inside if part.event == f"messages|{namespace}"]
    assert "".join(chunks) == STORY

    outside = await streamed(client, None, "chat_parent", input=HELLO, stream_mode=modes)
    assert not [name for name in names(outside) if "|" in name]
    deep = await streamed(client, None, "grandparent", input=HELLO, stream_mode="updates", stream_subgraphs=True)
    assert [name.count("|") for name in names(deep) if name.startswith("updates")] == [2, 1, 0]


@pytest.mark.contract(122)
async def test_an_interrupt_is_an_update_and_a_value(client: LangGraphClient, thread_id: str) -> None:
    parts = await streamed(client, thread_id, "ask", input={"items": []}, stream_mode=["updates", "values"])
    [asked] = (await client.threads.get_state(thread_id))["interrupts"]
    update = next(part.data for part in parts if part.event == "updates")
    value = [part.data for part in parts if part.event == "values"][-1]
    for shown in (update["__interrupt__"], value["__interrupt__"]):
        assert [(entry["id"], entry["value"]) for entry in shown] == [(asked["id"], {"question": "ok?"})]
    assert value["items"] == []
    stopped = await streamed(client, None, "breakpoint", input={"items": []}, stream_mode="updates")
    assert [part.data for part in stopped[1:]] == [{"a": {"items": ["a"]}}, {"__interrupt__": []}]


@pytest.mark.contract(123)
@pytest.mark.parametrize("stream_mode", ["values", "updates", "custom"])
async def test_an_error_is_the_last_event(http: httpx.AsyncClient, thread_id: str, stream_mode: str) -> None:
    body = {"assistant_id": "flaky", "input": {"items": [], "n": 0}, "stream_mode": [stream_mode]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        seen = await events(stream)
    assert [frame.event for frame in seen].count("error") == 1
    assert seen[0].event == "metadata"
    assert seen[-1].event == "error"
    assert seen[-1].data == {"error": "ValueError", "message": "kaboom"}


@pytest.mark.contract(124)
async def test_custom_data_comes_in_order_before_the_update(client: LangGraphClient) -> None:
    parts = await streamed(client, None, "custom", input={"items": [], "n": 20}, stream_mode=["custom", "updates"])
    assert names(parts) == ["metadata", *["custom"] * 20, "updates"]
    assert [part.data for part in parts[1:-1]] == [{"number": n} for n in range(20)]


@pytest.mark.contract(124)
async def test_custom_data_comes_while_the_node_runs(http: httpx.AsyncClient, thread_id: str, gate: Gate) -> None:
    body = {"assistant_id": "custom", "input": {**gate.input, "n": 4}, "stream_mode": ["custom"]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        numbers = []
        async for frame in frames(stream):
            if frame.event == "custom":
                numbers.append(frame.data["number"])
                if numbers == [0, 1]:
                    assert not gate.is_open
                    gate.open()
    assert numbers == [0, 1, 2, 3]
