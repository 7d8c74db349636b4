"""An application's own routes, middleware and lifespan, below a prefix (contract 9.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client

from tests.servers import Server

CONFIG = Path(__file__).parent / "custom_app" / "langgraph.json"


@pytest.mark.contract(165)
async def test_routes_middleware_and_lifespan_of_the_application_stand_beside_ours(
    own_server: Callable[..., Server],
) -> None:
    server = await asyncio.to_thread(own_server, CONFIG, executors=1)
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        assert (await http.get("/hello")).json() == {"greeting": "hello"}
        ok = await http.get("/ok")
        assert ok.json()["ok"] is True and ok.headers["x-marked"] == "yes"
        blocked = await http.post("/threads", json={}, headers={"x-blocked": "1"})
        assert (blocked.status_code, blocked.json()) == (418, {"detail": "not you"})
        missing = await http.get("/threads/nonsense")
        assert missing.status_code == 422 and missing.headers["x-marked"] == "yes"
        assert {"/hello", "/threads"} <= (await http.get("/openapi.json")).json()["paths"].keys()
        assert (await http.get("/openapi.json")).json()["servers"] == [{"url": "/agents"}]
        assert (await http.get("/where")).json() == {"hello": "/agents/hello"}
        assert (await http.get("/assistant-names")).json() == ["show"]
        moved = await http.post("/threads/?a=b", json={})
        assert moved.status_code == 307 and moved.headers["x-marked"] == "yes"
        assert moved.next_request is not None and str(moved.next_request.url) == f"{server.url}/threads?a=b"
    async with get_client(url=server.url, headers={"X-Tenant": "t", "X-Secret": "s"}) as client:
        thread = await client.threads.create()
        seen = await client.runs.wait(thread["thread_id"], "show", input={})
        assert seen["seen"]["x-tenant"] == "t" and "x-secret" not in seen["seen"]
        run = None

        def created(metadata) -> None:
            nonlocal run
            run = metadata["run_id"]

        parts = [
            part.event
            async for part in client.runs.stream(thread["thread_id"], "show", input={}, on_run_created=created)
        ]
        assert parts == ["metadata", "values"]
        assert run is not None
        assert (await client.runs.join(thread["thread_id"], run))["seen"]["x-tenant"] == "t"
    async with httpx.AsyncClient(base_url=server.url.removesuffix("/agents"), timeout=30) as http:
        assert (await http.get("/ok")).json()["ok"] is True
        assert (await http.get("/threads/search")).status_code == (await http.get("/hello")).status_code == 404
