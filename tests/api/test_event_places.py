"""Where the ends of runs are among the events of a thread: in one place, for who is there and for who comes later."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import orjson

from threadlog.api.context import Api
from threadlog.api.events.subscription import EventSubscription
from threadlog.api.settings import ApiSettings
from threadlog.api.streaming.subscriptions import RunDone
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.records import END, Frames

from .api_harness import ApiHarness
from .sse import events


async def followed(api: ApiHarness, thread_id: str, ends: int, opened: asyncio.Event | None = None) -> list[Any]:
    """The events of the thread up to the end of so many runs: sequence number, run, what it is."""
    seen: list[Any] = []
    wanted = orjson.dumps({"channels": ["values", "lifecycle"]})
    async with asyncio.timeout(30), api.client.post(f"/threads/{thread_id}/stream/events", data=wanted) as answer:
        if opened is not None:
            opened.set()
        async for event in events(answer):
            data = event.data["params"]["data"]
            seen.append((event.data["seq"], event.data["event_id"], data.get("event", data)))
            if sum(what in ("completed", "interrupted") for _, _, what in seen) == ends:
                break
    return seen


async def begun(api: ApiHarness, thread_id: str, **params: Any) -> str:
    command = {"id": 1, "method": "run.start", "params": {"assistant_id": "noop", "input": {}, **params}}
    return (await api.call("POST", f"/threads/{thread_id}/commands", command))["result"]["run_id"]


async def test_a_waiting_run_that_is_cancelled_after_the_last_frame_of_the_run_before_has_ended_first(
    api: ApiHarness,
) -> None:
    thread_id = await api.thread()
    opened = asyncio.Event()
    live = asyncio.create_task(followed(api, thread_id, 2, opened))
    await opened.wait()
    first, waiting = await begun(api, thread_id), await begun(api, thread_id)
    await api.emit(thread_id, first, [("values", {"n": 1}), ("values", {"n": 2})])
    await api.call("POST", f"/threads/{thread_id}/runs/{waiting}/cancel")
    await api.report(thread_id, first, "success", frames=2)
    seen = await live
    assert [what for _, _, what in seen][-2:] == ["interrupted", "completed"], seen
    assert await followed(api, thread_id, 2) == seen


async def test_one_that_is_cancelled_after_the_end_of_the_run_before_has_ended_last(api: ApiHarness) -> None:
    thread_id = await api.thread()
    opened = asyncio.Event()
    live = asyncio.create_task(followed(api, thread_id, 2, opened))
    await opened.wait()
    first, waiting = await begun(api, thread_id), await begun(api, thread_id, after_seconds=1000)
    await api.emit(thread_id, first, [("values", {"n": 1})])
    await api.report(thread_id, first, "success", frames=1)
    await api.call("POST", f"/threads/{thread_id}/runs/{waiting}/cancel")
    seen = await live
    assert [what for _, _, what in seen][-2:] == ["completed", "interrupted"], seen
    assert await followed(api, thread_id, 2) == seen


class Hub:
    """As far as a subscription needs one."""

    def stream_position(self, partition: int) -> int:
        return 0

    def progress(self, run_id: str) -> None:
        return None


def ended(subscription: EventSubscription) -> list[str]:
    return [item.run_id for item in subscription._queue if isinstance(item, RunDone)]


async def test_who_is_there_waits_for_the_mark_of_an_end_that_came_first() -> None:
    api = SimpleNamespace(hub=Hub(), log=MemoryLog(1), settings=ApiSettings())
    live = EventSubscription(cast(Api, api), "t")
    for run_id in ("first", "waiting"):
        live.on_event(0, {"type": "run.created", "run_id": run_id, "graph_id": "g"})
    live.on_frames(1, 1, Frames("first", "t", 1, 0, [(b"values", b"1")]))
    live.on_event(1, {"type": "run.interrupted", "run_id": "waiting"})
    live.on_event(2, {"type": "run.succeeded", "run_id": "first", "attempt": 1, "frames": 1})
    assert ended(live) == []
    live.on_frames(2, 1, Frames("waiting", "t", 0, 0, [(END, b'"first"')]))
    assert ended(live) == ["waiting", "first"]
