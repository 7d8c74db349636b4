"""GET /threads/{id}/events: what the log has of a thread, in pages and as a stream."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from tests.api.api_harness import ApiHarness
from threadlog.api.threads import event_log
from threadlog.engine.log.history import PartitionHistory
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import EventRecord


async def run_on(api: ApiHarness, thread_id: str) -> str:
    run_id = str((await api.run(thread_id))["run_id"])
    await api.report(thread_id, run_id, "success")
    return run_id


async def test_pages_have_all_events_of_the_thread_and_no_others(api: ApiHarness) -> None:
    thread_id, other = await api.thread(), await api.thread()
    first = await run_on(api, thread_id)
    await run_on(api, other)
    second = await run_on(api, thread_id)
    path = f"/threads/{thread_id}/events"
    whole = await api.call("GET", path)
    types = [item["type"] for item in whole]
    assert types[0] == "thread.created" and types.count("run.created") == types.count("run.succeeded") == 2
    assert {item["event"]["thread_id"] for item in whole} == {thread_id}

    paged: list[Any] = []
    after = ""
    while True:
        async with api.client.get(path, params={"limit": "2", "after": after}) as answer:
            paged += await answer.json()
            after = answer.headers.get("X-Pagination-Next", "")
        if not after:
            break
    assert paged == whole

    of_second = await api.call("GET", f"{path}?run_id={second}")
    assert {item["event"].get("run_id", second) for item in of_second} == {second} != {first}
    ends = await api.call("GET", f"{path}?type=run.succeeded&type=thread.*")
    assert [item["id"] for item in ends] == [
        item["id"] for item in whole if item["type"] == "run.succeeded" or item["type"].startswith("thread.")
    ]
    middle = of_second[0]["at"]
    early = await api.call("GET", f"{path}?until={middle.replace('+', '%2B')}")
    late = await api.call("GET", f"{path}?since={middle.replace('+', '%2B')}")
    assert early + late == whole and early and late


async def test_a_page_looks_through_so_much_and_says_where_to_go_on(
    api: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = await api.thread()
    for _ in range(3):
        await run_on(api, thread_id)
    whole = await api.call("GET", f"/threads/{thread_id}/events")
    monkeypatch.setattr(event_log, "SCAN_BYTES", 1)
    async with api.client.get(f"/threads/{thread_id}/events") as answer:
        items, after = await answer.json(), answer.headers["X-Pagination-Next"]
    assert items + await api.call("GET", f"/threads/{thread_id}/events?after={after}") == whole


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422),
        ("limit=many", 400), ("limit=1001", 422), ("after=x", 422), ("after=1-x", 422), ("since=soon", 422),
        ("until=never", 422), ("run_id=1", 422), ("after=99999999999999999999", 422),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(api: ApiHarness, query: str, status: int) -> None:
    thread_id = await api.thread()
    assert (await api.ask("GET", f"/threads/{thread_id}/events?{query}"))[0] == status


async def test_an_unknown_thread_is_not_found(api: ApiHarness) -> None:
    assert (await api.ask("GET", "/threads/00000000-0000-4000-8000-00000000ffff/events"))[0] == 404
    assert (await api.ask("GET", "/threads/me/events"))[0] == 422


async def read_stream(
    api: ApiHarness, path: str, headers: dict[str, str], until: str, at_first: Any = None
) -> list[Any]:
    seen: list[Any] = []
    async with api.client.get(path, headers={"Accept": "text/event-stream", **headers}) as answer:
        assert answer.content_type == "text/event-stream"
        while not seen or seen[-1]["type"] != until:
            line = await asyncio.wait_for(answer.content.readline(), 30)
            assert line, seen
            if line.startswith(b"data: "):
                seen.append(orjson.loads(line[6:]))
                if at_first is not None:
                    at_first, begun = None, at_first
                    await begun
    return seen


async def test_a_stream_goes_on_with_what_happens_and_where_it_was(api: ApiHarness) -> None:
    thread_id = await api.thread()
    path = f"/threads/{thread_id}/events"
    seen = await read_stream(api, path, {}, "run.succeeded", at_first=run_on(api, thread_id))
    whole = await api.call("GET", path)
    assert seen == whole[: len(seen)] and len(seen) > 3
    resumed = await read_stream(api, path, {"Last-Event-ID": seen[1]["id"]}, "run.succeeded")
    assert resumed == seen[2:]
    for query in ("limit=5", "until=2026-01-01"):
        status, _ = await api.ask("GET", f"{path}?{query}", headers={"Accept": "text/event-stream"})
        assert status == 422


async def test_a_stream_ends_with_its_thread(api: ApiHarness) -> None:
    thread_id = await api.thread()
    async with api.client.get(f"/threads/{thread_id}/events", headers={"Accept": "text/event-stream"}) as answer:
        assert b"thread.created" in await asyncio.wait_for(answer.content.readline(), 30)
        await api.call("DELETE", f"/threads/{thread_id}")
        rest = await asyncio.wait_for(answer.content.read(), 30)
    assert b"event: thread.deleted" in rest


async def test_a_stream_holds_back_what_the_read_models_do_not_have() -> None:
    """A log elsewhere has an event before Postgres does: who sees a run end asks for its state at once."""
    log, at = MemoryLog(1), "2026-01-02T03:04:05+00:00"
    records = [EventRecord(1, -1, "", "", at, start=True)]
    records += [
        EventRecord(1, n, f"c{n}", "t", at, [{"type": type_, "thread_id": "t"}], after=n - 1)
        for n, type_ in enumerate(["thread.created", "thread.updated", "thread.deleted"])
    ]
    await log.append([Append(Topic.EVENTS, 0, "t", record.encode()) for record in records])
    api: Any = SimpleNamespace(scans=asyncio.Semaphore(1))
    wanted = event_log.Filter("t", None, (), None, None)
    follower = event_log._Follower(api, await PartitionHistory.open(log, 0, offset=0), wanted, (-1, 0))

    async def told() -> list[str] | None:
        items = await follower.next(0.01)
        return None if items is None else [item["type"] for item in items]

    assert await told() == []
    follower.projected(1)
    assert await told() == ["thread.created"]
    assert await told() == []
    follower.on_event(3, {"type": "thread.deleted"})
    assert await told() == ["thread.updated", "thread.deleted"]
    assert await told() is None
