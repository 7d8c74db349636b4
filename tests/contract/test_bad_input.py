"""What bad input gets: a status, a sentence, and nothing else harmed."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import orjson
import pytest
from langgraph_sdk.client import LangGraphClient

from .frames import events
from .waiting import ended, settled

MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/assistants", {}, "graph_id"),
        ("/assistants", {"graph_id": 7}, "graph_id"),
        ("/assistants", {"graph_id": "noop", "if_exists": "maybe"}, "if_exists"),
        ("/assistants", {"graph_id": "noop", "metadata": []}, "metadata"),
        ("/assistants/search", {"limit": 1001}, "limit"),
        ("/assistants/search", {"sort_by": "colour"}, "sort_by"),
        ("/threads", {"metadata": "text"}, "metadata"),
        pytest.param("/threads", {"thread_id": "not-a-uuid"}, "thread_id", marks=pytest.mark.star),
        ("/threads/search", {"status": "sleeping"}, "status"),
        ("/threads/search", {"offset": -1}, "offset"),
        ("/threads/{thread}/runs", {"input": {}}, "assistant_id"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "multitask_strategy": "sometimes"}, "multitask_strategy"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "stream_mode": ["values", "films"]}, "stream_mode"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "durability": "forever"}, "durability"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "config": "text"}, "config"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "config": {"recursion_limit": "x"}}, "recursion_limit"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "after_seconds": "soon"}, "after_seconds"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "interrupt_before": 3}, "interrupt_before"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "command": {"goto": 1}}, "goto"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "command": {"goto": ["a", None]}}, "goto"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "command": {"goto": {"input": 1}}}, "goto"),
        ("/threads/{thread}/runs", {"assistant_id": "noop", "input": {}, "checkpoint_id": "x"}, "checkpoint ID"),
        ("/threads/{thread}/runs/stream", {"assistant_id": "noop", "on_disconnect": "cry"}, "on_disconnect"),
        ("/threads/{thread}/runs/wait", {"assistant_id": "noop", "if_not_exists": "pray"}, "if_not_exists"),
        ("/runs/wait", {"assistant_id": "noop", "on_completion": "burn"}, "on_completion"),
        ("/threads/{thread}/history", {"limit": 0}, "limit"),
        ("/threads/{thread}/state", {"values": 7}, "values"),
    ],
)
async def test_a_bad_field_is_422_and_named(
    http: httpx.AsyncClient, thread_id: str, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await http.post(path.format(thread=thread_id), json=body)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["detail"]


@pytest.mark.parametrize("body", ["[]", '"text"', "7", "null"])
async def test_a_body_that_is_no_object_is_422(http: httpx.AsyncClient, thread_id: str, body: str) -> None:
    for path in ("/threads", "/assistants", "/threads/search", f"/threads/{thread_id}/runs"):
        answer = await http.post(path, content=body)
        assert answer.status_code == 422, (path, answer.text)
        assert isinstance(answer.json()["detail"], str)


async def test_a_graph_that_raises_harms_nothing_else(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    parts = [
        part
        async for part in client.runs.stream(thread_id, "flaky", input={"items": ["in"], "n": 0}, stream_mode="values")
    ]
    assert parts[-1].event == "error"
    assert parts[-1].data == {"error": "ValueError", "message": "kaboom"}
    [failed, _] = await client.runs.list(thread_id)
    assert failed["status"] == "error"
    state = await client.threads.get_state(thread_id)
    assert state["values"]["items"] == ["a", "b", "in", "first"]
    assert [task["error"] for task in state["tasks"]] == ["ValueError('kaboom')"]
    assert state["next"] == ["maybe_fail"]
    assert (await client.threads.get(thread_id))["status"] == "error"
    assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]


@pytest.mark.star
async def test_state_that_cannot_be_serialised_fails_the_run_and_names_the_channel(
    client: LangGraphClient, thread_id: str
) -> None:
    run = await client.runs.create(thread_id, "unserialisable", input={"text": "in"})
    assert (await ended(client, thread_id, run["run_id"]))["status"] == "error"
    thread = await settled(client, thread_id)
    assert thread["status"] == "error"
    assert "lock" in thread["error"]["message"]
    assert (await client.threads.get_state(thread_id))["values"]["text"] == "spoken"
    assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"] == ["a", "b"]


async def test_megabytes_go_in_and_out(client: LangGraphClient, thread_id: str) -> None:
    given = "é" * (3 * MEGABYTE)
    values = await client.runs.wait(thread_id, "big", input={"n": 6 * MEGABYTE, "given": given})
    assert values["given"] == given
    assert len(values["blob"]) == 6 * MEGABYTE == values["n"]
    state = await client.threads.get_state(thread_id)
    assert state["values"] == values
    assert (await client.threads.get(thread_id))["values"] == values


async def test_megabytes_are_streamed_and_replayed(client: LangGraphClient, thread_id: str) -> None:
    parts = [
        part
        async for part in client.runs.stream(
            thread_id, "big", input={"n": 6 * MEGABYTE}, stream_mode="updates", stream_resumable=True
        )
    ]
    assert [part.event for part in parts] == ["metadata", "updates", "updates"]
    assert len(parts[1].data["inflate"]["blob"]) == 6 * MEGABYTE
    run_id = parts[0].data["run_id"]
    again = [part async for part in client.runs.join_stream(thread_id, run_id, last_event_id="-1")]
    assert [part.data for part in again] == [part.data for part in parts]


async def test_odd_text_survives(client: LangGraphClient, thread_id: str) -> None:
    texts = ["\u2028\u2029", "😀 \U0010ffff", "line\r\nline\rline\n", '"\\', "</script>", "\x7f\x01", ""]
    assert (await client.runs.wait(thread_id, "noop", input={"items": texts}))["items"] == [*texts, "a", "b"]
    parts = [part async for part in client.runs.stream(thread_id, "noop", input={"items": texts}, stream_mode="values")]
    assert parts[-1].data["items"] == [*texts, "a", "b"] * 2
    assert (await client.threads.get(thread_id))["values"]["items"] == [*texts, "a", "b"] * 2


async def test_a_nul_in_the_input_does_not_fail_the_run(client: LangGraphClient, thread_id: str) -> None:
    values = await client.runs.wait(thread_id, "noop", input={"items": ["a\x00b"]})
    assert values["items"][0] in ("a\x00b", "a\ufffdb")
    assert (await client.threads.get(thread_id))["status"] == "idle"
    assert (await client.threads.get_state(thread_id))["values"]["items"][1:] == ["a", "b"]


async def test_numbers_json_does_not_know_do_not_break_a_stream(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    body = '{"assistant_id": "noop", "input": {"items": [1e400, 12345678901234567890123]}, "stream_mode": "values"}'
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", content=body) as stream:
        assert stream.status_code in (200, 422)
        seen = await events(stream) if stream.status_code == 200 else []
    assert "error" not in {frame.event for frame in seen}
    assert (await settled(client, thread_id))["status"] == "idle"


@pytest.mark.star
async def test_a_body_over_the_limit_is_413(url: str) -> None:
    """The limit is 300 MB unless configured; a body is refused by its announced length, before it is read."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = f"POST /threads HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {10**12}\r\n\r\n{{".encode())
        await writer.drain()
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
    finally:
        writer.close()
    headers, body = answer.split(b"\r\n\r\n", 1)
    assert headers.startswith(b"HTTP/1.1 413")
    assert "bytes" in orjson.loads(body)["detail"].lower()


async def test_a_command_and_an_input_do_not_confuse_each_other(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "ask", input={"items": []})
    values = await client.runs.wait(thread_id, "ask", input={"items": ["ignored"]}, command={"resume": "yes"})
    assert values["items"] == ["yes", "done"]


async def test_ids_are_case_insensitive_and_unknown_ones_do_no_harm(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    assert (await http.get(f"/threads/{thread_id.upper()}")).json()["thread_id"] == thread_id
    unknown = uuid4()
    for method, path in (
        ("DELETE", f"/threads/{unknown}"),
        ("GET", f"/threads/{unknown}/state"),
        ("POST", f"/threads/{unknown}/history"),
        ("POST", f"/threads/{unknown}/state"),
        ("POST", f"/threads/{thread_id}/runs/{unknown}/cancel"),
        ("GET", f"/assistants/{unknown}/schemas"),
        ("GET", f"/assistants/{unknown}/graph"),
    ):
        body = {"values": {}} if path.endswith("/state") and method == "POST" else {}
        answer = await http.request(method, path, json=body if method == "POST" else None)
        assert answer.status_code == 404, (method, path, answer.text)
