"""What holds for every request: errors, ids, bodies, cross-origin rules, the description."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from threadlog.api.app import ROUTES, make_app
from threadlog.api.context import ApiDeps
from threadlog.api.settings import ApiSettings, Cors
from threadlog.api.streaming.hub import StreamHub
from threadlog.engine.domain.commands import Command
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import AppendUnknown, LogUnavailable
from threadlog.engine.processor.ports import Decided

from .api_harness import ApiHarness, api_harness

REFUSED: list[tuple[str, str, bytes | None, int, str]] = [
    ("GET", "/nowhere", None, 404, "Not Found"),
    ("PUT", "/threads/search", None, 405, "Method Not Allowed"),
    ("PUT", "/nowhere", b"{}", 404, "Not Found"),
    ("GET", "/threads/nonsense", None, 422, "Invalid thread ID: must be a UUID"),
    ("GET", f"/threads/{uuid4()}", None, 404, "not found"),
    ("GET", f"/threads/{uuid4()}/runs", None, 404, "not found"),
    ("GET", f"/threads/{uuid4()}/runs/nonsense", None, 422, "Invalid run ID"),
    ("GET", f"/threads/{uuid4()}/runs?limit=many", None, 400, "limit"),
    ("GET", f"/threads/{uuid4()}/runs?limit=-1", None, 422, "limit"),
    ("POST", "/threads", b"", 422, "Invalid JSON in request body"),
    ("POST", "/threads", b"{", 422, "Invalid JSON in request body"),
    ("POST", "/threads", b"\xff\xfe", 422, "Invalid JSON in request body"),
    ("POST", "/threads", b"[]", 422, "must be a JSON object"),
    ("POST", "/threads", b'{"thread_id": "x"}', 422, "thread_id: must be a UUID"),
    ("POST", "/threads", b'{"metadata": 3}', 422, "metadata:"),
    ("POST", "/threads/search", b'{"limit": 0}', 422, "limit:"),
    ("POST", "/threads/search", b'{"limit": 1001}', 422, "limit:"),
    ("POST", "/threads/search", b'{"sort_by": "mood"}', 422, "sort_by:"),
    ("POST", "/threads/search", b'{"select": ["error"]}', 422, "select:"),
    ("POST", "/threads/search", b'{"ids": ["x"]}', 400, "Invalid thread ID x"),
    ("POST", "/threads/search", b'{"extract": {"a": "error.message"}}', 422, "extract.a:"),
    ("POST", "/threads/search", b'{"extract": {"a": "values.x["}}', 422, "extract.a:"),
    ("POST", "/runs/wait", b"{}", 422, "assistant_id:"),
    ("POST", "/runs/wait", b'{"assistant_id": "noop", "stream_mode": "sometimes"}', 422, "stream_mode"),
    ("POST", "/runs/wait", b'{"assistant_id": "noop", "interrupt_before": 3}', 422, "interrupt_before:"),
    ("POST", "/runs/wait", b'{"assistant_id": "noop", "webhook": "http://10.0.0.1"}', 422, "Webhook host blocked"),
    ("POST", "/runs/wait", b'{"assistant_id": "nope"}', 422, "Invalid assistant: 'nope'"),
    ("POST", "/runs", f'{{"assistant_id": "{uuid4()}"}}'.encode(), 404, "Thread or assistant not found."),
    ("POST", f"/threads/{uuid4()}/runs", b'{"assistant_id": "noop"}', 404, "Thread or assistant not found."),
    ("POST", "/runs/batch", b"[]", 422, "at least one run"),
    ("POST", "/runs/cancel", b"{}", 422, "status"),
    ("POST", "/runs/cancel?action=explode", b'{"status": "all"}', 422, "action"),
    ("GET", f"/threads/{uuid4()}/stream?stream_modes=all", None, 422, "stream_modes"),
    ("GET", f"/threads/{uuid4()}/runs/{uuid4()}/stream?stream_mode=all", None, 422, "stream_mode"),
    ("GET", f"/threads/{uuid4()}/history?limit=0", None, 422, "limit"),
    ("GET", f"/threads/{uuid4()}/state/%00", None, 404, "not found"),  # no checkpoint has such an id
    ("GET", f"/threads/{uuid4()}/runs?status=%00", None, 404, "not found"),  # no run has such a status
    ("GET", "/threads/%00", None, 422, "must be a UUID"),
    ("POST", "/threads/search", b'{"offset": 9000000000000000000000}', 422, "offset"),
    ("POST", "/threads", b'{"ttl": 1e300}', 422, "ttl:"),
    ("POST", "/threads", b'{"metadata": {"a": NaN}}', 422, "Invalid JSON"),
    ("POST", "/threads", b'{"metadata": {"a": "\\ud800"}}', 422, "Invalid JSON"),
    ("POST", "/runs", b'{"assistant_id": "no\\u0000op"}', 422, "Invalid assistant"),
    ("POST", "/assistants", b'{"graph_id": "noop", "name": 3}', 422, "name:"),
    ("POST", "/assistants/search", b'{"select": ["mood"]}', 422, "select:"),
]


async def test_an_error_is_json_with_a_sentence(api: ApiHarness) -> None:
    for method, path, body, status, detail in REFUSED:
        async with api.client.request(method, path, data=body) as answer:
            text = await answer.text()
            assert answer.status == status, (method, path, body, text)
            assert answer.content_type == "application/json"
            error = await answer.json()
            assert detail in error["detail"] and error["code"], (method, path, body, text)
            assert (status == 405) == ("Allow" in answer.headers)


async def test_every_answer_has_a_request_id(api: ApiHarness) -> None:
    async with api.client.get("/ok", headers={"x-request-id": "mine"}) as answer:
        assert answer.headers["x-request-id"] == "mine"
    ids = set()
    for path in ("/ok", "/ok", "/nowhere", "/threads/x"):
        async with api.client.get(path) as answer:
            ids.add(answer.headers["x-request-id"])
    assert len(ids) == 4


async def test_a_body_is_json_whatever_it_claims_to_be(api: ApiHarness) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {}):
        made = await api.call("POST", "/threads", {"metadata": {"a": 1}, "from_the_future": True}, headers=headers)
        assert made["metadata"] == {"a": 1}


async def test_nul_becomes_a_replacement_character(api: ApiHarness) -> None:
    made = await api.call("POST", "/threads", {"metadata": {"a\x00": ["b\x00", {"c": "\x00"}], "d": "\\u0000"}})
    assert made["metadata"] == {"a\ufffd": ["b\ufffd", {"c": "\ufffd"}], "d": "\\u0000"}
    found = await api.call("GET", f"/threads/{made['thread_id']}")
    assert found == made


async def test_a_body_that_is_too_large_is_413(database: str) -> None:
    async with api_harness(database, ApiSettings(max_body_bytes=1000)) as api:
        status, answer = await api.ask("POST", "/threads", {"metadata": {"a": "x" * 2000}})
        assert status == 413 and "larger" in answer["detail"]
        await api.thread(metadata={"a": "x" * 500})


class AwayGateway:
    """The gateway of a log that is away."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LogUnavailable("gone"), 503),
        (AppendUnknown("who knows"), 503),
        (asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"), 503),
        (RuntimeError("a bug"), 500),
    ],
)
async def test_a_log_that_is_away_is_503_and_a_bug_is_500(database: str, error: Exception, status: int) -> None:
    log = MemoryLog(4)
    pool = await asyncpg.create_pool(database, min_size=1, max_size=2)
    deps = ApiDeps(pool=pool, gateway=AwayGateway(error), log=log, hub=StreamHub(log))
    async with TestClient(TestServer(make_app(deps))) as client:
        async with client.post("/threads", data=b"{}", headers={"x-request-id": "r-1"}) as answer:
            assert answer.status == status
            assert answer.content_type == "application/json"
            assert ("Retry-After" in answer.headers) == (status == 503)
            assert status == 503 or "r-1" in (await answer.json())["detail"]
        await pool.close()
        async with client.post("/threads/search", data=b"{}") as answer:
            assert answer.status == 503, await answer.text()
        async with client.get("/ok") as answer:
            assert answer.status == 200
        async with client.get("/ok?check_db=1") as answer:
            assert answer.status == 500
            assert (await answer.json())["services"]["postgres"]["ok"] is False


