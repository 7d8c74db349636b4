"""The command line that reads the log, beside a server in each mode, and the same through the API."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.contract.command_line import objects, printed
from tests.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.fixture
def own(server: Server) -> Server:
    if not isinstance(server, Server):
        pytest.skip("only our own server has a log to look into")
    return server


async def test_a_run_is_explained_from_the_log(
    own: Server, client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": ["a"]})
    (run,) = await client.runs.list(thread_id)
    run_id = run["run_id"]

    listed = await objects(own, "events", "--run", run_id)
    assert {"run.created", "run.succeeded"} <= {line["event"]["type"] for line in listed}
    assert {line["key"] for line in listed} == {thread_id}
    ends = await objects(own, "events", "--thread", thread_id, "--type", "run.succeeded", "--since", "1h")
    assert [line["event"]["run_id"] for line in ends] == [run_id]
    assert "the log has no such event" in await printed(
        own, "events", "--thread", thread_id, "--until", "2020-01-01", code=1
    )
    over_http = (await http.get(f"/threads/{thread_id}/events", params={"run_id": run_id})).json()
    assert [(item["offset"], item["event"]) for item in over_http] == [
        (line["offset"], line["event"]) for line in listed
    ]

    (story,) = await objects(own, "explain", run_id)
    assert (story["status"], story["thread_id"]) == ("success", thread_id)
    assert {chapter["offset"] for chapter in story["chapters"]} <= {line["offset"] for line in listed}
    text = await printed(own, "explain", run_id)
    assert f"run      {run_id}  success" in text and "asks for graph noop" in text
    path = f"/threads/{thread_id}/runs/{run_id}/explain"
    assert (await http.get(path)).json() == story
    assert (await http.get(path, headers={"Accept": "text/plain"})).text == text

    await client.runs.wait(None, "noop", input={"items": ["a"]})
    made = await objects(own, "events", "--type", "run.created", "--since", "1h")
    stateless = [line["event"]["run_id"] for line in made if line["event"].get("temporary")]
    (gone,) = await objects(own, "explain", stateless[-1])
    assert gone["attempts"] and gone["chapters"][-1]["type"] == "thread.deleted"


async def test_who_sees_an_event_finds_what_it_changed(
    own: Server, client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    """Also where the log is elsewhere, and has an event before Postgres does."""
    path, accept = f"/threads/{thread_id}/events", {"Accept": "text/event-stream"}
    async with http.stream("GET", path, params={"type": "run.succeeded"}, headers=accept, timeout=60) as stream:
        lines = stream.aiter_lines()
        for _ in range(20):
            run = await client.runs.create(thread_id, "noop", input={"items": ["a"]})
            async with asyncio.timeout(30):
                line = await anext(line async for line in lines if line.startswith("data: "))
            ended = json.loads(line.removeprefix("data: "))
            assert ended["event"]["run_id"] == run["run_id"]
            assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "success"


async def test_a_thread_is_exported(own: Server, client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": ["a"]})
    lines = [json.loads(line) for line in (await printed(own, "export", "--thread", thread_id)).splitlines()]
    header, *lines, end = lines
    assert header["export"]["thread_id"] == thread_id and end == {"end": {"records": len(lines)}}
    assert {line["key"] for line in lines} == {thread_id}
    assert [line["events"][0]["type"] for line in lines][:2] == ["thread.created", "run.created"]


async def test_a_thread_is_forked_as_it_was(own: Server, client: LangGraphClient, thread_id: str) -> None:
    await client.threads.update(thread_id, metadata={"name": "first"})
    await client.runs.wait(thread_id, "noop", input={"items": ["a"]})
    then = await client.threads.get_state(thread_id)
    at = (await objects(own, "events", "--thread", thread_id))[-1]
    await client.threads.update_state(thread_id, {"items": ["b"]}, as_node="a")
    await client.threads.delete(thread_id)

    forked = (await printed(own, "fork", thread_id, "--at", f"{at['partition']}@{at['offset']}")).strip()
    state, thread = await client.threads.get_state(forked), await client.threads.get(forked)
    assert state["values"] == then["values"]
    assert state["checkpoint"]["checkpoint_id"] == then["checkpoint"]["checkpoint_id"]
    assert thread["metadata"]["name"] == "first"
    assert "there was no thread" in await printed(own, "fork", thread_id, "--at", "0", code=1)
    other = (at["partition"] + 1) % 16
    assert "events are in partition" in await printed(own, "fork", thread_id, "--at", f"{other}@1", code=78)
    assert "is not a position" in await printed(own, "fork", thread_id, "--at", "then", code=2)


async def test_lag_shows_every_partition_with_its_owner(own: Server) -> None:
    lags = await objects(own, "lag")
    assert [lag["partition"] for lag in lags] == list(range(len(lags))) and all(lag["owner"] for lag in lags)
    assert (await printed(own, "lag")).splitlines()[0].split()[:3] == ["partition", "commands", "decided"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("explain", "00000000-0000-4000-8000-00000000ffff"), 1, "the log knows nothing of run"),
        (("explain", "that one"), 2, "'that one' is not a UUID"),
        (("events", "--since", "yesterday"), 2, "neither a time"),
    ],
)
async def test_what_can_not_be_shown_is_said_in_a_sentence(
    own: Server, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    assert sentence in await printed(own, *arguments, code=code)


async def test_read_models_are_rebuilt_beside_a_server(own: Server) -> None:
    assert "rows written" not in await printed(own, "rebuild", "--table", "assistants", "--table", "threads", "--swap")
    assert "is not one of aggregates" in await printed(own, "rebuild", "--table", "pg_class", code=2)


async def test_the_snippet_of_the_page_runs(http: httpx.AsyncClient, client: LangGraphClient, thread_id: str) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert await names["failures_of"](http, thread_id) == []
