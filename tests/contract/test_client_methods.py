"""Every public method of both public Python clients does what its name says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.installed import selecting_client
from tests.waiting import eventually

from .either_client import EitherClient
from .waiting import ended, settled

pytestmark = selecting_client  # the newest has all of them

INPUT = {"items": ["in"]}


@pytest.fixture(params=["async", "sync"])
async def call(request: pytest.FixtureRequest, url: str) -> AsyncIterator[EitherClient]:
    if request.param == "async":
        async with get_client(url=url, api_key=None) as client:
            yield EitherClient(client)
    else:
        with get_sync_client(url=url, api_key=None) as blocking:
            yield EitherClient(blocking)


async def test_assistants(call: EitherClient) -> None:
    mark = str(uuid4())
    made = await call(
        "assistants.create", "family", {"tags": ["t"]}, context={"c": 1}, metadata={"mark": mark}, name="A",
        description="first", assistant_id=str(uuid4()), if_exists="raise",
    )  # fmt: skip
    assistant_id = made["assistant_id"]
    assert (made["name"], made["context"], made["description"], made["version"]) == ("A", {"c": 1}, "first", 1)
    assert await call("assistants.get", assistant_id) == made
    updated = await call("assistants.update", assistant_id, name="B", metadata={"more": 1}, description="second")
    assert (updated["name"], updated["version"], updated["metadata"]) == ("B", 2, {"mark": mark, "more": 1})
    assert [v["version"] for v in await call("assistants.get_versions", assistant_id, limit=5)] == [2, 1]
    assert (await call("assistants.set_latest", assistant_id, 1))["name"] == "A"
    found = await call(
        "assistants.search", metadata={"mark": mark}, graph_id="family", sort_by="name", sort_order="asc", limit=1,
        select=["assistant_id"], response_format="object",
    )  # fmt: skip
    assert found == {"assistants": [{"assistant_id": assistant_id}], "next": None}
    assert await call("assistants.count", metadata={"mark": mark}, name="a") == 1
    graph = await call("assistants.get_graph", assistant_id, xray=True)
    assert "kid:question" in {node["id"] for node in graph["nodes"]}
    assert (await call("assistants.get_schemas", assistant_id))["graph_id"] == "family"
    assert set(await call("assistants.get_subgraphs", assistant_id, recurse=True)) == {"kid"}
    assert set(await call("assistants.get_subgraphs", assistant_id, "kid")) == {"kid"}
    await call("assistants.delete", assistant_id, delete_threads=True)
    with pytest.raises(NotFoundError):
        await call("assistants.get", assistant_id)
    assert call.not_called("assistants") == set()


async def test_threads(call: EitherClient, client: LangGraphClient) -> None:
    mark = str(uuid4())
    supersteps = [
        {"updates": [{"values": INPUT, "as_node": "__input__"}]},
        {"updates": [{"values": {"items": ["A"]}, "as_node": "a"}]},
    ]
    made = await call(
        "threads.create", metadata={"mark": mark}, graph_id="noop", supersteps=supersteps, ttl=60,
        thread_id=str(uuid4()), if_exists="raise",
    )  # fmt: skip
    thread_id = made["thread_id"]
    assert (await call("threads.get", thread_id, include=["ttl"]))["ttl"]["ttl_minutes"] == 60
    updated = await call("threads.update", thread_id, metadata={"more": 1}, ttl={"ttl": 90, "strategy": "keep_latest"})
    assert updated["metadata"]["more"] == 1
    assert await call("threads.update", thread_id, metadata={"more": 2}, return_minimal=True) is None

    state = await call("threads.get_state", thread_id)
    assert (state["values"], state["next"]) == ({"items": ["A"]}, ["b"])
    at = {"checkpoint": state["checkpoint"], "subgraphs": True}
    assert (await call("threads.get_state", thread_id, **at))["values"] == state["values"]
    by_id = await call("threads.get_state", thread_id, checkpoint_id=state["checkpoint"]["checkpoint_id"])
    assert by_id["values"] == state["values"]
    assert await call("threads.get_state", thread_id, select=["next"]) == {"next": ["b"]}

    listening = asyncio.create_task(
        call("threads.join_stream", thread_id, stream_mode=["run_modes", "lifecycle", "state_update"], most=1)
    )

    async def heard() -> list[Any]:
        await call("threads.update_state", thread_id, {"items": ["by hand"]}, as_node="a")
        await asyncio.wait([listening], timeout=0.2)
        return [listening] if listening.done() else []

    await eventually(heard, bool)
    assert [part.event for part in await listening] == ["state_update"]
    history = await call("threads.get_history", thread_id, limit=2, metadata={"source": "update"})
    assert history[0]["next"] == ["b"]
    assert await call("threads.get_history", thread_id, limit=1, before=history[0]["checkpoint"], select=["next"])

    mine: Any = {"metadata": {"mark": mark}}
    [found] = await call(
        "threads.search", **mine, values={}, status="interrupted", sort_by="updated_at", sort_order="asc",
        select=["thread_id"], extract={"first": "values.items[0]"},
    )  # fmt: skip
    assert found == {"thread_id": thread_id, "extracted": {"first": "A"}}
    assert await call("threads.search", ids=[thread_id], select=["status"]) == [{"status": "interrupted"}]
    assert await call("threads.count", **mine, status="interrupted") == 1
    copied = await call("threads.copy", thread_id)
    assert copied["thread_id"] != thread_id
    assert await call("threads.prune", [thread_id], strategy="keep_latest") == {"pruned_count": 1}
    assert len(await client.threads.get_history(thread_id)) == 1
    await call("threads.delete", copied["thread_id"])
    assert await call("threads.count", **mine) == 1
    assert call.not_called("threads") == {"stream"}, "which has tests of its own: test_client_streams"


async def test_runs(call: EitherClient, client: LangGraphClient, thread_id: str) -> None:
    run = await call(
        "runs.create", thread_id, "noop", input=INPUT, stream_mode=["values", "updates"], stream_resumable=True,
        metadata={"m": 1}, config={"tags": ["t"], "recursion_limit": 9}, context={"c": 1}, durability="sync",
        multitask_strategy="enqueue", if_not_exists="reject", on_completion=None, after_seconds=0,
    )  # fmt: skip
    run_id = run["run_id"]
    assert await call("runs.join", thread_id, run_id) == {"items": ["in", "a", "b"]}
    assert (await call("runs.get", thread_id, run_id))["status"] == "success"
    parts = await call("runs.join_stream", thread_id, run_id, last_event_id="-1", stream_mode="updates")
    assert [part.event for part in parts] == ["metadata", "updates", "updates"]
    listed = await call("runs.list", thread_id, limit=5, offset=0, status="success", select=["run_id"])
    assert listed == [{"run_id": run_id}]
    parts = await call("runs.stream", thread_id, "ask", input=INPUT, stream_mode="values", stream_subgraphs=True)
    assert "__interrupt__" in parts[-1].data
    resumed = await call("runs.wait", thread_id, "ask", command={"resume": "yes"})
    assert resumed["items"][-2:] == ["yes", "done"]
    assert await call("runs.wait", None, "noop", input=INPUT) == {"items": ["in", "a", "b"]}
    failed = await call("runs.wait", None, "flaky", input={"n": 0}, raise_error=False)
    assert failed["__error__"]["error"] == "ValueError"
    batch = [{"assistant_id": "noop", "input": INPUT, "on_completion": "keep"}] * 2
    made = await call("runs.create_batch", batch)
    assert len({one["thread_id"] for one in made}) == 2
    later = [await call("runs.create", thread_id, "noop", input=INPUT, after_seconds=600) for _ in range(3)]
    await call("runs.cancel", thread_id, later[0]["run_id"], wait=True, action="rollback")
    with pytest.raises(NotFoundError):
        await call("runs.get", thread_id, later[0]["run_id"])
    await call("runs.cancel_many", thread_id=thread_id, run_ids=[later[1]["run_id"]])
    assert (await ended(client, thread_id, later[1]["run_id"]))["status"] == "interrupted"
    await call("runs.delete", thread_id, later[2]["run_id"])
    assert (await settled(client, thread_id))["status"] == "idle"
    assert call.not_called("runs") == set()


async def test_crons(call: EitherClient, thread_id: str) -> None:
    mark = str(uuid4())
    end = datetime.now(UTC) + timedelta(days=1)
    of_thread = await call(
        "crons.create_for_thread", thread_id, "noop", schedule="0 0 1 1 *", input=INPUT, metadata={"mark": mark},
        end_time=end, timezone="Europe/Berlin", multitask_strategy="reject",
    )  # fmt: skip
    alone = await call(
        "crons.create", "noop", schedule="0 0 1 1 *", metadata={"mark": mark}, on_run_completed="keep", enabled=False
    )
    found = await call("crons.search", metadata={"mark": mark}, sort_by="created_at", sort_order="asc", limit=5)
    assert [cron["cron_id"] for cron in found] == [of_thread["cron_id"], alone["cron_id"]]
    assert await call("crons.search", thread_id=thread_id, enabled=True, select=["cron_id"]) == [
        {"cron_id": of_thread["cron_id"]}
    ]
    changed = await call("crons.update", of_thread["cron_id"], schedule="0 0 2 1 *", end_time=None, enabled=False)
    assert (changed["schedule"], changed["end_time"], changed["enabled"]) == ("0 0 2 1 *", None, False)
    assert await call("crons.count", metadata={"mark": mark}) == 2
    await call("crons.delete", of_thread["cron_id"])
    await call("crons.delete", alone["cron_id"])
    assert await call("crons.count", metadata={"mark": mark}) == 0
    assert call.not_called("crons") == set()


async def test_store(call: EitherClient) -> None:
    space = [str(uuid4()), "notes"]
    await call("store.put_item", space, key="k", value={"text": "hello"}, index=["text"], ttl=60)
    assert (await call("store.get_item", space, key="k", refresh_ttl=False))["value"] == {"text": "hello"}
    found = await call("store.search_items", space[:1], filter={"text": "hello"}, limit=5, offset=0, query="hello")
    assert [item["key"] for item in found["items"]] == ["k"]
    listed = await call("store.list_namespaces", prefix=space[:1], max_depth=2)
    assert listed == {"namespaces": [space]}
    await call("store.delete_item", space, key="k")
    assert await call("store.get_item", space, key="k") is None
    assert call.not_called("store") == set()