async def test_system_endpoints(api: ApiHarness) -> None:
    assert await api.call("GET", "/ok") == {"ok": True, "services": {}}
    assert await api.call("GET", "/") == {"ok": True, "services": {}}
    checked = await api.call("GET", "/ok?check_db=1")
    assert checked["ok"] is True and set(checked["services"]) == {"postgres", "log", "engine"}
    info = await api.call("GET", "/info")
    assert info["version"] and info["flags"]["assistants"] is True and info["flags"]["crons"] is True
    async with api.client.head("/ok") as answer:
        assert answer.status == 200


async def test_metrics(api: ApiHarness) -> None:
    thread_id = await api.thread()
    await api.run(thread_id)
    await api.ask("GET", f"/threads/{uuid4()}")
    as_json = await api.call("GET", "/metrics?format=json")
    assert as_json["queue"]["n_pending"] == 1
    counted = {
        (row["method"], row["path"], row["status"]): row["count"] for row in as_json["api"]["http_requests_total"]
    }
    assert counted["GET", "/threads/{thread_id}", 404] == 1
    async with api.client.get("/metrics") as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
    assert re.search(r'lg_api_http_requests_total\{method="POST",path="/threads",status="200"\} 1.0', text)
    assert re.search(r"lg_api_num_pending_runs 1.0", text)
    for name in (
        "nodes_left_behind",
        "events_not_projected",
        "events_unreadable",
        "frames_unreadable",
    ):  # those to alert on
        assert re.search(rf"^lg_api_{name} [0-9]", text, re.M), name
    assert re.search(r'lg_api_http_requests_latency_count\{method="POST",path="/threads"\} 1.0', text)
    assert "process_resident_memory_bytes" in text and "target_info" in text


