"""Contract statements 106 to 114: cancelling runs."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.installed import bulk_client

from .frames import frames
from .gate import Gate
from .waiting import ended, settled


@pytest.mark.contract(106)
async def test_a_pending_run_is_cancelled_before_it_starts(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input, after_seconds=600)
    await client.runs.cancel(thread_id, run["run_id"])
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    assert (await client.threads.get(thread_id))["status"] == "idle"

    running = await client.runs.create(thread_id, "gated", input=gate.input)
    queued = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(running["run_id"])
    await client.runs.cancel(thread_id, queued["run_id"])
    assert (await client.runs.get(thread_id, queued["run_id"]))["status"] == "interrupted"
    gate.open()
    assert (await ended(client, thread_id, running["run_id"]))["status"] == "success"
    await client.runs.wait(thread_id, "noop", input={"items": []})
    assert gate.journal(queued["run_id"]) == gate.journal(run["run_id"]) == []


@pytest.mark.contract(107)
async def test_a_running_run_is_cancelled_where_it_stands(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    answer = await http.post(f"/threads/{thread_id}/runs/{run['run_id']}/cancel")
    assert (answer.status_code, answer.content) == (202, b"")
    assert (await ended(client, thread_id, run["run_id"]))["status"] == "interrupted"
    thread = await settled(client, thread_id)
    assert thread["status"] == "interrupted"
    state = await client.threads.get_state(thread_id)
    assert (state["next"], state["values"]["items"]) == (["hold"], ["first"])
    await gate.reached("exit", run["run_id"])
    assert gate.journal() == [f"{word} {run['run_id']}" for word in ("enter", "cancelled", "exit")]

    gate.open()
    assert (await client.runs.wait(thread_id, "gated", input=None))["items"] == ["first", "held", "last"]


@pytest.mark.contract(107)
@pytest.mark.star
async def test_a_cancelled_node_may_take_its_time_to_clean_up(
    client: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    gate.linger()
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    await client.runs.cancel(thread_id, run["run_id"])
    next_run = await client.runs.create(thread_id, "noop", input={"items": []})
    assert (await ended(client, thread_id, run["run_id"]))["status"] == "interrupted"
    values = await client.runs.join(thread_id, next_run["run_id"])
    assert gate.journal(run["run_id"]) == ["enter", "cancelled", "exit"]
    assert values["items"] == ["first", "a", "b"]


@pytest.mark.contract(108)
async def test_cancel_can_wait_until_the_run_has_stopped(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    location = f"/threads/{thread_id}/runs/{run['run_id']}"
    answer = await http.post(f"{location}/cancel?wait=1&action=interrupt")
    assert gate.journal(run["run_id"]) == ["enter", "cancelled", "exit"]
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["location"] == f"{location}/join"
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"


@pytest.mark.contract(108)
@pytest.mark.star
@pytest.mark.parametrize("superseded", [False, True])
async def test_a_node_in_a_thread_has_ended_before_the_next_run_begins(
    client: LangGraphClient, thread_id: str, gate: Gate, superseded: bool
) -> None:
    run = await client.runs.create(thread_id, "blocking", input=gate.input)
    await gate.entered(run["run_id"])
    if superseded:
        later = await client.runs.create(thread_id, "blocking", input=gate.input, multitask_strategy="interrupt")
        cancelling = None
    else:
        cancelling = asyncio.create_task(client.runs.cancel(thread_id, run["run_id"], wait=True))
        await ended(client, thread_id, run["run_id"])
        later = await client.runs.create(thread_id, "blocking", input=gate.input)
    for _ in range(5):  # what the executor is told is not told in vain
        await client.runs.wait(None, "noop", input={"items": []})
    assert gate.journal() == [f"enter {run['run_id']}"]
    assert cancelling is None or not cancelling.done()
    gate.open(run["run_id"])
    await gate.entered(later["run_id"])
    if cancelling is not None:
        await cancelling
    gate.open()
    await client.runs.join(thread_id, later["run_id"])
    words = [f"{word} {one['run_id']}" for one in (run, later) for word in ("enter", "exit")]
    assert gate.journal() == words


@pytest.mark.contract(109)
async def test_cancel_with_rollback_leaves_nothing(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, run["run_id"])
    assert await client.threads.get_history(thread_id) == []
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", None)


@pytest.mark.contract(109)
async def test_cancel_with_rollback_returns_to_the_run_before(
    client: LangGraphClient, thread_id: str, gate: Gate
) -> None:
    before = await client.runs.wait(thread_id, "noop", input={"items": []})
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    assert (await client.threads.get(thread_id))["values"] == before
    assert (await client.threads.get_state(thread_id))["values"] == before
    assert len(await client.threads.get_history(thread_id)) == 4


@pytest.mark.contract(110)
async def test_a_finished_or_unknown_run_cannot_be_cancelled(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "noop", input={"items": []})
    [run] = await client.runs.list(thread_id)
    with pytest.raises(NotFoundError):
        await client.runs.cancel(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.cancel(thread_id, str(uuid4()))
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "success"


@pytest.mark.contract(111)
@pytest.mark.parametrize("action", ["interrupt", pytest.param("rollback", marks=pytest.mark.star)])
async def test_many_runs_are_cancelled_by_id(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate, action: str
) -> None:
    running = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(running["run_id"])
    queued = await client.runs.create(thread_id, "gated", input=gate.input)
    body = {"thread_id": thread_id, "run_ids": [running["run_id"], queued["run_id"], str(uuid4())]}
    assert (await http.post(f"/runs/cancel?action={action}", json=body)).status_code == 204
    await gate.reached("exit", running["run_id"])
    for run in (running, queued):
        if action == "interrupt":
            assert (await ended(client, thread_id, run["run_id"]))["status"] == "interrupted"
        else:
            with pytest.raises(NotFoundError):
                await client.runs.get(thread_id, run["run_id"])
    assert (await settled(client, thread_id))["status"] == ("interrupted" if action == "interrupt" else "idle")
    assert gate.journal(queued["run_id"]) == []
    assert (await http.post("/runs/cancel", json=body)).status_code == 404


@bulk_client
@pytest.mark.contract(111)
@pytest.mark.star
async def test_many_runs_are_cancelled_by_status(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    running = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(running["run_id"])
    queued = await client.runs.create(thread_id, "gated", input=gate.input)
    await client.runs.cancel_many(status="pending")
    assert (await client.runs.get(thread_id, queued["run_id"]))["status"] == "interrupted"
    assert (await client.runs.get(thread_id, running["run_id"]))["status"] == "running"
    await client.runs.cancel_many(status="all")
    assert (await ended(client, thread_id, running["run_id"]))["status"] == "interrupted"
    assert (await settled(client, thread_id))["status"] == "interrupted"


@pytest.mark.contract(111)
@pytest.mark.parametrize("body", [{"status": "all", "thread_id": str(uuid4()), "run_ids": [str(uuid4())]}, {}])
async def test_bulk_cancel_takes_exactly_one_form(http: httpx.AsyncClient, body: dict) -> None:
    assert (await http.post("/runs/cancel", json=body)).status_code == 422


@pytest.mark.contract(112)
async def test_a_cancelled_stream_stops(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    body = {"assistant_id": "ticker", "input": gate.input, "stream_mode": ["custom"]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        run_id = stream.headers["content-location"].rsplit("/", 1)[1]
        seen = []
        async for frame in frames(stream):
            if not frame.event:
                continue
            seen.append(frame)
            if frame.event == "custom" and frame.data["tick"] == 5:
                await client.runs.cancel(thread_id, run_id, wait=True)
    assert "error" not in {frame.event for frame in seen}
    assert [frame.data["tick"] for frame in seen[1:]] == list(range(len(seen) - 1))
    assert len(seen) < 500
    assert (await client.runs.get(thread_id, run_id))["status"] == "interrupted"


@pytest.mark.contract(113)
@pytest.mark.parametrize("on_disconnect", ["cancel", "continue", None])
async def test_the_creator_says_what_a_closed_stream_means(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate, on_disconnect: str | None
) -> None:
    body = {"assistant_id": "gated", "input": gate.input, **({"on_disconnect": on_disconnect} if on_disconnect else {})}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        run_id = stream.headers["content-location"].rsplit("/", 1)[1]
        await gate.entered(run_id)
    if on_disconnect == "cancel":
        await gate.reached("cancelled", run_id)
    else:
        assert (await client.runs.get(thread_id, run_id))["status"] == "running"
        gate.open()
    expected = "interrupted" if on_disconnect == "cancel" else "success"
    assert (await ended(client, thread_id, run_id))["status"] == expected


@pytest.mark.contract(113)
async def test_a_closed_wait_cancels_too(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    body = {"assistant_id": "gated", "input": gate.input, "on_disconnect": "cancel"}
    async with http.stream("POST", f"/threads/{thread_id}/runs/wait", json=body) as waiting:
        run_id = waiting.headers["content-location"].rsplit("/", 1)[1]
        await gate.entered(run_id)
    assert (await ended(client, thread_id, run_id))["status"] == "interrupted"


@pytest.mark.star
@pytest.mark.parametrize("how", ["wait", "stream"])
async def test_who_leaves_with_an_idempotency_key_may_ask_again(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate, how: str
) -> None:
    body = {"assistant_id": "gated", "input": gate.input, "on_disconnect": "cancel"}
    path, headers = f"/threads/{thread_id}/runs/{how}", {"Idempotency-Key": f"{how} {thread_id}"}
    async with http.stream("POST", path, json=body, headers=headers) as leaving:
        run_id = leaving.headers["content-location"].rsplit("/", 1)[1]
        await gate.entered(run_id)
    async with http.stream("POST", path, json=body, headers=headers) as again:
        assert again.headers["content-location"].endswith(run_id)
        gate.open()
        assert "__error__" not in "".join([text async for text in again.aiter_text()])
    assert (await ended(client, thread_id, run_id))["status"] == "success"


@pytest.mark.contract(114)
@pytest.mark.parametrize("tail", ["join", "stream"])
async def test_a_joiner_may_cancel_by_leaving(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate, tail: str
) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    await gate.entered(run["run_id"])
    location = f"/threads/{thread_id}/runs/{run['run_id']}/{tail}"
    async with http.stream("GET", location) as joining:
        assert joining.status_code == 200
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "running"
    async with http.stream("GET", f"{location}?cancel_on_disconnect=true") as joining:
        assert joining.status_code == 200
    assert (await ended(client, thread_id, run["run_id"]))["status"] == "interrupted"


@pytest.mark.contract(114)
async def test_joining_to_the_end_cancels_nothing(client: LangGraphClient, thread_id: str, gate: Gate) -> None:
    run = await client.runs.create(thread_id, "gated", input=gate.input)
    gate.open()
    parts = [part async for part in client.runs.join_stream(thread_id, run["run_id"], cancel_on_disconnect=True)]
    assert "error" not in [part.event for part in parts]
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "success"
