"""Feedback links: what a run with `feedback_keys` gets where LangSmith is configured, where it is not, or is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.waiting import eventually
from threadlog.api.settings import ApiSettings, LangSmith

from .api_harness import ApiHarness, api_harness
from .sse import Event, parse, read_all
from .test_waits import waiting

KEYS = ["score", "helpful", "score"]
LINKS = {"score": "https://feedback.example/score", "helpful": "https://feedback.example/helpful"}


class Receiver:
    """LangSmith, as far as its feedback tokens go."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.response: Any = None
        self.url = ""

    async def tokens(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        self.requests.append((dict(request.headers), wanted))
        if self.response is not None:
            return web.json_response(self.response)
        return web.json_response(
            [
                {"id": "x", "url": f"https://feedback.example/{token['feedback_key']}", "expires_at": "2030-01-01"}
                for token in wanted
            ]
        )


@pytest.fixture
async def langsmith() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/api/v1/feedback/tokens", receiver.tokens)
    server = TestServer(app)
    await server.start_server()
    receiver.url = str(server.make_url("/api/v1"))
    yield receiver
    await server.close()


@pytest.fixture
async def api(database: str, langsmith: Receiver) -> AsyncIterator[ApiHarness]:
    at = LangSmith("key", langsmith.url, workspace_id="workspace")
    async with api_harness(database, ApiSettings(heartbeat_seconds=0.2, langsmith=at)) as opened:
        await opened.register("noop")
        yield opened


async def streamed(api: ApiHarness, status: str, **fields: Any) -> list[Event]:
    """The events of a new run that ends with this status."""
    thread_id = await api.thread()
    body = orjson.dumps({"assistant_id": "noop", "feedback_keys": KEYS, **fields})
    async with api.client.post(f"/threads/{thread_id}/runs/stream", data=body) as response:
        run_id = response.headers["Content-Location"].rpartition("/")[2]
        await api.emit(thread_id, run_id, [("metadata", {}), ("values", {"n": 1})])
        more = {"error": {"error": "ValueError", "message": "kaboom"}} if status == "error" else {}
        await api.report(thread_id, run_id, status, frames=2, **more)
        blocks = (await response.read()).decode().split("\n\n")
    return [event for block in blocks if block and (event := parse(block)).name is not None]


async def test_a_stream_ends_with_the_links(api: ApiHarness, langsmith: Receiver) -> None:
    events = await streamed(api, "success")
    assert [event.name for event in events] == ["metadata", "values", "feedback"]
    assert events[-1].data == LINKS
    (headers, wanted), *more = langsmith.requests
    assert not more and (headers["x-api-key"], headers["X-Tenant-Id"]) == ("key", "workspace")
    assert [token["feedback_key"] for token in wanted] == ["score", "helpful"]
    assert all(token["expires_in"] == {"days": 0, "hours": 3, "minutes": 0} for token in wanted)


async def test_a_run_that_failed_has_none(api: ApiHarness, langsmith: Receiver) -> None:
    assert [event.name for event in await streamed(api, "error")] == ["metadata", "values", "error"]
    assert not langsmith.requests


async def test_without_keys_langsmith_is_not_asked(api: ApiHarness, langsmith: Receiver) -> None:
    assert [event.name for event in await streamed(api, "success", feedback_keys=[])] == ["metadata", "values"]
    assert not langsmith.requests


async def test_wait_and_join_have_them_beside_the_values_and_so_has_a_replay(api: ApiHarness) -> None:
    thread_id = await api.thread()
    answer = waiting(api, f"/threads/{thread_id}/runs/wait", feedback_keys=KEYS, stream_resumable=True)
    run_id = await api.in_flight(thread_id)
    await api.emit(thread_id, run_id, [("values", {"n": 1})])
    await api.report(thread_id, run_id, "success", frames=1)
    assert await answer == (200, {"n": 1, "__feedback__": LINKS})
    path = f"/threads/{thread_id}/runs/{run_id}"
    assert (await api.call("GET", f"{path}/join"))["__feedback__"] == LINKS
    assert [event.name for event in await read_all(api, f"{path}/stream", last_event_id="-1")] == ["values", "feedback"]
    assert (await api.call("GET", path))["kwargs"]["feedback_keys"] == KEYS


async def test_a_stateless_run_has_them_although_it_is_deleted_at_its_end(api: ApiHarness) -> None:
    answer = waiting(api, "/runs/wait", feedback_keys=["score"])
    row = await eventually(
        lambda: api.pool.fetchrow("SELECT run_id::text, thread_id::text FROM run_queue"), lambda row: row is not None
    )
    await api.emit(row["thread_id"], row["run_id"], [("values", {"n": 1})])
    await api.report(row["thread_id"], row["run_id"], "success", frames=1)
    assert await answer == (200, {"n": 1, "__feedback__": {"score": LINKS["score"]}})


@pytest.mark.parametrize("response", [{}, [], [{"url": None}, {"url": "u"}], ["a", "b"]], ids=str)
async def test_what_langsmith_returns_otherwise_costs_the_links_only(
    api: ApiHarness, langsmith: Receiver, response: Any
) -> None:
    langsmith.response = response
    assert [event.name for event in await streamed(api, "success")] == ["metadata", "values"]


async def test_a_langsmith_that_is_away_costs_the_links_only(database: str) -> None:
    nowhere = LangSmith("key", "http://127.0.0.1:9")
    async with api_harness(database, ApiSettings(langsmith=nowhere)) as api:
        await api.register("noop")
        assert [event.name for event in await streamed(api, "success")] == ["metadata", "values"]


async def test_without_langsmith_there_are_none(database: str) -> None:
    async with api_harness(database, ApiSettings()) as api:
        await api.register("noop")
        assert [event.name for event in await streamed(api, "success")] == ["metadata", "values"]


async def test_keys_are_checked_at_the_door(api: ApiHarness) -> None:
    thread_id = await api.thread()
    for keys in ("score", [1], [""], ["k" * 1001], ["k"] * 101):
        status, problem = await api.ask(
            "POST", f"/threads/{thread_id}/runs", {"assistant_id": "noop", "feedback_keys": keys}
        )
        assert status == 422 and problem["detail"].startswith("feedback_keys"), keys