async def test_the_metrics_of_api_and_engine_are_those_that_the_docs_list(database: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    metrics = [row for row in rows if len(row) > 3]

    def named(rows: list[list[str]]) -> set[str]:
        return {name.removesuffix("_total") for row in rows for name in re.findall(r"`(\w+)`", row[0])}

    listed = named([row for row in metrics if row[3] != "executor"])
    executors = named([row for row in metrics if row[3] == "executor"])
    async with api_harness(database, ApiSettings(internal_metrics=True)) as opened:
        await opened.call("GET", "/info")
        async with opened.client.get("/metrics") as answer:
            text = await answer.text()
    families = {family.name for family in text_string_to_metric_families(text)}
    shown = {name.removeprefix("lg_api_") for name in families if name.startswith("lg_api_")}
    assert shown - executors == listed  # some of an executor's begin with 0, or a test of this process had one
    assert 'lg_api_partition_lag{partition="0"} 0.0' in text


async def test_metrics_do_not_wait_for_a_log_that_does_not_answer(
    api: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bounds(*_: object) -> tuple[int, int]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(api.log, "bounds", bounds)
    monkeypatch.setattr("threadlog.api.system.lag._SECONDS", 0.1)
    async with api.client.get("/metrics") as answer:
        text = await answer.text()
    assert answer.status == 200 and "lg_api_num_pending_runs" in text and "partition_lag{" not in text


async def test_any_origin_may_call_by_default(api: ApiHarness) -> None:
    asked = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-mine",
        "Access-Control-Request-Private-Network": "true",
    }
    async with api.client.options("/threads/search", headers=asked) as answer:
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-headers"] == "content-type,x-mine"
        assert answer.headers["access-control-max-age"] == "600"
        assert answer.headers["access-control-allow-private-network"] == "true"
        methods = {m.strip() for m in answer.headers["access-control-allow-methods"].split(",")}
        assert methods == {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"}
    async with api.client.get("/nowhere", headers={"Origin": "https://page.example"}) as answer:
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        exposed = {h.strip() for h in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed == {"x-pagination-total", "x-pagination-next", "content-location", "location"}
        assert answer.headers["vary"] == "Origin"
    async with api.client.get("/ok") as answer:
        assert answer.headers["vary"] == "Origin"


async def test_configured_origins_are_kept_to(database: str) -> None:
    cors = Cors(
        allow_origins=("https://good.example",),
        allow_origin_regex=re.compile(r"https://.*\.good\.example"),
        allow_methods=("GET", "POST"),
        allow_headers=("x-mine",),
        allow_credentials=True,
        expose_headers=("x-shown",),
    )
    async with api_harness(database, ApiSettings(cors=cors)) as api:
        for origin in ("https://good.example", "https://sub.good.example"):
            async with api.client.get("/ok", headers={"Origin": origin}) as answer:
                assert answer.headers["access-control-allow-origin"] == origin
                assert answer.headers["access-control-allow-credentials"] == "true"
                assert answer.headers["access-control-expose-headers"] == "x-shown"
        refused = {"Origin": "https://bad.example", "Access-Control-Request-Method": "DELETE"}
        async with api.client.options("/threads", headers=refused) as answer:
            assert answer.status == 400
            assert (await answer.json())["detail"] == "Disallowed CORS origin, method"
        async with api.client.get("/ok", headers={"Origin": "https://bad.example"}) as answer:
            assert "access-control-allow-origin" not in answer.headers


async def test_the_description_has_every_route_and_resolves(api: ApiHarness) -> None:
    described = await api.call("GET", "/openapi.json")
    assert described["openapi"].startswith("3.1")
    paths = described["paths"]
    for route in ROUTES:
        path = re.sub(r"\{(\w+):.*?\}(?=/|$)", r"{\1}", route.path.replace("[^{}/]+", "x"))
        assert route.method.lower() in paths[path], path
    assert "/runs/{run_id}/stream" in paths
    ids = [op["operationId"] for methods in paths.values() for op in methods.values()]
    assert len(ids) == len(set(ids))
    schemas = described["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', str(described).replace("'", '"')))
    assert references and references <= set(schemas)
    assert "run_id" in schemas["Run"]["properties"] and "assistant_id" in schemas["RunCreate"]["properties"]


async def test_the_messages_of_the_log_are_described(api: ApiHarness) -> None:
    described = await api.call("GET", "/asyncapi.json")
    assert described["asyncapi"] == "3.0.0"
    assert described["info"]["version"] == (await api.call("GET", "/info"))["version"]
    partitions = described["channels"]["events"]["bindings"]["kafka"]["partitions"]
    assert partitions == await api.pool.fetchval("SELECT count(*) FROM partitions")
    assert described["components"]["schemas"]["run.failed"]["properties"]["type"] == {"const": "run.failed"}


async def test_the_page_of_the_description_loads_nothing_from_elsewhere(api: ApiHarness) -> None:
    async with api.client.get("/docs") as answer:
        assert answer.content_type == "text/html"
        page = await answer.text()
    assert "openapi.json" in page
    assert not re.search(r"https?://|//[\w.]+/", page)
    assert (Path(__file__).parents[2] / "api" / "http" / "docs.html").read_text() == page
