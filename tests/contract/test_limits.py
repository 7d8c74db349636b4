"""What one client sends does no harm to the others (contract statement 183), at a whole server, in both modes."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from .waiting import settled


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.contract(183)
@pytest.mark.star
@pytest.mark.parametrize("levels", [199, 245, 250, 253, 400, 1000])
async def test_a_deep_body_is_shown_or_refused_at_once(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, levels: int
) -> None:
    for path, body in (
        (f"/threads/{thread_id}/runs/wait", f'{{"assistant_id": "noop", "input": {{"items": [{nested(levels)}]}}}}'),
        (f"/threads/{thread_id}/state", f'{{"as_node": "a", "values": {{"items": [{nested(levels)}]}}}}'),
        ("/threads", f'{{"metadata": {{"x": {nested(levels)}}}}}'),
        ("/threads/search", f'{{"metadata": {{"x": {nested(levels)}}}}}'),
        ("/threads/search", f'{{"values": {{"x": {nested(levels)}}}}}'),
    ):
        answer = await http.post(path, content=body)
        assert answer.status_code == 422, (path, answer.text)
        assert "nested too deeply: at most 200 " in answer.json()["detail"]
    depth = 190
    body = f'{{"assistant_id": "noop", "input": {{"items": [{nested(depth)}]}}}}'
    values = await http.post(f"/threads/{thread_id}/runs/wait", content=body)
    assert values.status_code == 200
    for path in (f"/threads/{thread_id}", f"/threads/{thread_id}/state", f"/threads/{thread_id}/runs"):
        assert nested(depth) in (await http.get(path)).text
    assert nested(depth) in (await http.post(f"/threads/{thread_id}/history", json={"limit": 10})).text
    assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]


@pytest.mark.contract(183)
@pytest.mark.star
async def test_bytes_of_a_header_that_are_no_text_reach_the_graph_as_text(url: str, client: LangGraphClient) -> None:
    body = b'{"assistant_id": "noop", "input": {"items": []}}'
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = f"POST /runs/wait HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        length = b"Content-Length: %d\r\n" % len(body)
        writer.write(head.encode() + length + b"X-Request-Id: a\xff\xfe\r\n\r\n" + body)
        answer = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ") and b'{"items":["a","b"]}' in answer
    assert "X-Request-Id: a\ufffd\ufffd\r\n".encode() in answer


@pytest.mark.contract(178)
@pytest.mark.star
async def test_the_thread_of_a_stateless_run_that_is_kept_is_named(http: httpx.AsyncClient) -> None:
    body = {"assistant_id": "noop", "input": {"items": []}, "on_completion": "keep"}
    for path in ("/runs", "/runs/wait", "/runs/stream"):
        answer = await http.post(path, json=body)
        location = answer.headers["content-location"]
        assert location.startswith("/threads/")
        run = (await http.get(location)).json()
        assert location == f"/threads/{run['thread_id']}/runs/{run['run_id']}"
        joined = await http.get(f"{location}/join")
        assert joined.json() == {"items": ["a", "b"]}


@pytest.mark.contract(178)
async def test_reserved_metadata_of_a_thread_is_dropped(client: LangGraphClient) -> None:
    own: dict[str, Any] = {"run_id": "mine", "assistant_id": "mine", "graph_id": "noop", "kept": 1}
    thread = await client.threads.create(metadata=own)
    assert thread["metadata"] == {"graph_id": "noop", "kept": 1}
    patched = await client.threads.update(thread["thread_id"], metadata={**own, "kept": 2})
    assert patched["metadata"] == {"graph_id": "noop", "kept": 2}
    run = await client.runs.create(thread["thread_id"], "noop", input={"items": []})
    stored = await settled(client, thread["thread_id"])
    assert stored["metadata"]["assistant_id"] == run["assistant_id"] != "mine"
