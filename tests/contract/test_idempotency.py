"""Idempotency keys: threadlog's own, LangGraph Server has none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.installed import needs
from tests.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "idempotency.md"
pytestmark = pytest.mark.star


def key(text: str, thread_id: str) -> dict[str, str]:
    return {"Idempotency-Key": f"{text} {thread_id}"}


@needs("langgraph-sdk", "0.3")
async def test_the_snippet_runs(client: LangGraphClient, thread_id: str) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet.replace('"agent"', '"noop"'), names)
    run = await names["create_run"](client, thread_id, {"items": ["a"]})
    await client.runs.join(thread_id, run["run_id"])
    assert [listed["run_id"] for listed in await client.runs.list(thread_id)] == [run["run_id"]]


async def test_a_wait_sent_twice_is_one_run_with_one_answer(http: httpx.AsyncClient, thread_id: str) -> None:
    body = {"assistant_id": "noop", "input": {"items": ["a"]}}
    path, headers = f"/threads/{thread_id}/runs/wait", key("wait", thread_id)
    first, second = await asyncio.gather(*(http.post(path, json=body, headers=headers) for _ in range(2)))
    third = await http.post(path, json=body, headers=headers)
    assert first.json() == second.json() == third.json() == {"items": ["a", "a", "b"]}
    assert first.headers["content-location"] == second.headers["content-location"] == third.headers["content-location"]
    assert len((await http.get(f"/threads/{thread_id}/runs")).json()) == 1


async def test_a_stream_sent_twice_is_one_run_from_its_beginning(http: httpx.AsyncClient, thread_id: str) -> None:
    body = {"assistant_id": "noop", "input": {"items": ["a"]}, "stream_mode": ["values", "updates"]}
    path, headers = f"/threads/{thread_id}/runs/stream", key("stream", thread_id)
    first, second = [await http.post(path, json=body, headers=headers) for _ in range(2)]
    assert first.text.count("event: ") > 2 and first.text == second.text
    assert len((await http.get(f"/threads/{thread_id}/runs")).json()) == 1


async def test_a_state_is_updated_once(http: httpx.AsyncClient, client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": ["a"]})
    body = {"values": {"items": ["b"]}}
    path, headers = f"/threads/{thread_id}/state", key("state", thread_id)
    before = len(await client.threads.get_history(thread_id))
    first, second = await asyncio.gather(*(http.post(path, json=body, headers=headers) for _ in range(2)))
    assert first.status_code == 200 and first.json() == second.json()
    assert len(await client.threads.get_history(thread_id)) == before + 1


async def test_the_key_for_another_request_is_422(http: httpx.AsyncClient, thread_id: str) -> None:
    headers = key("other", thread_id)
    path = f"/threads/{thread_id}"
    assert (await http.patch(path, json={"metadata": {"a": 1}}, headers=headers)).status_code == 200
    refused = await http.patch(path, json={"metadata": {"a": 2}}, headers=headers)
    assert refused.status_code == 422 and refused.json()["code"] == "idempotency_key_reused"
    again = await http.patch(path, json={"metadata": {"a": 1}}, headers=headers)
    assert again.status_code == 200 and again.headers["idempotent-replayed"] == "true"


async def test_requests_sent_until_they_are_answered_happen_once_while_servers_are_killed(
    own_server: Callable[..., Server], graphs: Callable[..., Path]
) -> None:
    running = await asyncio.to_thread(own_server, graphs("noop"), executors=1)
    killed = asyncio.Event()
    first_answers = asyncio.Semaphore(0)

    async def until_answered(http: httpx.AsyncClient, path: str, body: Any, name: str) -> httpx.Response:
        while True:
            try:
                answer = await http.post(path, json=body, headers={"Idempotency-Key": name})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            await asyncio.sleep(0.2)

    async def client(http: httpx.AsyncClient, n: int) -> list[str]:
        """Requests one after the other, until some have been sent after the last kill."""
        runs = []
        thread = (await until_answered(http, "/threads", {"metadata": {"client": n}}, f"thread {n}")).json()[
            "thread_id"
        ]
        left = 2
        while left:
            left -= killed.is_set()
            how, name = ("runs", "runs/wait")[len(runs) % 2], f"{n} {len(runs)}"
            answer = await until_answered(http, f"/threads/{thread}/{how}", {"assistant_id": "noop"}, name)
            assert answer.status_code == 200, answer.text
            runs.append(answer.headers["content-location"].rpartition("/")[2])
            first_answers.release()
        listed = (await http.get(f"/threads/{thread}/runs", params={"limit": 1000})).json()
        assert sorted(run["run_id"] for run in listed) == sorted(runs)
        return [thread]

    async def kill() -> None:
        for name in [name for name in ("server", "api", "engine") if name in running.pids]:
            for _ in range(12):  # in the middle of what they do
                await first_answers.acquire()
            pid = running.kill(name)
            await asyncio.to_thread(running.wait_replaced, name, pid)
        killed.set()

    async with httpx.AsyncClient(base_url=running.url, timeout=60) as http:
        clients = [client(http, n) for n in range(4)]
        *threads, _ = await asyncio.gather(*clients, kill())
        made = (await http.post("/threads/search", json={"limit": 100})).json()
        assert sorted(thread["thread_id"] for thread in made) == sorted(id for ids in threads for id in ids)
    verified = await asyncio.to_thread(running.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
