"""Streams of one run: framing, order, ends, joining, replay. The frames are appended by the tests themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientResponse

from tests.waiting import eventually
from threadlog.api.streaming.cursor import EventId
from threadlog.engine.domain.commands import ExpireLease

from .api_harness import ApiHarness
from .sse import Event, events, read_all

ERROR = {"error": "ValueError", "message": "kaboom"}


@asynccontextmanager
async def created(api: ApiHarness, thread_id: str, **fields: Any) -> AsyncIterator[tuple[ClientResponse, str]]:
    """An open stream of a new run."""
    body = {"assistant_id": "noop", **fields}
    async with api.client.post(f"/threads/{thread_id}/runs/stream", json=body) as answer:
        assert answer.status == 200, await answer.text()
        yield answer, answer.headers["Content-Location"].rpartition("/")[2]


def start(run_id: str, attempt: int = 1) -> tuple[str, dict[str, Any]]:
    return "metadata", {"run_id": run_id, "attempt": attempt}


def shown(found: list[Event]) -> list[tuple[str | None, Any]]:
    return [(event.name, event.data) for event in found]


async def test_a_stream_is_framed_as_the_contract_says(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id) as (answer, run_id):
        path = f"/threads/{thread_id}/runs/{run_id}"
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.headers["Location"] == f"{path}/stream"
        assert answer.headers["Content-Location"] == path
        assert answer.headers["x-request-id"]
        await api.emit(thread_id, run_id, [start(run_id), ("values", {"n": 1}), ("updates|child:1", {"a": "b\nc"})])
        await api.emit(thread_id, run_id, [("~output", {"n": 1})], seq=3)
        await api.report(thread_id, run_id, "success", frames=4)
        found = [event async for event in events(answer)]
    assert shown(found) == [start(run_id), ("values", {"n": 1}), ("updates|child:1", {"a": "b\nc"})]
    assert {event.fields for event in found} == {("event", "data")}


async def test_resumable_streams_have_ids_that_increase(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id, stream_resumable=True) as (answer, run_id):
        for n in range(3):
            await api.emit(thread_id, run_id, [("custom", n), ("custom", -n)], seq=2 * n)
        await api.report(thread_id, run_id, "success", frames=6)
        found = [event async for event in events(answer)]
    assert {event.fields for event in found} == {("event", "data", "id")}
    ids = [EventId.parse(event.id or "") for event in found]
    keys = [(i.offset, i.attempt, i.number) for i in ids if i is not None]
    assert len(keys) == 6 and keys == sorted(set(keys))


async def test_executors_are_told_whether_the_client_follows_the_run_from_its_start(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id) as (_, run_id):
        streamed = await api.call("GET", f"/threads/{thread_id}/runs/{run_id}")
    created_only = await api.run(thread_id)
    assert [run["kwargs"].get("streamed") for run in (streamed, created_only)] == [True, None]


async def test_the_end_waits_for_frames_that_are_late(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id) as (answer, run_id):
        await api.report(thread_id, run_id, "success", frames=2)
        reading = asyncio.create_task(anext_all(answer))
        await api.emit(thread_id, run_id, [start(run_id)])
        await api.emit(thread_id, run_id, [("values", {})], seq=1)
        assert shown(await reading) == [start(run_id), ("values", {})]


async def anext_all(answer: ClientResponse) -> list[Event]:
    return [event async for event in events(answer)]


async def test_repeated_and_outdated_frames_are_dropped(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id) as (answer, run_id):
        await api.emit(thread_id, run_id, [start(run_id), ("custom", 1)])
        await api.emit(thread_id, run_id, [start(run_id), ("custom", 1), ("custom", 2)])
        await api.submit(ExpireLease(thread_id=thread_id, run_id=run_id, attempt=1, executor="gone"))
        await api.emit(thread_id, run_id, [start(run_id, 2)], attempt=2)
        await api.emit(thread_id, run_id, [("custom", "of a zombie")], seq=3)
        await api.emit(thread_id, run_id, [("custom", 3)], seq=1, attempt=2)
        await api.report(thread_id, run_id, "success", frames=2, attempt=2)
        found = await anext_all(answer)
    assert shown(found) == [start(run_id), ("custom", 1), ("custom", 2), start(run_id, 2), ("custom", 3)]


async def test_silence_is_broken_by_heartbeats(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id) as (answer, run_id):
        stream = events(answer, comments=True)
        assert [(await anext(stream)).data for _ in range(2)] == ["heartbeat", "heartbeat"]
        await api.report(thread_id, run_id, "success")
        assert all(event.name is None for event in [event async for event in stream])


async def test_a_failure_is_one_error_event(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id) as (answer, run_id):
        await api.emit(thread_id, run_id, [start(run_id), ("error", ERROR)])
        await api.report(thread_id, run_id, "error", frames=2, error=ERROR)
        assert shown(await anext_all(answer)) == [start(run_id), ("error", ERROR)]


async def test_a_failure_that_no_executor_told_of_is_an_error_event_too(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id) as (answer, run_id):
        for attempt in (1, 2, 3):
            lost = ExpireLease(thread_id=thread_id, run_id=run_id, attempt=attempt, executor="gone")
            await api.submit(lost)
        found = await anext_all(answer)
    assert [event.name for event in found] == ["metadata", "error"]
    assert found[0].data["run_id"] == run_id
    run = await api.call("GET", f"/threads/{thread_id}/runs/{run_id}")
    assert run["status"] == "error"
    thread = await api.call("GET", f"/threads/{thread_id}")
    assert thread["status"] == "error" and found[1].data["error"] == thread["error"]["error"]


async def test_what_ends_early_is_a_clean_end(api: ApiHarness) -> None:
    for ending in ("cancel", "rollback", "delete", "superseded", "thread"):
        thread_id = await api.thread()
        async with created(api, thread_id) as (answer, run_id):
            await api.emit(thread_id, run_id, [start(run_id), ("values", {})])
            stream = events(answer)
            assert shown([await anext(stream), await anext(stream)]) == [start(run_id), ("values", {})], ending
            path = f"/threads/{thread_id}/runs/{run_id}"
            if ending == "cancel":
                await api.call("POST", f"{path}/cancel")
            elif ending == "rollback":
                await api.call("POST", f"{path}/cancel?action=rollback")
            elif ending == "delete":
                await api.call("DELETE", path)
            elif ending == "superseded":
                await api.run(thread_id, multitask_strategy="interrupt")
            else:
                await api.call("DELETE", f"/threads/{thread_id}")
            await api.emit(thread_id, run_id, [("values", "too late")], seq=2)
            assert [event async for event in stream] == [], ending


async def test_joining_shows_what_follows(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    await api.emit(thread_id, run_id, [start(run_id), ("values", 1)])
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    await until_live(api, run_id, 2)
    async with api.client.get(path, headers={"Last-Event-ID": "-1"}) as one, api.client.get(path) as two:
        assert one.headers["Location"] == path and one.headers["Content-Location"] == path.removesuffix("/stream")
        await api.emit(thread_id, run_id, [("values", 2)], seq=2)
        await api.report(thread_id, run_id, "success", frames=3)
        for answer in (one, two):
            found = await anext_all(answer)
            assert shown(found) == [("values", 2)]
            assert {event.fields for event in found} == {("event", "data")}
    assert await read_all(api, path) == []
    assert await read_all(api, path, last_event_id="-1") == []


async def until_live(api: ApiHarness, run_id: str, frames: int) -> None:
    """The api has seen so many frames of the run."""
    await eventually(lambda: (api.hub.progress(run_id) or (0, 0))[1] >= frames)


async def test_joining_after_the_last_frame_and_before_the_end_ends(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id))["run_id"]
    await api.emit(thread_id, run_id, [start(run_id), ("values", 1)])
    await until_live(api, run_id, 2)
    async with api.client.get(f"/threads/{thread_id}/runs/{run_id}/stream") as answer:
        await api.report(thread_id, run_id, "success", frames=2)
        assert await anext_all(answer) == []


async def test_a_resumable_run_is_replayed_from_anywhere(api: ApiHarness) -> None:
    thread_id, other_id = await api.thread(), await api.thread()
    run_id = (await api.run(thread_id, stream_resumable=True))["run_id"]
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    await api.emit(thread_id, run_id, [start(run_id), ("values", 1), ("custom", 1)])
    await api.emit(other_id, "another", [("values", "of another run")])
    await api.emit(thread_id, run_id, [("values", 2), ("~output", 3)], seq=3)
    async with api.client.get(path, headers={"Last-Event-ID": "-1"}) as running:
        stream = events(running)
        replayed = [await anext(stream) for _ in range(4)]
        await api.emit(thread_id, run_id, [("error", ERROR)], seq=5)
        await api.report(thread_id, run_id, "error", frames=6, error=ERROR)
        replayed += [event async for event in stream]
    assert shown(replayed) == [start(run_id), ("values", 1), ("custom", 1), ("values", 2), ("error", ERROR)]
    for beginning in ("-1", "-", "0"):
        assert await read_all(api, path, last_event_id=beginning) == replayed
    for index, event in enumerate(replayed):
        assert await read_all(api, path, last_event_id=event.id) == replayed[index + 1 :]
    assert await read_all(api, path, last_event_id="garbage") == []
    assert await read_all(api, path) == []
    for query in ("stream_mode=values", 'stream_mode=["values"]', "stream_mode=values,updates"):
        filtered = await read_all(api, f"{path}?{query}", last_event_id="-1")
        assert shown(filtered) == [start(run_id), ("values", 1), ("values", 2), ("error", ERROR)], query


async def test_who_is_cut_off_before_the_first_event_misses_none(api: ApiHarness) -> None:
    """Chaos seed 88201: the server may die before the event is sent, however soon that would be."""
    thread_id = await api.thread()
    async with created(api, thread_id, stream_resumable=True) as (answer, run_id):
        await api.emit(thread_id, run_id, [start(run_id)])
        assert (await answer.content.readuntil(b"\n\n")).startswith(b"id: ")
    thread_id = await api.thread()
    async with created(api, thread_id, stream_resumable=True) as (answer, run_id):
        block = await answer.content.readuntil(b"\n\n")
        answer.close()
    assert block.startswith(b"id: ") and block.count(b"\n") == 2  # no event: nothing but the id
    await api.emit(thread_id, run_id, [start(run_id), ("custom", 1)])
    await api.report(thread_id, run_id, "success", frames=2)
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    assert shown(await read_all(api, path, last_event_id=block[4:-2].decode())) == [start(run_id), ("custom", 1)]


async def test_messages_tuple_selects_messages_and_namespaces_belong_to_their_mode(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = (await api.run(thread_id, stream_resumable=True))["run_id"]
    names = ["messages", "messages|child:1", "messages/partial", "updates", "updates|child:1", "values"]
    await api.emit(thread_id, run_id, [(name, None) for name in names])
    await api.report(thread_id, run_id, "success", frames=len(names))
    path = f"/threads/{thread_id}/runs/{run_id}/stream?stream_mode="
    for modes, expected in (("messages-tuple", names[:3]), ("updates", names[3:5]), ("values", names[5:])):
        assert [e.name for e in await read_all(api, path + modes, last_event_id="-1")] == expected


async def test_closing_the_last_interested_stream_cancels_if_asked(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id, on_disconnect="cancel") as (_, cancelled):
        pass
    await status(api, thread_id, cancelled, "interrupted")
    async with created(api, thread_id, on_disconnect="continue") as (_, kept):
        pass
    path = f"/threads/{thread_id}/runs/{kept}/stream?cancel_on_disconnect=true"
    async with api.client.get(path) as first:
        async with api.client.get(path) as second:
            second.close()
        await gone(api, 1)
        assert (await api.call("GET", f"/threads/{thread_id}/runs/{kept}"))["status"] == "pending"
        first.close()
    await status(api, thread_id, kept, "interrupted")


async def gone(api: ApiHarness, left: int) -> None:
    """Only so many streams of the server are open."""
    await eventually(lambda: api.hub.subscriber_count <= left)


async def status(api: ApiHarness, thread_id: str, run_id: str, wanted: str) -> None:
    await eventually(
        lambda: api.call("GET", f"/threads/{thread_id}/runs/{run_id}"), lambda run: run["status"] == wanted
    )


async def test_a_client_that_leaves_leaves_nothing_behind(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id):
        pass
    async with api.client.get(f"/threads/{thread_id}/stream"):
        pass
    await gone(api, 0)
    assert not [task for task in asyncio.all_tasks() if "pump" in repr(task.get_coro())]


async def test_shutting_down_ends_streams_without_cancelling(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with created(api, thread_id, on_disconnect="cancel") as (answer, run_id):
        await api.emit(thread_id, run_id, [start(run_id)])
        stream = events(answer)
        assert (await anext(stream)).name == "metadata"
        api.hub.shutdown()
        assert [event async for event in stream] == []
    found = await api.pool.fetchval("SELECT status FROM runs WHERE run_id = $1", run_id)
    assert found == "pending"
