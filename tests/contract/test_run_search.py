"""The runs of all threads, searched and counted over HTTP: threadlog's own (docs/runs.md), in both modes."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
from langgraph_sdk.client import LangGraphClient


async def test_runs_are_found_across_threads_with_what_they_failed_with(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    word = uuid.uuid4().hex
    for graph, given in (("noop", {"items": []}), ("noop", {"items": []}), ("flaky", {"items": [], "n": 0})):
        thread: Any = await client.threads.create()
        await client.runs.wait(
            thread["thread_id"], graph, input=given, metadata={"word": word}, raise_error=False
        )  # fmt: skip
    wanted: dict[str, Any] = {"metadata": {"word": word}}
    first = await http.post("/runs/search", json={**wanted, "limit": 2})
    rest = await http.post("/runs/search", json={**wanted, "limit": 2, "after": first.headers["X-Pagination-Next"]})
    found = first.json() + rest.json()
    assert "X-Pagination-Next" not in rest.headers
    assert [run["graph_id"] for run in found] == ["flaky", "noop", "noop"]
    assert len({run["thread_id"] for run in found}) == 3
    (failed,) = (await http.post("/runs/search", json={**wanted, "status": ["error", "timeout"]})).json()
    assert failed["run_id"] == found[0]["run_id"] and failed["error"]["message"]
    assert (await http.post("/runs/count", json={**wanted, "status": "success"})).json() == 2
    refused = await http.post("/runs/search", json={"after": "x"})
    assert refused.status_code == 422 and refused.json()["code"] == "invalid_request"
