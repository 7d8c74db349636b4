"""The stream of a whole thread, and state updates: their outcome is told by events."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.waiting import eventually
from threadlog.engine.domain.commands import ReportRun

from .api_harness import ApiHarness
from .checkpoints import checkpoint
from .sse import Event, events
from .test_streams import shown, start


async def run_of(api: ApiHarness, thread_id: str, *values: Any, **fields: Any) -> str:
    """A run that emitted `metadata` and these values."""
    run_id = str((await api.run(thread_id, **fields))["run_id"])
    await api.emit(thread_id, run_id, [start(run_id), *(("values", v) for v in values), ("~output", None)])
    await api.report(thread_id, run_id, "success", frames=len(values) + 2)
    return run_id


def done(run_id: str) -> tuple[str, dict[str, Any]]:
    return "metadata", {"status": "run_done", "run_id": run_id}


async def take(stream: Any, count: int) -> list[Event]:
    return [await anext(stream) for _ in range(count)]


async def test_it_follows_run_after_run_with_ids(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with api.client.get(f"/threads/{thread_id}/stream") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        stream = events(answer)
        one = await run_of(api, thread_id, 1, 2)
        found = await take(stream, 4)
        two = await run_of(api, thread_id, 3)
        found += await take(stream, 3)
        assert shown(found) == [
            start(one), ("values", 1), ("values", 2), done(one), start(two), ("values", 3), done(two)
        ]  # fmt: skip
        ids = [event.id for event in found]
        assert None not in ids and len(set(ids)) == 7
        await api.call("DELETE", f"/threads/{thread_id}")
        assert [event async for event in stream] == []


async def test_lifecycle_shows_beginnings_and_ends_only(api: ApiHarness) -> None:
    thread_id = await api.thread()
    for name in ("stream_mode", "stream_modes"):
        async with api.client.get(f"/threads/{thread_id}/stream?{name}=lifecycle") as answer:
            run_id = await run_of(api, thread_id, 1)
            assert shown(await take(events(answer), 2)) == [start(run_id), done(run_id)]


async def test_a_cancelled_run_is_done_too(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with api.client.get(f"/threads/{thread_id}/stream") as answer:
        run_id = (await api.run(thread_id))["run_id"]
        await api.call("POST", f"/threads/{thread_id}/runs/{run_id}/cancel")
        assert shown(await take(events(answer), 1)) == [done(run_id)]


async def test_replay_shows_resumable_runs_and_goes_on_from_an_id(api: ApiHarness) -> None:
    thread_id = await api.thread()
    await run_of(api, thread_id, "not kept")
    one = await run_of(api, thread_id, 1, stream_resumable=True)
    await run_of(api, thread_id, "not kept either")
    two = await run_of(api, thread_id, 2, stream_resumable=True)
    path = f"/threads/{thread_id}/stream"
    expected = [start(one), ("values", 1), done(one), start(two), ("values", 2), done(two)]
    for beginning in ("-", "-1", "0"):
        async with api.client.get(path, headers={"Last-Event-ID": beginning}) as answer:
            stream = events(answer)
            replayed = await take(stream, 6)
            assert shown(replayed) == expected
            three = await run_of(api, thread_id, 3)
            assert shown(await take(stream, 3)) == [start(three), ("values", 3), done(three)]
    for index, event in enumerate(replayed[3:], start=3):
        async with api.client.get(path, headers={"Last-Event-ID": event.id or ""}) as answer:
            stream = events(answer)
            rest = await take(stream, len(replayed) - index - 1)
            assert rest == replayed[index + 1 :]


async def test_a_resumed_stream_does_not_repeat_a_run_that_goes_on(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    await api.emit(thread_id, run_id, [start(run_id), ("values", 1)])
    path = f"/threads/{thread_id}/stream"
    async with api.client.get(path) as answer:
        stream = events(answer)
        await api.emit(thread_id, run_id, [("values", 2), ("values", 3)], seq=2)
        seen = await anext(stream)
        while seen.data != 2:
            seen = await anext(stream)
    await api.emit(thread_id, run_id, [("values", 4)], seq=4)
    async with api.client.get(path, headers={"Last-Event-ID": seen.id or ""}) as answer:
        stream = events(answer)
        assert shown(await take(stream, 2)) == [("values", 3), ("values", 4)]
        await api.report(thread_id, run_id, "success", frames=5)
        assert shown(await take(stream, 1)) == [done(run_id)]


async def finish_update(api: ApiHarness, thread_id: str, **outcome: Any) -> None:
    """What an executor does with the job of a state update."""
    job_id = await api.in_flight(thread_id)
    checkpoint_id, items = checkpoint({"n": 1})
    result = {
        "checkpoint": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id},
        "configurable": {"checkpoint_id": checkpoint_id},
    }
    done = {
        "status": "success", "next": [], "interrupts": {}, "checkpoint_id": checkpoint_id, "frames": 0,
        "result": result, **outcome,
    }  # fmt: skip
    report = ReportRun(
        thread_id=thread_id, run_id=job_id, attempt=1, items=[] if "error" in outcome else items, outcome=done
    )
    events = await api.submit(report)
    assert events[0]["type"] not in ("command.rejected", "report.fenced"), events


async def test_an_update_is_answered_when_it_is_done_and_shown_to_listeners(api: ApiHarness) -> None:
    thread_id = await api.thread(metadata={"graph_id": "noop"})
    path = f"/threads/{thread_id}"
    async with api.client.get(f"{path}/stream?stream_modes=state_update") as answer:
        updating = asyncio.create_task(api.call("POST", f"{path}/state", {"values": {"n": 1}, "as_node": "a"}))
        job = await api.pool.fetchval(
            "SELECT payload::text FROM run_queue WHERE run_id = $1", await api.in_flight(thread_id)
        )
        assert '"as_node":"a"' in job.replace(" ", "")
        await finish_update(api, thread_id)
        made = await updating
        assert made["checkpoint_id"] == made["checkpoint"]["checkpoint_id"]
        assert made["checkpoint"] == {**made["checkpoint"], "thread_id": thread_id, "checkpoint_ns": ""}
        await run_of(api, thread_id, "not shown")
        (event,) = await take(events(answer), 1)
        assert event.name == "state_update" and event.id is not None
        assert event.data["state"]["checkpoint_id"] == made["checkpoint_id"]
        assert event.data["state"]["values"] == {"n": 1}


async def test_an_update_that_the_graph_refuses_is_400(api: ApiHarness) -> None:
    thread_id = await api.thread(metadata={"graph_id": "noop"})
    path = f"/threads/{thread_id}/state"
    updating = asyncio.create_task(api.ask("POST", path, {"values": {"n": 1}, "as_node": "nowhere"}))
    error = {"error": "InvalidUpdateError", "message": "Node nowhere does not exist"}
    await api.in_flight(thread_id)
    await finish_update(api, thread_id, status="error", error=error)
    assert await updating == (
        400, {"detail": "InvalidUpdateError: Node nowhere does not exist", "code": "update_failed"}
    )  # fmt: skip


async def test_an_update_needs_a_graph_a_thread_and_nothing_in_flight(api: ApiHarness) -> None:
    bare = await api.thread()
    for metadata, path, expected in (
        ({}, None, 400),
        ({"graph_id": "unknown"}, None, 400),
        ({}, "/threads/00000000-0000-0000-0000-000000000000/state", 404),
    ):
        bare = await api.thread(metadata=metadata)
        code, answer = await api.ask("POST", path or f"/threads/{bare}/state", {"values": {}})
        assert code == expected and answer["detail"]
    await api.run(bare)
    assert (await api.ask("POST", f"/threads/{bare}/state", {"values": {}}))[0] == 409
    assert (await api.ask("POST", f"/threads/{bare}/state", {"values": 3}))[0] == 422


async def test_supersteps_that_fail_keep_the_thread(api: ApiHarness) -> None:
    steps = [{"updates": [{"values": {"n": 1}, "as_node": "__input__"}]}]
    code, answer = await api.ask("POST", "/threads", {"supersteps": steps})
    assert code == 201 and "was created, but there were problems" in answer["detail"]
    creating = asyncio.create_task(api.ask("POST", "/threads", {"supersteps": steps, "metadata": {"graph_id": "noop"}}))
    thread_id = await eventually(lambda: api.pool.fetchval("SELECT thread_id::text FROM run_queue"))
    await finish_update(api, thread_id)
    code, thread = await creating
    assert (code, thread["thread_id"], thread["values"]) == (200, thread_id, {"n": 1})
