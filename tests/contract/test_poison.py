"""What anyone appends to the log, or a graph says, is its own affair: at a whole server, in both modes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.engine.engine_harness import thread_in
from tests.engine.test_poison import P, poison
from tests.engine.test_unreadable import no_frames, not_event_records
from tests.servers import Server
from tests.waiting import eventually
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import EMBEDDED_PARTITIONS, Settings
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import partition_of

from .frames import events
from .gate import Gate
from .waiting import ended, settled

pytestmark = pytest.mark.star


async def test_what_is_appended_to_the_log_holds_up_no_run_and_no_stream(
    own_server: Callable[..., Server], graphs: Callable[..., Path], gate: Gate
) -> None:
    env = {"THREADLOG_PARTITIONS": str(EMBEDDED_PARTITIONS)}
    server = await asyncio.to_thread(own_server, graphs("noop", "gated"), env=env)
    names = {name.lower(): value for name, value in server._environment().items()}
    settings = Settings.load(
        database_uri=server.database_uri,
        kafka_bootstrap_servers=names.get("kafka_bootstrap_servers"),
        topic_prefix=names.get("threadlog_topic_prefix", "threadlog."),
        partitions=EMBEDDED_PARTITIONS,
    )
    bad = poison()
    async with get_client(url=server.url, api_key=None) as client:
        thread_id = thread_in(P)
        await client.threads.create(thread_id=thread_id)
        modes: list[Any] = ["updates"]
        run = await client.runs.create(thread_id, "gated", input=gate.input, stream_mode=modes, stream_resumable=True)
        await gate.entered(run["run_id"])
        joiner = asyncio.create_task(_names(client.runs.join_stream(thread_id, run["run_id"], stream_mode=modes)))
        async with existing_log(settings) as log:
            records = [Append(Topic.COMMANDS, P, "k", value) for value in bad.values()]
            records += [Append(Topic.STREAM, P, thread_id, value) for value in no_frames().values()]
            assert partition_of(thread_id, log.partitions) == P
            for record in records:
                await log.append([record])
        # The run in flight reports through the same partition, behind all of them; others begin and end.
        gate.open()
        assert (await ended(client, thread_id, run["run_id"]))["status"] == "success"
        assert (await client.threads.get_state(thread_id))["values"]["items"] == ["first", "held", "last"]
        assert (await joiner)[-1] == "updates"
        from_start = client.runs.join_stream(thread_id, run["run_id"], stream_mode=modes, last_event_id="-1")
        assert await _names(from_start) == ["metadata", *["updates"] * 3]
        assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        counted = rf"^\w*frames_unreadable\S* {len(no_frames())}\b"
        await eventually(lambda: http.get("/metrics"), lambda answer: re.search(counted, answer.text, re.M))
    refused = await asyncio.to_thread(server.threadlog, "events")
    assert refused.stdout.count("command.rejected") == len(bad), refused.stdout
    verified = await asyncio.to_thread(server.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr

    # Nor after a restart of what decides, which reads back what others have appended to `events`.
    unreadable = list(not_event_records().values())
    async with existing_log(settings) as log:
        for value in unreadable:
            await log.append([Append(Topic.EVENTS, P, "k", value)])
    name = "server" if server.mode == "embedded" else "engine"
    await asyncio.to_thread(lambda: server.wait_replaced(name, server.kill(name)))
    await asyncio.to_thread(server.wait_ok)
    async with get_client(url=server.url, api_key=None) as client:
        assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        assert re.search(rf"^\w*events_unreadable\S* {len(unreadable)}\b", (await http.get("/metrics")).text, re.M)
    verified = await asyncio.to_thread(server.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.count("not an event record, it counts for no reader") == len(unreadable), verified.stdout


async def _names(parts: AsyncIterator[Any]) -> list[str]:
    return [part.event async for part in parts]


async def test_what_the_read_models_cannot_take_is_refused_by_its_field(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    many = {str(n): n for n in range(20_000)}
    for path, body, field in (
        ("/threads", {"metadata": many}, "metadata"),
        ("/threads", {"metadata": {"a": "x" * (17 << 20)}}, "metadata"),
        (f"/threads/{thread_id}/runs", {"assistant_id": "noop", "input": {"items": []}, "metadata": many}, "metadata"),
        ("/assistants", {"graph_id": "noop", "name": "é" * 1400}, "name"),
    ):
        answer = await http.post(path, json=body)
        assert answer.status_code == 422 and field in answer.json()["detail"], answer.text
        assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, "ValueError", "lone \\ud800 half"),
        (1, "ValueError", "nul \ufffd end"),
        (2, "UnicodeDecodeError", None),
        (3, "Untold", None),
        (7, "KeyError", None),
    ],
)
async def test_a_run_that_raises_odd_text_shows_its_error_and_keeps_its_checkpoints(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, n: int, error: str, message: str | None
) -> None:
    body = {"assistant_id": "strange", "input": {"items": [], "n": n}, "stream_mode": ["values", "tasks", "debug"]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        seen = await events(stream)
    assert seen[-1].event == "error"
    told = seen[-1].data
    assert told["error"] == error and (message is None or told["message"].replace("\x00", "\ufffd") == message)
    [run] = await client.runs.list(thread_id)
    assert run["status"] == "error"
    thread = await settled(client, thread_id)
    assert thread["error"]["error"] == error and (message is None or thread["error"]["message"] == message)
    state = await client.threads.get_state(thread_id)
    assert state["values"]["items"] == ["before"] and len(state["tasks"]) == 1 and state["tasks"][0]["error"]
    assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]


@pytest.mark.parametrize("n", [4, 5, 6])
async def test_odd_text_in_what_a_run_streams_asks_or_returns_ends_no_other(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, n: int
) -> None:
    body: dict[str, Any] = {
        "assistant_id": "strange",
        "input": {"items": [], "n": n},
        "stream_mode": ["values", "updates", "custom", "checkpoints"],
    }
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        seen = await events(stream)
    thread = await settled(client, thread_id)
    if n == 4:
        [custom] = [frame.data for frame in seen if frame.event == "custom"]
        assert custom.keys() == {"lone ? half", "nul"}
        assert thread["status"] == "idle"
    elif n == 5:
        assert thread["status"] == "interrupted" and thread["interrupts"]
    else:
        assert thread["status"] in ("idle", "error")
    state = await client.threads.get_state(thread_id)
    assert state["values"]["items"][0] == "before"
    assert (await client.runs.wait(thread_id, "noop", input={"items": []}))["items"][-2:] == ["a", "b"]


def test_the_poison_is_for_logs_of_as_many_partitions() -> None:
    assert EMBEDDED_PARTITIONS == 16


async def test_nothing_is_left_out_of_the_read_models(server: Server) -> None:
    if not isinstance(server, Server):
        pytest.skip("only our own server's database is at hand")
    connection = await asyncpg.connect(server.database_uri)
    try:
        assert await connection.fetch("SELECT * FROM projection_skips") == []
    finally:
        await connection.close()
