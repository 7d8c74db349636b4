"""Contract statements 126 to 135: joining, replaying, following a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from .frames import Frame, events, frames
from .gate import Gate
from .waiting import ended

CUSTOM = {"assistant_id": "custom", "stream_mode": ["custom", "values"], "stream_resumable": True}


def facts(seen: list[Frame]) -> list[tuple]:
    return [(frame.event, frame.data, frame.id) for frame in seen]


async def replay(
    http: httpx.AsyncClient, thread_id: str, run_id: str, last_event_id: str | None, **query: str
) -> list[Frame]:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    async with http.stream("GET", path, headers=headers, params=query) as stream:
        assert stream.status_code == 200
        return await events(stream)


async def finished_run(client: LangGraphClient, thread_id: str, graph: str = "custom", **input: object) -> str:
    run = await client.runs.create(
        thread_id, graph, input={"items": [], **input}, stream_mode=["custom", "values"], stream_resumable=True
    )
    await ended(client, thread_id, run["run_id"])
    return run["run_id"]


@pytest.mark.contract(126)
async def test_only_resumable_streams_carry_ids(http: httpx.AsyncClient, thread_id: str) -> None:
    for resumable in (False, True):
        body = {**CUSTOM, "input": {"items": [], "n": 50}, "stream_resumable": resumable}
        async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
            seen = await events(stream)
        assert len(seen) == 1 + 50 + 2
        assert all((frame.id is not None) == resumable for frame in seen)
        assert all(frame.fields == ["event", "data", *(["id"] if resumable else [])] for frame in seen)


@pytest.mark.contract(126)
@pytest.mark.star
async def test_ids_are_unique_and_increase(client: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    run_id = await finished_run(client, thread_id, n=200)
    ids = [frame.id for frame in await replay(http, thread_id, run_id, "-1")]

    def place(event_id: str) -> tuple[int, ...]:
        return tuple(int(part) for part in event_id.split("-"))

    assert len(set(ids)) == len(ids) == 203
    assert [place(event_id) for event_id in ids] == sorted(place(event_id) for event_id in ids)


@pytest.mark.contract(127)
@pytest.mark.parametrize("start", ["-1", "-", "0"])
async def test_a_run_is_replayed_from_the_start(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, start: str
) -> None:
    run_id = await finished_run(client, thread_id, n=5)
    seen = await replay(http, thread_id, run_id, start)
    assert [frame.event for frame in seen] == ["metadata", "values", *["custom"] * 5, "values"]
    assert seen[0].data == {"run_id": run_id, "attempt": 1}
    assert [frame.data["number"] for frame in seen if frame.event == "custom"] == list(range(5))


@pytest.mark.contract(127)
async def test_an_id_continues_after_it(client: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    run_id = await finished_run(client, thread_id, n=5)
    everything = await replay(http, thread_id, run_id, "-1")
    ids = [frame.id for frame in everything]
    for position in (0, 3, len(ids) - 1):
        if ids.count(ids[position]) > 1:
            continue
        rest = await replay(http, thread_id, run_id, ids[position])
        assert facts(rest) == facts(everything[position + 1 :])


@pytest.mark.contract(127)
@pytest.mark.star
async def test_an_error_is_replayed_too(client: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    run_id = await finished_run(client, thread_id, "flaky", n=0)
    seen = await replay(http, thread_id, run_id, "-1")
    assert (seen[0].event, seen[-1].event) == ("metadata", "error")
    assert seen[-1].data == {"error": "ValueError", "message": "kaboom"}


@pytest.mark.contract(127)
@pytest.mark.star
async def test_a_cancelled_run_is_replayed_too(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(
        thread_id, "custom", input={**gate.input, "n": 6}, stream_mode="custom", stream_resumable=True
    )
    run_id = run["run_id"]
    await gate.entered(run_id)
    await client.runs.cancel(thread_id, run_id, wait=True)
    for _ in range(2):
        seen = await replay(http, thread_id, run_id, "-1")
        assert [frame.data["number"] for frame in seen if frame.event == "custom"] == [0, 1, 2]
    assert facts(await replay(http, thread_id, run_id, seen[1].id)) == facts(seen[2:])


@pytest.mark.contract(127)
async def test_without_an_id_a_finished_run_shows_nothing(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    run_id = await finished_run(client, thread_id, n=5)
    assert await replay(http, thread_id, run_id, None) == []
    assert await replay(http, thread_id, run_id, "garbage") == []


@pytest.mark.contract(128)
async def test_a_late_joiner_of_a_live_run_misses_nothing_that_follows(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    """What the node has written before may still be on its way to the server that is joined; then it shows too."""
    run = await client.runs.create(thread_id, "custom", input={**gate.input, "n": 6}, stream_mode="custom")
    await gate.entered(run["run_id"])
    async with http.stream("GET", f"/threads/{thread_id}/runs/{run['run_id']}/stream") as stream:
        gate.open()
        seen = await events(stream)
    numbers = [frame.data["number"] for frame in seen if frame.event == "custom"]
    assert numbers[-3:] == [3, 4, 5]
    assert numbers == list(range(6 - len(numbers), 6)), "no gap, nothing twice, nothing out of order"
    assert {frame.event for frame in seen} <= {"metadata", "custom"}


@pytest.mark.contract(128)
async def test_what_a_server_has_shown_before_is_not_shown_to_a_late_joiner(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    body = {"assistant_id": "custom", "input": {**gate.input, "n": 6}, "stream_mode": ["custom"]}
    async with http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as first:
        shown = frames(first)
        early = await until(shown, 4)
        assert [frame.event for frame in early] == ["metadata", "custom", "custom", "custom"]
        path = f"/threads/{thread_id}/runs/{early[0].data['run_id']}/stream"
        async with http.stream("GET", path) as second:
            gate.open()
            late = await events(second)
        rest = [frame async for frame in shown if frame.event]
    assert [frame.data["number"] for frame in late] == [3, 4, 5]
    assert [frame.data for frame in rest] == [frame.data for frame in late]


@pytest.mark.contract(129)
@pytest.mark.star
async def test_all_joiners_see_the_same(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, gate: Gate
) -> None:
    run = await client.runs.create(
        thread_id, "custom", input={**gate.input, "n": 40}, stream_mode=["custom"], stream_resumable=True
    )
    await gate.entered(run["run_id"])

    async def joined() -> list[Frame]:
        return await replay(http, thread_id, run["run_id"], "-1")

    async def open_the_gate() -> None:
        gate.open()

    first, second, third, _ = await asyncio.gather(joined(), joined(), joined(), open_the_gate())
    assert facts(first) == facts(second) == facts(third) == facts(await joined())
    assert [frame.data["number"] for frame in first[1:]] == list(range(40))


@pytest.mark.contract(130)
async def test_a_joiner_filters_by_mode(client: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    run_id = await finished_run(client, thread_id, n=3)
    seen = await replay(http, thread_id, run_id, "-1", stream_mode="custom")
    assert [frame.event for frame in seen if frame.event != "metadata"] == ["custom"] * 3


@pytest.mark.contract(130)
@pytest.mark.star
@pytest.mark.parametrize(
    "query", ["stream_mode=custom,tasks", "stream_mode=custom&stream_mode=tasks", 'stream_mode=["custom","tasks"]']
)
async def test_the_filter_keeps_metadata_and_error(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, query: str
) -> None:
    run_id = await finished_run(client, thread_id, "flaky", n=0)
    path = f"/threads/{thread_id}/runs/{run_id}/stream?{query}"
    async with http.stream("GET", path, headers={"last-event-id": "-1"}) as stream:
        assert [frame.event for frame in await events(stream)] == ["metadata", "error"]
    run_id = await finished_run(client, thread_id, n=2)
    path = f"/threads/{thread_id}/runs/{run_id}/stream?{query}"
    async with http.stream("GET", path, headers={"last-event-id": "-1"}) as stream:
        assert [frame.event for frame in await events(stream)] == ["metadata", "custom", "custom"]


@pytest.mark.contract(130)
@pytest.mark.star
async def test_an_unknown_run_is_404_before_the_stream_begins(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    with pytest.raises(NotFoundError):
        async for _ in client.runs.join_stream(thread_id, str(uuid4())):
            pass
    joining = await http.get(f"/threads/{thread_id}/runs/{uuid4()}/join")
    assert (joining.status_code, joining.json()) == (
        404, {"detail": "Run not found", "code": "run_not_found"}
    )  # fmt: skip


@pytest.mark.contract(131)
async def test_the_sdk_replays_a_finished_run(client: LangGraphClient, thread_id: str) -> None:
    run_id = await finished_run(client, thread_id, n=3)
    for _ in range(2):
        parts = [part async for part in client.runs.join_stream(thread_id, run_id, last_event_id="-1")]
        assert [part.event for part in parts] == ["metadata", "values", "custom", "custom", "custom", "values"]


async def until(stream: AsyncIterator[Frame], count: int) -> list[Frame]:
    """The next frames that are no comments."""
    seen: list[Frame] = []
    async for frame in stream:
        if frame.event:
            seen.append(frame)
        if len(seen) == count:
            break
    return seen


@pytest.mark.contract(133)
async def test_a_thread_stream_follows_run_after_run(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    async with (
        http.stream("GET", f"/threads/{thread_id}/stream") as everything,
        http.stream("GET", f"/threads/{thread_id}/stream?stream_modes=lifecycle") as lifecycle,
    ):
        assert everything.headers["content-type"].startswith("text/event-stream")
        runs = []
        for n in range(2):
            run = await client.runs.create(thread_id, "noop", input={"items": [n]}, stream_mode="updates")
            await client.runs.join(thread_id, run["run_id"])
            runs.append(run["run_id"])
        seen = await until(frames(everything), 8)
        marks = await until(frames(lifecycle), 4)
    assert [frame.event for frame in seen] == ["metadata", "updates", "updates", "metadata"] * 2
    assert all(frame.id for frame in seen)
    assert [frame.data.get("run_id") for frame in seen if frame.event == "metadata"] == [
        runs[0],
        runs[0],
        runs[1],
        runs[1],
    ]
    assert [frame.event for frame in marks] == ["metadata"] * 4
    assert [(frame.data["run_id"], frame.data.get("status")) for frame in marks] == [
        (runs[0], None),
        (runs[0], "run_done"),
        (runs[1], None),
        (runs[1], "run_done"),
    ]


@pytest.mark.contract(134)
@pytest.mark.star
@pytest.mark.parametrize("query", ["stream_mode=lifecycle", "stream_modes=lifecycle", 'stream_modes=["lifecycle"]'])
async def test_thread_stream_modes_have_two_names(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, query: str
) -> None:
    async with http.stream("GET", f"/threads/{thread_id}/stream?{query}") as stream:
        await client.runs.wait(thread_id, "noop", input={"items": []})
        seen = await until(frames(stream), 2)
    assert [frame.data.get("status") for frame in seen] == [None, "run_done"]


@pytest.mark.contract(134)
async def test_an_unknown_thread_stream_mode_is_422(http: httpx.AsyncClient, thread_id: str) -> None:
    assert (await http.get(f"/threads/{thread_id}/stream?stream_modes=everything")).status_code == 422


@pytest.mark.contract(133)
async def test_a_thread_stream_resumes_after_an_id(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str
) -> None:
    run_id = await finished_run(client, thread_id, n=2)
    path = f"/threads/{thread_id}/stream"
    async with http.stream("GET", path, headers={"last-event-id": "-"}) as stream:
        seen = await until(frames(stream), 6)
    assert [frame.event for frame in seen] == ["metadata", "values", "custom", "custom", "values", "metadata"]
    assert seen[-1].data == {"status": "run_done", "run_id": run_id}
