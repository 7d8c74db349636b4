"""Assistants over HTTP: what the contract's client tests don't reach."""

from __future__ import annotations

from uuid import uuid4

from .api_harness import GRAPH_INFO, ApiHarness


async def test_configurable_and_context_mirror_each_other(api: ApiHarness) -> None:
    status, answer = await api.ask(
        "POST", "/assistants", {"graph_id": "noop", "config": {"configurable": {"a": 1}}, "context": {"b": 2}}
    )
    assert status == 400 and "both configurable and context" in answer["detail"]
    made = await api.call("POST", "/assistants", {"graph_id": "noop", "context": {"a": 1}, "config": {"tags": ["t"]}})
    assert made["config"] == {"tags": ["t"], "configurable": {"a": 1}} and made["context"] == {"a": 1}
    patched = await api.call("PATCH", f"/assistants/{made['assistant_id']}", {"config": {"configurable": {"c": 3}}})
    assert patched["context"] == {"c": 3} and patched["config"] == {"configurable": {"c": 3}}
    plain = await api.call("POST", "/assistants", {"graph_id": "noop"})
    assert (plain["config"], plain["context"], plain["name"], plain["version"]) == ({}, {}, "Untitled", 1)


async def test_a_changed_assistant_is_seen_by_the_next_run(api: ApiHarness) -> None:
    made = await api.call("POST", "/assistants", {"graph_id": "noop", "context": {"model": "old"}})
    thread_id = await api.thread()
    run = await api.run(thread_id, assistant_id=made["assistant_id"])
    assert run["kwargs"]["context"] == {"model": "old"}
    await api.call("PATCH", f"/assistants/{made['assistant_id']}", {"context": {"model": "new"}})
    run = await api.run(thread_id, assistant_id=made["assistant_id"])
    assert run["kwargs"]["context"] == {"model": "new"}
    await api.call("DELETE", f"/assistants/{made['assistant_id']}")
    status, _ = await api.ask("POST", "/runs", {"assistant_id": made["assistant_id"]})
    assert status == 404


async def test_a_graph_registered_later_is_known_at_once(api: ApiHarness) -> None:
    status, answer = await api.ask("POST", "/assistants", {"graph_id": "late"})
    assert (status, answer["detail"]) == (404, "Graph 'late' not found. Expected one of: ['noop']")
    assert (await api.ask("POST", "/runs", {"assistant_id": "late"}))[0] == 422
    assistant_id = await api.register("late")
    run = await api.call("POST", "/runs", {"assistant_id": "late"})
    assert run["assistant_id"] == assistant_id


async def test_drawings_schemas_and_subgraphs(api: ApiHarness) -> None:
    drawings = GRAPH_INFO["drawings"]
    for query, key in (("", "0"), ("?xray=false", "0"), ("?xray=1", "1"), ("?xray=7", "true"), ("?xray=true", "true")):
        assert await api.call("GET", f"/assistants/noop/graph{query}") == drawings[key], query
    for bad in ("0", "-1", "text"):
        status, answer = await api.ask("GET", f"/assistants/noop/graph?xray={bad}")
        assert status == 422 and "Invalid xray value" in answer["detail"]
    schemas = await api.call("GET", "/assistants/noop/schemas")
    assert schemas["graph_id"] == "noop" and schemas["config_schema"] is None
    assert schemas["input_schema"] == schemas["state_schema"] == GRAPH_INFO["schemas"]["input"]
    assert set(await api.call("GET", "/assistants/noop/subgraphs")) == {"child"}
    assert set(await api.call("GET", "/assistants/noop/subgraphs?recurse=true")) == {"child", "child|deep"}
    assert set(await api.call("GET", "/assistants/noop/subgraphs/child")) == {"child"}
    assert set(await api.call("GET", "/assistants/noop/subgraphs/child?recurse=1")) == {"child", "child|deep"}
    assert await api.call("GET", "/assistants/noop/subgraphs/other") == {}
    assert (await api.ask("GET", "/assistants/nope/schemas"))[0] == 422
    assert (await api.ask("GET", f"/assistants/{uuid4()}/schemas"))[0] == 404


async def test_search_combines_filters_and_pages_stably(api: ApiHarness) -> None:
    for n in range(5):
        await api.call(
            "POST", "/assistants", {"graph_id": "noop", "name": f"Mine 100% {n}", "metadata": {"deep": {"n": n % 2}}}
        )
    seen = []
    offset: str | None = "0"
    while offset is not None:
        async with api.client.post(
            "/assistants/search", json={"name": "mine 100%", "limit": 2, "offset": int(offset), "sort_by": "graph_id"}
        ) as answer:
            seen += [row["assistant_id"] for row in await answer.json()]
            assert int(answer.headers["x-pagination-total"]) >= len(seen)
            offset = answer.headers.get("x-pagination-next")
    assert len(seen) == len(set(seen)) == 5
    odd = await api.call("POST", "/assistants/search", {"metadata": {"deep": {"n": 1}}, "select": ["name", "version"]})
    assert [set(row) for row in odd] == [{"name", "version"}] * 2
    assert await api.call("POST", "/assistants/count", {"metadata": {"deep": {"n": 1}}}) == 2
    assert await api.call("POST", "/assistants/count", {"name": "_"}) == 0


async def test_versions_and_going_back(api: ApiHarness) -> None:
    made = await api.call("POST", "/assistants", {"graph_id": "noop", "context": {"a": 1}, "metadata": {"m": 1}})
    path = f"/assistants/{made['assistant_id']}"
    await api.call("PATCH", path, {"context": {"a": 2}, "metadata": {"n": 2}, "name": "two"})
    versions = await api.call("POST", f"{path}/versions", {})
    assert [(v["version"], v["context"], v["metadata"]) for v in versions] == [
        (2, {"a": 2}, {"m": 1, "n": 2}),
        (1, {"a": 1}, {"m": 1}),
    ]
    assert "updated_at" not in versions[0]
    back = await api.call("POST", f"{path}/latest?version=1")
    assert (back["version"], back["context"], back["metadata"], back["name"]) == (1, {"a": 1}, {"m": 1}, "Untitled")
    assert (await api.call("POST", f"{path}/latest", {"version": 2}))["name"] == "two"
    status, answer = await api.ask("POST", f"{path}/latest", {"version": 99})
    assert status == 404 and "99" in answer["detail"]
    assert (await api.ask("POST", f"/assistants/{uuid4()}/versions", {}))[0] == 404


async def test_deleting_stops_its_runs_and_on_request_deletes_its_threads(api: ApiHarness) -> None:
    made = await api.call("POST", "/assistants", {"graph_id": "noop"})
    assistant_id = made["assistant_id"]
    kept, other = await api.thread(), await api.thread()
    mine = await api.run(kept, assistant_id=assistant_id)
    others = await api.run(other)
    await api.call("DELETE", f"/assistants/{assistant_id}?delete_threads=false")
    assert (await api.call("GET", f"/threads/{kept}/runs/{mine['run_id']}"))["status"] == "interrupted"
    assert (await api.call("GET", f"/threads/{other}/runs/{others['run_id']}"))["status"] == "pending"
    made = await api.call("POST", "/assistants", {"graph_id": "noop"})
    gone = await api.thread()
    await api.run(gone, assistant_id=made["assistant_id"])
    await api.call("DELETE", f"/assistants/{made['assistant_id']}?delete_threads=true")
    assert (await api.ask("GET", f"/threads/{gone}"))[0] == 404
    assert (await api.ask("GET", f"/threads/{kept}"))[0] == 200
    assert (await api.ask("DELETE", f"/assistants/{assistant_id}"))[0] == 404
