"""Creating, listing, deleting and cancelling runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from .api_harness import ApiHarness
from .test_streams import status

CHECKPOINT = "1f1e5334-edd5-6000-8000-000000000000"


async def test_a_run_is_described_alike_when_created_and_when_read(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with api.client.post(
        f"/threads/{thread_id}/runs", json={"assistant_id": "noop", "input": {"a": 1}}
    ) as answer:
        run = await answer.json()
        assert answer.headers["Content-Location"] == f"/threads/{thread_id}/runs/{run['run_id']}"
        assert "Location" not in answer.headers
    assert run["status"] == "pending" and run["multitask_strategy"] == "enqueue"
    assert await api.call("GET", f"/threads/{thread_id}/runs/{run['run_id']}") == run
    assert await api.call("GET", f"/threads/{thread_id}/runs") == [run]
    kwargs = run["kwargs"]
    assert set(kwargs) == {
        "input", "command", "config", "context", "stream_mode", "interrupt_before", "interrupt_after", "webhook",
        "feedback_keys", "temporary", "subgraphs", "resumable", "checkpoint_during", "durability",
    }  # fmt: skip
    assert (kwargs["input"], kwargs["stream_mode"], kwargs["durability"]) == ({"a": 1}, ["values"], "async")
    configurable = kwargs["config"]["configurable"]
    assert configurable["run_id"] == run["run_id"] and configurable["thread_id"] == thread_id
    assert configurable["graph_id"] == "noop" and configurable["assistant_id"] == run["assistant_id"]
    assert configurable["checkpoint_ns"] == "" and "langgraph_auth_user" in configurable


async def test_metadata_is_merged_from_assistant_thread_config_and_run(api: ApiHarness) -> None:
    made = await api.call(
        "POST", "/assistants", {"graph_id": "noop", "metadata": dict.fromkeys("abcd", "assistant"), "name": "x"}
    )
    thread_id = await api.thread(metadata=dict.fromkeys("bcd", "thread"))
    run = await api.run(
        thread_id,
        assistant_id=made["assistant_id"],
        config={"metadata": dict.fromkeys("cd", "config")},
        metadata={"d": "run", "thread_id": "forged", "run_id": "forged"},
    )
    assert run["metadata"] == {
        "a": "assistant", "b": "thread", "c": "config", "d": "run", "created_by": "system", "graph_id": "noop",
        "assistant_id": made["assistant_id"],
    }  # fmt: skip
    thread = await api.call("GET", f"/threads/{thread_id}")
    assert thread["metadata"] == {
        **dict.fromkeys("bcd", "thread"),
        "graph_id": "noop",
        "assistant_id": made["assistant_id"],
    }
    assert (await api.run(thread_id, metadata={"created_by": "me"}))["metadata"]["created_by"] == "me"


async def test_config_is_merged_by_key_and_reserved_keys_are_the_servers(api: ApiHarness) -> None:
    made = await api.call(
        "POST", "/assistants",
        {
            "graph_id": "noop",
            "config": {"tags": ["a"], "recursion_limit": 7, "configurable": {"model": "assistant", "x": "assistant"}},
        },
    )  # fmt: skip
    thread_id = await api.thread()
    run = await api.run(
        thread_id,
        assistant_id=made["assistant_id"],
        config={"tags": ["r"], "configurable": {"model": "run", "run_id": "forged", "user_id": "forged"}},
    )
    config = run["kwargs"]["config"]
    assert (config["tags"], config["recursion_limit"]) == (["r"], 7)
    assert (config["configurable"]["model"], config["configurable"]["x"]) == ("run", "assistant")
    assert config["configurable"]["run_id"] == run["run_id"] and config["configurable"]["user_id"] == ""
    assert run["kwargs"]["context"] == {"model": "run", "x": "assistant"}
    thread = await api.call("GET", f"/threads/{thread_id}")
    assert thread["config"]["configurable"] == {"model": "assistant", "x": "assistant"}
    later = await api.run(thread_id)
    assert later["kwargs"]["config"]["configurable"]["x"] == "assistant"
    assert "tags" not in later["kwargs"]["config"]


@pytest.mark.parametrize(
    "fields",
    [
        {"checkpoint_id": CHECKPOINT},
        {"checkpoint": {"checkpoint_id": CHECKPOINT, "checkpoint_ns": ""}},
        {"config": {"configurable": {"checkpoint_id": CHECKPOINT}}},
    ],
)
async def test_a_checkpoint_to_start_from_is_in_the_config(api: ApiHarness, fields: dict[str, Any]) -> None:
    run = await api.run(await api.thread(), **fields)
    assert run["kwargs"]["config"]["configurable"]["checkpoint_id"] == CHECKPOINT
    assert "checkpoint_id" not in run["kwargs"]["context"]


async def test_durability_and_checkpoint_during_say_the_same(api: ApiHarness) -> None:
    thread_id = await api.thread()
    for fields, expected in (
        ({"durability": "exit"}, ("exit", False)),
        ({"checkpoint_during": False}, ("exit", False)),
        ({"checkpoint_during": False, "durability": "sync"}, ("sync", True)),
        ({}, ("async", True)),
    ):
        kwargs = (await api.run(thread_id, **fields))["kwargs"]
        assert (kwargs["durability"], kwargs["checkpoint_during"]) == expected


async def test_a_missing_thread_is_created_if_asked(api: ApiHarness) -> None:
    thread_id = str(uuid4())
    run = await api.run(thread_id, if_not_exists="create")
    assert run["thread_id"] == thread_id
    assert (await api.call("GET", f"/threads/{thread_id}"))["status"] == "busy"


async def test_a_rejected_run_changes_nothing(api: ApiHarness) -> None:
    thread_id = await api.thread()
    first = await api.run(thread_id)
    code, answer = await api.ask(
        "POST", f"/threads/{thread_id}/runs", {"assistant_id": "noop", "multitask_strategy": "reject"}
    )
    assert code == 409 and "already running" in answer["detail"]
    for path in ("stream", "wait"):
        code, _ = await api.ask(
            "POST", f"/threads/{thread_id}/runs/{path}", {"assistant_id": "noop", "multitask_strategy": "reject"}
        )
        assert code == 409
    assert [run["run_id"] for run in await api.call("GET", f"/threads/{thread_id}/runs")] == [first["run_id"]]
    assert api.hub.subscriber_count == 0


async def test_a_delayed_run_is_due_after_so_many_seconds(api: ApiHarness) -> None:
    thread_id = await api.thread()
    before = datetime.now(UTC)
    run = await api.run(thread_id, after_seconds=3600)
    due = await api.pool.fetchval("SELECT due_at FROM timers WHERE id = $1", f"due:{run['run_id']}")
    assert 3599 < (due - before).total_seconds() < 3700
    assert run["status"] == "pending" and run["kwargs"]["config"]["configurable"]["__after_seconds__"] == 3600
    now = await api.run(thread_id, after_seconds=-5)
    assert await api.in_flight(thread_id) == now["run_id"]
    assert (await api.ask("POST", "/runs", {"assistant_id": "noop", "after_seconds": 1e300}))[0] == 422


async def test_listing_filters_selects_and_pages(api: ApiHarness) -> None:
    thread_id = await api.thread()
    ids = [(await api.run(thread_id))["run_id"] for _ in range(5)]
    await api.report(thread_id, ids[0], "success")
    path = f"/threads/{thread_id}/runs"
    assert [run["run_id"] for run in await api.call("GET", path)] == ids[::-1]
    assert [run["run_id"] for run in await api.call("GET", f"{path}?limit=2&offset=1")] == ids[::-1][1:3]
    assert [run["run_id"] for run in await api.call("GET", f"{path}?status=success")] == ids[:1]
    assert await api.call("GET", f"{path}?limit=0") == await api.call("GET", f"{path}?status=strange") == []
    for query in ("select=run_id&select=status", "select=run_id,status", 'select=["run_id","status"]'):
        assert set((await api.call("GET", f"{path}?{query}"))[0]) == {"run_id", "status"}
    assert (await api.ask("GET", f"{path}?select=mood"))[0] == 422
    other = await api.thread()
    assert (await api.ask("GET", f"/threads/{other}/runs/{ids[0]}"))[0] == 404


async def test_a_run_is_running_once_an_executor_has_claimed_it(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    await api.claim(run_id)
    assert (await api.call("GET", f"/threads/{thread_id}/runs/{run_id}"))["status"] == "running"
    assert len(await api.call("GET", f"/threads/{thread_id}/runs?status=running")) == 1
    queue = (await api.call("GET", "/metrics?format=json"))["queue"]
    assert (queue["n_pending"], queue["n_running"]) == (0, 1)


async def test_a_deleted_run_is_gone(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    path = f"/threads/{thread_id}/runs/{run_id}"
    await api.call("DELETE", path)
    assert (await api.ask("GET", path))[0] == (await api.ask("DELETE", path))[0] == 404


async def test_cancelling(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    path = f"/threads/{thread_id}/runs/{run_id}"
    async with api.client.post(f"{path}/cancel") as answer:
        assert (answer.status, await answer.read()) == (202, b"")
    assert (await api.call("GET", path))["status"] == "interrupted"
    assert (await api.ask("POST", f"{path}/cancel"))[0] == 404
    code, answer_ = await api.ask("POST", f"/threads/{thread_id}/runs/{uuid4()}/cancel")
    assert (code, answer_["detail"]) == (404, "No runs found to cancel.")
    assert (await api.ask("POST", f"{path}/cancel?action=explode"))[0] == 422


async def test_cancelling_with_wait_answers_when_the_executor_has_let_go(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    await api.claim(run_id)
    path = f"/threads/{thread_id}/runs/{run_id}"

    async def cancel() -> None:
        async with api.client.post(f"{path}/cancel?wait=1") as answer:
            assert (answer.status, await answer.json()) == (200, {})
            assert answer.headers["Location"] == f"{path}/join"

    cancelling = asyncio.create_task(cancel())
    await status(api, thread_id, run_id, "interrupted")
    done, _ = await asyncio.wait([cancelling], timeout=0.1)
    assert not done
    await api.report(thread_id, run_id, "interrupted")
    await cancelling


async def test_bulk_cancel(api: ApiHarness) -> None:
    one, two = await api.thread(), await api.thread()
    first, queued = [(await api.run(one))["run_id"] for _ in range(2)]
    other = (await api.run(two))["run_id"]
    async with api.client.post(
        "/runs/cancel", json={"thread_id": one, "run_ids": [queued, str(uuid4()), queued]}
    ) as answer:
        assert answer.status == 204
    assert (await api.call("GET", f"/threads/{one}/runs/{queued}"))["status"] == "interrupted"
    assert (await api.call("GET", f"/threads/{one}/runs/{first}"))["status"] == "pending"
    await api.claim(first)
    await api.call("POST", "/runs/cancel", {"status": "pending"})
    assert (await api.call("GET", f"/threads/{one}/runs/{first}"))["status"] == "running"
    assert (await api.call("GET", f"/threads/{two}/runs/{other}"))["status"] == "interrupted"
    await api.call("POST", "/runs/cancel?action=rollback", {"status": "all"})
    assert (await api.ask("GET", f"/threads/{one}/runs/{first}"))[0] == 404
    code, nothing = await api.ask("POST", "/runs/cancel", {"status": "all"})
    assert (code, nothing["detail"]) == (404, "No runs found to cancel.")
