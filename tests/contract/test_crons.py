"""Crons through the public client: created, fired, changed and deleted (contract 6, statements 146-150)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.installed import needs
from tests.servers import Server
from tests.waiting import eventually

from .refusals import refused

pytestmark = needs("langgraph-sdk", "0.3")

EVERY_SECOND = "* * * * * *"
NEVER_MIND = "0 0 1 1 *"


async def cron_of(client: LangGraphClient, cron_id: str) -> dict[str, Any]:
    return (await client.http.get(f"/runs/crons/{cron_id}")) or {}


@pytest.mark.contract(146)
async def test_a_cron_is_returned_with_its_next_time_in_utc(client: LangGraphClient) -> None:
    cron: Any = await client.crons.create(
        "noop", schedule="30 9 * * MON-FRI", timezone="America/New_York", input={"items": []}, metadata={"a": 1}
    )
    next_run = datetime.fromisoformat(cron["next_run_date"])
    assert next_run.utcoffset() == timedelta(0) and datetime.now(UTC) < next_run < datetime.now(UTC) + timedelta(days=4)
    assert (next_run.minute, next_run.hour in (13, 14)) == (30, True)
    assert cron["thread_id"] is None and cron["on_run_completed"] == "delete" and cron["enabled"] is True
    assert cron["payload"]["input"] == {"items": []} and cron["payload"]["assistant_id"] == cron["assistant_id"]
    assert cron["payload"]["config"]["configurable"]["cron_id"] == cron["cron_id"]
    assert await cron_of(client, cron["cron_id"]) == cron
    await client.crons.delete(cron["cron_id"])
    with refused(NotFoundError, "not found"):
        await client.crons.delete(cron["cron_id"])


@pytest.mark.contract(146)
@pytest.mark.parametrize(
    "wrong",
    [{"schedule": "61 * * * *"}, {"schedule": "hourly"}, {"timezone": "Mars/Olympus"}, {"end_time": "soon"},
     {"on_run_completed": "burn"}, {"assistant_id": None}, {"schedule": None}],
    ids=str,
)  # fmt: skip
async def test_what_can_not_be_a_cron_is_422(http: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    answer = await http.post("/runs/crons", json={"assistant_id": "noop", "schedule": NEVER_MIND} | wrong)
    assert answer.status_code == 422
    assert next(iter(wrong)) in answer.json()["detail"]


async def test_what_a_cron_is_for_has_to_exist(http: httpx.AsyncClient) -> None:
    cron = {"assistant_id": "noop", "schedule": NEVER_MIND}
    assert (await http.post("/runs/crons", json=cron | {"assistant_id": str(uuid4())})).status_code == 404
    assert (await http.post("/runs/crons", json=cron | {"assistant_id": "nope"})).status_code == 404
    assert (await http.post(f"/threads/{uuid4()}/runs/crons", json=cron)).status_code == 404
    assert (await http.get(f"/runs/crons/{uuid4()}")).status_code == 404
    assert (await http.patch(f"/runs/crons/{uuid4()}", json={})).status_code == 404
    assert (await http.get("/runs/crons/7")).json()["detail"] == "Invalid cron ID: must be a UUID"
    assert (await http.post("/runs/crons/search", json={"assistant_id": "noop"})).status_code == 422


@pytest.mark.contract(147)
async def test_a_six_field_cron_fires_again_and_again_until_it_is_disabled(
    client: LangGraphClient, thread_id: str
) -> None:
    cron: Any = await client.crons.create_for_thread(
        thread_id, "noop", schedule=EVERY_SECOND, input={"items": ["tick"]}, metadata={"of": "cron"}
    )
    cron_id = cron["cron_id"]
    runs = await eventually(lambda: client.runs.list(thread_id, limit=100), lambda runs: len(runs) >= 3)
    for run in runs:
        assert run["metadata"]["of"] == "cron" and run["metadata"]["graph_id"] == "noop"
        assert run["kwargs"]["config"]["configurable"]["cron_id"] == cron_id
    await client.crons.update(cron_id, enabled=False)
    disabled = await cron_of(client, cron_id)
    assert disabled["enabled"] is False and disabled["next_run_date"] is None
    # Decided before it was disabled, the last run may yet come; after it nothing does.
    last = disabled["last_firing"]["run_id"]
    await eventually(lambda: client.runs.list(thread_id, limit=100), lambda runs: last in [r["run_id"] for r in runs])
    count = len(await client.runs.list(thread_id, limit=100))
    await client.crons.update(cron_id, schedule=NEVER_MIND, enabled=True)
    assert (await cron_of(client, cron_id))["next_run_date"].endswith("-01-01T00:00:00.000000+00:00")
    assert len(await client.runs.list(thread_id, limit=100)) == count
    await client.threads.delete(thread_id)


async def test_each_firing_of_a_cron_without_a_thread_has_one_of_its_own(client: LangGraphClient) -> None:
    mark = {"mark": str(uuid4())}
    cron: Any = await client.crons.create(
        "noop", schedule=EVERY_SECOND, input={"items": ["x"]}, metadata=mark, on_run_completed="keep"
    )
    found = await eventually(
        lambda: client.threads.search(metadata={"graph_id": "noop"}, status="idle", limit=1000),
        lambda threads: cron_threads(threads, mark) if len(cron_threads(threads, mark)) >= 2 else None,
    )
    await client.crons.delete(cron["cron_id"])
    for thread in cron_threads(found, mark):
        (run,) = await client.runs.list(thread["thread_id"])
        assert run["metadata"]["mark"] == mark["mark"] and run["status"] == "success"


def cron_threads(threads: list[Any], mark: dict[str, str]) -> list[Any]:
    return [thread for thread in threads if thread["config"].get("metadata", {}).get("mark") == mark["mark"]]


@pytest.mark.contract(148)
@pytest.mark.star
async def test_a_cron_whose_runs_are_refused_says_so_and_stops_no_other(
    client: LangGraphClient, thread_id: str
) -> None:
    busy = (await client.threads.create())["thread_id"]
    await client.runs.create(busy, "noop", input={"items": []}, after_seconds=600)
    faulty: Any = await client.crons.create_for_thread(busy, "noop", schedule=EVERY_SECOND, multitask_strategy="reject")
    await client.crons.create_for_thread(thread_id, "noop", schedule=EVERY_SECOND, input={"items": []})
    await eventually(lambda: client.runs.list(thread_id), lambda runs: len(runs) >= 2)
    refusal = await eventually(
        lambda: cron_of(client, faulty["cron_id"]), lambda cron: (cron["last_firing"] or {}).get("error")
    )
    assert "already running a task" in refusal["last_firing"]["error"]["message"]
    assert len(await client.runs.list(busy)) == 1
    for thread in (busy, thread_id):
        await client.threads.delete(thread)


@pytest.mark.contract(150)
async def test_a_threads_and_an_assistants_crons_go_with_them(client: LangGraphClient, thread_id: str) -> None:
    assistant = await client.assistants.create("noop")
    of_thread: Any = await client.crons.create_for_thread(thread_id, "noop", schedule=NEVER_MIND)
    of_assistant: Any = await client.crons.create(assistant["assistant_id"], schedule=NEVER_MIND)
    assert await client.crons.count(thread_id=thread_id) == 1
    await client.threads.delete(thread_id)
    await client.assistants.delete(assistant["assistant_id"])
    assert await client.crons.count(thread_id=thread_id) == 0
    for cron in (of_thread, of_assistant):
        with refused(NotFoundError, "not found"):
            await cron_of(client, cron["cron_id"])


async def test_crons_are_searched_counted_sorted_and_paged(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    mark = {"mark": str(uuid4())}
    made: list[Any] = [
        await client.crons.create("noop", schedule=f"{minute} 0 1 1 *", metadata={**mark, "n": minute}, enabled=enabled)
        for minute, enabled in ((3, True), (1, True), (2, False))
    ]
    assert await client.crons.count(metadata=mark) == 3
    by_time: Any = await client.crons.search(
        metadata=mark, sort_by="next_run_date", sort_order="asc", select=["cron_id", "metadata", "now"]
    )
    assert [cron["metadata"]["n"] for cron in by_time] == [1, 3, 2], "without a next time last"
    assert by_time[0].keys() == {"cron_id", "metadata", "now"}
    first = await http.post("/runs/crons/search", json={"metadata": mark, "limit": 2})
    assert [cron["cron_id"] for cron in first.json()] == [made[2]["cron_id"], made[1]["cron_id"]]
    assert first.headers["X-Pagination-Next"] == "2"
    rest = await http.post("/runs/crons/search", json={"metadata": mark, "limit": 2, "offset": 2})
    assert [cron["cron_id"] for cron in rest.json()] == [made[0]["cron_id"]] and "X-Pagination-Next" not in rest.headers
    enabled = await http.post("/runs/crons/search", json={"metadata": mark, "enabled": False})
    assert [cron["metadata"]["n"] for cron in enabled.json()] == [2]
    assert (await http.post("/runs/crons/search", json={"select": ["nope"]})).status_code == 422
    for cron in made:
        await client.crons.delete(cron["cron_id"])


async def test_a_patch_merges_metadata_replaces_what_it_names_and_null_takes_the_end_away(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    end = datetime.now(UTC) - timedelta(days=1)
    cron: Any = await client.crons.create(
        "noop", schedule=NEVER_MIND, input={"a": 1}, metadata={"x": 1, "y": 1}, context={"user": "ann"}, end_time=end
    )
    assert cron["next_run_date"] is None, "its end has passed"
    path = f"/runs/crons/{cron['cron_id']}"
    changed = (await http.patch(path, json={"metadata": {"y": 2}, "input": {"b": 2}, "end_time": None})).json()
    assert changed["metadata"] == {"x": 1, "y": 2} and changed["payload"]["input"] == {"b": 2}
    assert changed["payload"]["context"] == {"user": "ann"} and changed["end_time"] is None
    assert changed["next_run_date"] is not None and changed["assistant_id"] == cron["assistant_id"]
    zoned = (await http.patch(path, json={"timezone": "Asia/Tokyo"})).json()
    assert zoned["next_run_date"].endswith("-12-31T15:00:00.000000+00:00")
    assert (await http.patch(path, json={"timezone": None})).json()["next_run_date"] == changed["next_run_date"]
    assert (await http.patch(path, json={"schedule": "x"})).status_code == 422
    await client.crons.delete(cron["cron_id"])


async def test_null_takes_away_what_the_runs_are_asked(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    cron: Any = await client.crons.create(
        "noop", schedule=NEVER_MIND, input={"a": 1}, context={"user": "ann"}, webhook="https://8.8.8.8/hook",
        interrupt_before=["noop"],
    )  # fmt: skip
    path = f"/runs/crons/{cron['cron_id']}"
    webhook = {"webhook": None, "interrupt_before": None}
    payload = (await http.patch(path, json=webhook)).json()["payload"]
    assert payload["webhook"] is payload["interrupt_before"] is None
    assert payload["input"] == {"a": 1} and payload["context"] == {"user": "ann"}
    payload = (await http.patch(path, json={"input": None, "context": None})).json()["payload"]
    assert payload["input"] is payload["context"] is None, "`context` is `config.configurable`: both go"
    assert payload["config"] == {"configurable": {"cron_id": cron["cron_id"]}}
    await client.crons.delete(cron["cron_id"])


async def test_changes_at_the_same_time_all_count(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    cron: Any = await client.crons.create("noop", schedule=NEVER_MIND)
    path = f"/runs/crons/{cron['cron_id']}"
    changes: list[dict[str, Any]] = [{"metadata": {str(number): number}} for number in range(40)]
    changes += [{"metadata": {f"enabled {number}": 1}, "enabled": True} for number in range(8)]
    answers = await asyncio.gather(*(http.patch(path, json=change) for change in changes))
    assert {answer.status_code for answer in answers} == {200}
    assert len((await cron_of(client, cron["cron_id"]))["metadata"]) == 48
    await client.crons.delete(cron["cron_id"])


async def test_a_cron_that_is_changed_as_it_fires_goes_on(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    cron: Any = await client.crons.create("noop", schedule=EVERY_SECOND, input={"items": []})
    times = set()
    while len(times) < 6:  # around the moment at which it is due, what the client finds is what is just firing
        changed = await http.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": True})
        assert changed.status_code == 200
        times.add((changed.json()["last_firing"] or {}).get("due_at"))
    await eventually(
        lambda: cron_of(client, cron["cron_id"]), lambda cron: cron["last_firing"]["due_at"] > max(times - {None})
    )
    await client.crons.delete(cron["cron_id"])


@pytest.mark.contract(149)
async def test_killed_at_the_due_moment_an_engine_leaves_each_time_fired_once(
    own_server: Callable[..., Server], graphs: Callable[..., Path]
) -> None:
    running = await asyncio.to_thread(own_server, graphs("noop"), executors=1)
    engine = "engine" if "engine" in running.pids else "server"
    pool = await asyncpg.create_pool(running.database_uri, min_size=0, max_size=1)

    async def twenty_more_have_fired() -> None:
        runs = await pool.fetchval("SELECT count(*) FROM runs")
        await eventually(lambda: pool.fetchval("SELECT count(*) FROM runs"), lambda now: now >= runs + 20)

    async with get_client(url=running.url, api_key=None) as client:
        for _ in range(10):
            await client.crons.create("noop", schedule=EVERY_SECOND, input={"items": []}, on_run_completed="keep")
        for _ in range(2):
            await twenty_more_have_fired()
            pid = running.kill(engine)
            await asyncio.to_thread(running.wait_replaced, engine, pid)
        await twenty_more_have_fired()
        await asyncio.to_thread(running.wait_ok)
        for cron in await client.crons.search(limit=100):
            await client.crons.update(cron["cron_id"], enabled=False)
    await eventually(lambda: pool.fetchval("SELECT count(*) = 0 FROM cron_firings"))
    await pool.close()
    listed = await asyncio.to_thread(running.threadlog, "events", "--json")
    events = [json.loads(line)["event"] for line in listed.stdout.splitlines()]
    fired = [(event["cron_id"], event["due_at"]) for event in events if event["type"] == "cron.fired"]
    runs = [(event["cron_id"], event["cron_due_at"]) for event in events if event["type"] == "run.created"]
    assert len(fired) >= 60 and len(set(fired)) == len(fired), "fired twice"
    assert sorted(runs) == sorted(fired)
