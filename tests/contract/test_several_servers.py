"""Contract statements 87, 105, 112, 132, 168 and 169 where they need another server, or one with other settings."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError

from tests.installed import needs
from tests.servers import Server, clean_environment
from tests.waiting import eventually
from threadlog.deploy.parent import PARENT_PID

from .conftest import APP
from .frames import events, frames
from .gate import Gate
from .refusals import refused
from .waiting import ended, settled

CONFIG = APP / "langgraph.json"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
async def second_url(server: Server) -> AsyncIterator[str]:
    """Another api process of the server: what clients behind a load balancer get."""
    if not isinstance(server, Server):
        pytest.skip("only our own server is given a second api")
    port = free_port()
    environment = {
        **clean_environment(),
        **server._environment(),
        "DATABASE_URI": server.database_uri,
        PARENT_PID: str(os.getpid()),
    }
    command = [sys.executable, "-P", "-m", "threadlog.deploy.cli", "api", "--port", str(port), "--config", str(CONFIG)]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=asyncio.subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        assert process.returncode is None, "the second api ended"
        try:
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{url}/ok")).status_code == 200
        except httpx.TransportError:
            return False

    try:
        await eventually(answers)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0


@pytest.fixture
async def second(second_url: str) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=second_url, api_key=None) as client:
        yield client


@needs("langgraph-sdk", "0.3")
@pytest.mark.contract(132)
async def test_a_stream_of_another_server_is_complete(
    client: LangGraphClient, second: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(
        thread_id, "custom", input={**gate.input, "n": 20}, stream_mode="custom", stream_resumable=True
    )
    await gate.entered(run["run_id"])

    async def joined(through: LangGraphClient) -> list[tuple]:
        return [
            (part.event, part.data, part.id)
            async for part in through.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
        ]

    async def open_the_gate() -> None:
        gate.open()

    here, there, _ = await asyncio.gather(joined(client), joined(second), open_the_gate())
    assert here == there
    assert [data["number"] for event, data, _ in there if event == "custom"] == list(range(20))
    assert await joined(second) == here


@pytest.mark.contract(132)
async def test_every_server_sees_what_another_has_answered(client: LangGraphClient, second: LangGraphClient) -> None:
    for _ in range(5):
        thread = await client.threads.create(metadata={"a": 1})
        assert await second.threads.get(thread["thread_id"]) == thread
        await second.threads.update(thread["thread_id"], metadata={"b": 2})
        assert (await client.threads.get(thread["thread_id"]))["metadata"] == {"a": 1, "b": 2}
        values = await second.runs.wait(thread["thread_id"], "noop", input={"items": []})
        assert (await client.threads.get_state(thread["thread_id"]))["values"] == values
        assistant = await second.assistants.create("noop", name="there")
        assert await client.assistants.get(assistant["assistant_id"]) == assistant


@pytest.mark.contract(112)
async def test_a_run_cancelled_at_another_server_stops_streaming_here(
    http: httpx.AsyncClient, second: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    body = {"assistant_id": "ticker", "input": gate.input, "stream_mode": ["custom"]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        run_id = stream.headers["content-location"].rsplit("/", 1)[1]
        seen = 0
        async for frame in frames(stream):
            seen += frame.event == "custom"
            if seen == 5:
                await second.runs.cancel(thread_id, run_id, wait=True)
    assert 5 <= seen < 500
    assert (await second.runs.get(thread_id, run_id))["status"] == "interrupted"


@pytest.mark.contract(104)
async def test_strategies_hold_between_servers(
    client: LangGraphClient, second: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    first = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(first["run_id"])
    with refused(ConflictError, "already running"):
        await second.runs.create(thread_id, "noop", input={"items": []}, multitask_strategy="reject")
    last = await second.runs.create(thread_id, "noop", input={"items": []}, multitask_strategy="interrupt")
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"
    assert (await client.runs.join(thread_id, last["run_id"]))["items"] == ["first", "a", "b"]


@pytest.mark.contract(168)
async def test_a_run_over_its_time_is_timed_out(
    own_server: Callable[..., Server], graphs: Callable[..., Path], gate: Gate
) -> None:
    started = await asyncio.to_thread(
        own_server, graphs("gated", "noop"), executors=1, env={"BG_JOB_TIMEOUT_SECS": "1"}
    )
    async with get_client(url=started.url, api_key=None) as client, httpx.AsyncClient(base_url=started.url) as http:
        thread_id = (await client.threads.create())["thread_id"]
        body = {"assistant_id": "gated", "input": gate.input, "stream_mode": ["updates"]}
        async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body, timeout=60) as stream:
            seen = await events(stream)
        run = await ended(client, thread_id, seen[0].data["run_id"])
        assert run["status"] == "timeout"
        thread = await settled(client, thread_id)
        assert (thread["status"], thread["error"]["error"]) == ("error", "TimeoutError")
        assert seen[-1].event == "error" and seen[-1].data["error"] == "TimeoutError"
        assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"] == ["first", "a", "b"]


@pytest.mark.contract(105)
async def test_no_more_runs_at_once_than_jobs_per_worker(
    own_server: Callable[..., Server], graphs: Callable[..., Path], gate: Gate
) -> None:
    started = await asyncio.to_thread(
        own_server, graphs("gated"), executors=1, env={"N_JOBS_PER_WORKER": "3", "HTTP_MAX_REQUEST_BODY_BYTES": "5000"}
    )
    async with get_client(url=started.url, api_key=None) as client, httpx.AsyncClient(base_url=started.url) as http:
        threads = [(await client.threads.create())["thread_id"] for _ in range(5)]
        runs = [(await client.runs.create(thread_id, "gated", input=gate.input))["run_id"] for thread_id in threads]
        for run_id in runs[:3]:
            await gate.entered(run_id)
        waiting = [(await client.runs.get(*pair))["status"] for pair in zip(threads[3:], runs[3:], strict=True)]
        assert waiting == ["pending", "pending"]
        assert gate.journal(runs[3]) == gate.journal(runs[4]) == []
        gate.open(runs[0])
        await gate.entered(runs[3])
        gate.open()
        for pair in zip(threads, runs, strict=True):
            assert (await ended(client, *pair))["status"] == "success"
        large = await http.post("/threads", json={"metadata": {"text": "x" * 6000}})
        assert large.status_code == 413
        assert "5000 bytes" in large.json()["detail"]
        assert (await http.post("/threads", json={"metadata": {"text": "x" * 1000}})).status_code == 200


@pytest.mark.contract(169)
async def test_an_executor_that_is_told_to_stop_hands_its_runs_over(
    own_server: Callable[..., Server], graphs: Callable[..., Path], gate: Gate
) -> None:
    """It passes on what has reached a superstep; a stream is not cut, and shows every step once."""
    started = await asyncio.to_thread(
        own_server, graphs("gated", "four"), executors=2, env={"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "1"}
    )
    async with get_client(url=started.url, api_key=None) as client:
        thread_id = (await client.threads.create())["thread_id"]
        seen: list[tuple] = []
        async for part in client.runs.stream(
            thread_id, "gated", input=gate.input, stream_mode=["updates", "values"], stream_resumable=True
        ):
            seen.append((part.event, part.data))
            if part.event == "updates" and list(part.data) == ["first"]:
                run_id = seen[0][1]["run_id"]
                await gate.entered(run_id)
                before = started.executors
                for name in before:
                    started.kill(name, signal.SIGTERM)
                await gate.reached("exit", run_id)
                gate.open()
        assert [part[1] for part in seen if part[0] == "updates"] == [
            {"first": {"items": ["first"]}},
            {"hold": {"items": ["held"]}},
            {"last": {"items": ["last"]}},
        ]
        assert seen[-1] == ("values", {"items": ["first", "held", "last"], "gate": str(gate.folder)})
        assert (await client.runs.get(thread_id, run_id))["status"] == "success"
        for name, pid in before.items():
            await asyncio.to_thread(started.wait_replaced, name, pid)


@pytest.mark.star
async def test_a_request_sent_again_to_another_api_has_the_first_answer(url: str, second_url: str) -> None:
    headers = {"Idempotency-Key": f"two apis {os.urandom(8).hex()}"}
    run = {"assistant_id": "noop", "input": {"items": ["a"]}}
    async with httpx.AsyncClient(base_url=url) as one, httpx.AsyncClient(base_url=second_url) as other:
        at_a_time = await asyncio.gather(*(api.post("/threads", json={}, headers=headers) for api in (one, other) * 3))
        assert len({answer.text for answer in at_a_time}) == 1 and at_a_time[0].status_code == 200
        path = f"/threads/{at_a_time[0].json()['thread_id']}/runs"
        first = await one.post(path, json=run, headers={"Idempotency-Key": f"run {path}"})
        again = await other.post(path, json=run, headers={"Idempotency-Key": f"run {path}"})
        assert again.text == first.text and again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Content-Location"] == first.headers["Content-Location"]
        await ended(get_client(url=url, api_key=None), at_a_time[0].json()["thread_id"], first.json()["run_id"])
