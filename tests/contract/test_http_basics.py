"""Contract statements 1 to 12: what holds for every request."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from .frames import events, frames
from .gate import Gate

UNKNOWN = "0199b2c0-0000-7000-8000-00000000beef"  # the same in every worker of pytest-xdist: it is in test ids


@pytest.mark.contract(1)
async def test_ok_answers_without_credentials(http: httpx.AsyncClient) -> None:
    answer = await http.get("/ok")
    assert answer.status_code == 200
    assert answer.json()["ok"] is True


@pytest.mark.contract(2)
async def test_info_has_a_version_and_flags(http: httpx.AsyncClient) -> None:
    info = (await http.get("/info")).json()
    assert isinstance(info["version"], str) and info["version"]
    assert info["flags"]["assistants"] is True
    assert isinstance(info["flags"]["crons"], bool)


@pytest.mark.contract(3)
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("PUT", "/threads/search", None, 405),
        ("GET", f"/threads/{UNKNOWN}", None, 404),
        ("GET", "/threads/not-a-uuid", None, 422),
        ("POST", "/assistants", b'{"graph_id": "nope"}', 404),
        ("POST", "/assistants", b"{", 422),
        ("POST", "/threads/search", b'{"limit": 0}', 422),
        ("POST", "/runs/wait", b'{"assistant_id": "noop", "stream_mode": "sometimes"}', 422),
        ("GET", f"/threads/{UNKNOWN}/runs?limit=many", None, 400),
    ],
)
async def test_every_error_is_json_with_a_sentence(
    http: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int
) -> None:
    answer = await http.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(answer.json()["detail"], str) and answer.json()["detail"]
    assert (status == 405) == ("allow" in answer.headers)


@pytest.mark.contract(4)
async def test_a_malformed_id_is_422_and_an_unknown_one_404(http: httpx.AsyncClient, thread_id: str) -> None:
    for path in ("/threads/{}", "/threads/{}/state", "/threads/{}/runs", "/assistants/{}"):
        malformed = await http.get(path.format("nonsense"))
        assert malformed.status_code == 422, path
        assert "must be a UUID" in malformed.json()["detail"]
        assert (await http.get(path.format(uuid4()))).status_code == 404, path
    run = f"/threads/{thread_id}/runs/{{}}"
    assert (await http.get(run.format("nonsense"))).status_code == 422
    assert (await http.get(run.format(uuid4()))).status_code == 404
    assert (await http.delete(run.format(uuid4()))).status_code == 404
    assert (await http.patch(f"/threads/{uuid4()}", json={"metadata": {}})).status_code == 404


@pytest.mark.contract(5)
@pytest.mark.parametrize("path", ["/assistants", "/threads/search", "/runs/wait", "/threads/{thread}/runs"])
@pytest.mark.parametrize("body", [b"", b"{", b'{"a": nope}', b"\xff\xfe"])
async def test_a_missing_or_broken_body_is_422(http: httpx.AsyncClient, thread_id: str, path: str, body: bytes) -> None:
    answer = await http.post(path.format(thread=thread_id), content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "Invalid JSON in request body" in answer.json()["detail"]


@pytest.mark.contract(6)
async def test_a_json_body_is_taken_as_any_content_type(http: httpx.AsyncClient) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-type": "text/plain;charset=UTF-8"}, {}):
        answer = await http.post("/threads", content=b'{"metadata": {"sent": "as text"}}', headers=headers)
        assert answer.status_code == 200
        assert answer.json()["metadata"] == {"sent": "as text"}


@pytest.mark.contract(7)
async def test_unknown_body_fields_are_ignored(http: httpx.AsyncClient) -> None:
    thread = await http.post("/threads", json={"metadata": {"a": 1}, "from_the_future": True})
    assert thread.status_code == 200
    run = {"assistant_id": "noop", "input": {"items": []}, "from_the_future": {"x": 1}}
    values = await http.post(f"/threads/{thread.json()['thread_id']}/runs/wait", json=run)
    assert values.json()["items"] == ["a", "b"]


@pytest.mark.contract(8)
async def test_a_nul_in_metadata_is_stored_as_a_replacement_character(client: LangGraphClient) -> None:
    thread = await client.threads.create(metadata={"text": "a\x00b", "deep": {"list": ["\x00"]}})
    stored = await client.threads.get(thread["thread_id"])
    assert stored["metadata"] == {"text": "a\ufffdb", "deep": {"list": ["\ufffd"]}}


@pytest.mark.contract(9)
async def test_browsers_of_any_origin_may_call_and_read_our_headers(http: httpx.AsyncClient) -> None:
    preflight = await http.options(
        "/threads/search",
        headers={
            "origin": "https://somewhere.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key",
        },
    )
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] in ("*", "https://somewhere.example")
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert allowed == "*" or {"content-type", "x-api-key"} <= {name.strip() for name in allowed.split(",")}
    answer = await http.post("/threads/search", json={}, headers={"origin": "https://somewhere.example"})
    assert answer.headers["access-control-allow-origin"] in ("*", "https://somewhere.example")
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"content-location", "x-pagination-total", "x-pagination-next"} <= exposed


@pytest.mark.contract(9)
@pytest.mark.star
async def test_the_location_header_is_exposed_too(http: httpx.AsyncClient) -> None:
    answer = await http.get("/ok", headers={"origin": "https://somewhere.example"})
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert "location" in exposed


@pytest.mark.contract(10)
async def test_a_short_page_names_the_next_and_the_last_page_does_not(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    mark = {"pages": str(uuid4())}
    for _ in range(3):
        await client.threads.create(metadata=mark)
        await client.assistants.create("noop", metadata=mark)
    first = await client.assistants.search(metadata=mark, limit=2, response_format="object")
    assert (len(first["assistants"]), first["next"]) == (2, "2")
    last = await client.assistants.search(metadata=mark, limit=2, offset=2, response_format="object")
    assert (len(last["assistants"]), last["next"]) == (1, None)

    short = await http.post("/threads/search", json={"metadata": mark, "limit": 2})
    assert short.headers["x-pagination-next"] == "2"
    exact = await http.post("/threads/search", json={"metadata": mark, "limit": 3})
    assert "x-pagination-next" not in exact.headers
    assert exact.headers["x-pagination-total"] == "3"


@pytest.mark.contract(11)
@pytest.mark.parametrize("stateless", [False, pytest.param(True, marks=pytest.mark.star)])
async def test_a_stream_resumes_at_its_location(
    http: httpx.AsyncClient, thread_id: str, gate: Gate, stateless: bool
) -> None:
    path = "/runs/stream" if stateless else f"/threads/{thread_id}/runs/stream"
    body = {
        "assistant_id": "custom",
        "input": {**gate.input, "n": 10},
        "stream_mode": ["custom"],
        "stream_resumable": True,
    }
    async with http.stream("POST", path, json=body) as response:
        location = response.headers["location"]
        assert location.startswith("/") and location.endswith("/stream")
        assert response.headers["content-location"] == location.removesuffix("/stream")
        seen = []
        async for frame in frames(response):
            if frame.event:
                seen.append(frame)
            if frame.event == "custom" and frame.data["number"] == 4:
                break
    gate.open()
    async with http.stream("GET", location, headers={"last-event-id": seen[-1].id}) as response:
        assert response.status_code == 200
        seen += await events(response)
    assert [frame.event for frame in seen] == ["metadata"] + ["custom"] * 10
    assert [frame.data["number"] for frame in seen[1:]] == list(range(10))


@pytest.mark.contract(12)
@pytest.mark.star
@pytest.mark.parametrize("query", ["select=run_id&select=status", "select=run_id,status", 'select=["run_id","status"]'])
async def test_list_parameters_come_repeated_comma_separated_or_as_json(
    client: LangGraphClient, http: httpx.AsyncClient, thread_id: str, query: str
) -> None:
    run = await client.runs.create(thread_id, "noop", input={"items": []})
    listed = (await http.get(f"/threads/{thread_id}/runs?{query}")).json()
    assert [(sorted(row), row["run_id"]) for row in listed] == [(["run_id", "status"], run["run_id"])]


async def test_a_slash_behind_a_path_leads_to_the_path(http: httpx.AsyncClient) -> None:
    answer = await http.post("/threads/?from=us", json={"metadata": {"a": 1}})
    assert answer.status_code == 307
    assert answer.next_request is not None
    assert str(answer.next_request.url) == f"{str(http.base_url).rstrip('/')}/threads?from=us"
    created = (await http.send(answer.next_request)).json()
    assert created["metadata"] == {"a": 1}
    assert (await http.get(f"/threads/{created['thread_id']}/state/", follow_redirects=True)).json()["next"] == []
    assert (await http.get("/nowhere/")).status_code == 404
