"""Spans of requests: in the client's trace, and current in the application's own routes as in ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id, get_current_span

from tests.exported_spans import Exported, exported_spans, id_of
from tests.waiting import eventually
from threadlog.api.custom_app.mount import CustomApp
from threadlog.api.settings import ApiSettings

from .api_harness import ApiHarness, api_harness

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def exported() -> Iterator[Exported]:
    with exported_spans() as exporter:
        yield Exported(exporter)


def current() -> list[str]:
    context = get_current_span().get_span_context()
    return [format_trace_id(context.trace_id), format_span_id(context.span_id)]


def custom() -> CustomApp:
    app = FastAPI()

    @app.get("/on-loop")
    async def on_loop() -> list[str]:
        return current()

    @app.get("/in-thread")
    def in_thread() -> list[str]:
        return current()

    @app.middleware("http")
    async def around(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-trace"] = current()[0]
        return response

    return CustomApp(asgi=app)


async def test_the_applications_own_routes_and_middleware_are_in_the_trace(database: str, exported: Exported) -> None:
    async with api_harness(database, custom=custom()) as api:
        for path in ("/on-loop", "/in-thread"):
            trace_id, span_id = await api.call("GET", path, headers=HEADERS)

            def ended(path: str = path) -> list[ReadableSpan]:
                return [span for span in exported.all() if (span.attributes or {}).get("url.path") == path]

            [span] = await eventually(ended)
            assert (trace_id, span_id) == (TRACE, id_of(span.context)) and id_of(span.parent) == PARENT
        async with api.client.post("/threads", data=b"{}", headers=HEADERS) as response:
            assert response.headers["x-trace"] == TRACE


async def test_probes_have_no_span_wherever_the_api_is_mounted(database: str, exported: Exported) -> None:
    async with api_harness(database, replace(ApiSettings(), mount_prefix="/mounted")) as api:
        for path in ("/ok", "/mounted/ok", "/mounted/info", "/mounted/metrics", "/mounted/openapi.json"):
            async with api.client.get(path) as response:
                assert response.status == 200
    routes = [span.attributes["http.route"] for span in exported.all() if "http.route" in (span.attributes or {})]
    assert routes == ["/mounted/openapi.json"]


async def test_each_request_of_a_connection_has_its_own_trace(exported: Exported, api: ApiHarness) -> None:
    await api.call("POST", "/threads", {}, headers=HEADERS)
    await api.call("POST", "/threads", {})
    assert (await api.ask("GET", "/threads/nonsense"))[0] == 422
    await api.call("GET", "/ok")
    requests = [span for span in exported.all() if "http.route" in (span.attributes or {})]
    assert [span.name for span in requests] == ["POST /threads", "POST /threads", "GET /threads/{thread_id}"]
    first, second, third = requests
    assert id_of(first.parent) == PARENT and second.parent is None and third.parent is None
    assert len({span.context.trace_id for span in requests}) == 3
    assert third.attributes["http.response.status_code"] == 422 and third.status.status_code is StatusCode.UNSET
    decided = [
        span for span in exported.named("decide thread.created") if span.context.trace_id == first.context.trace_id
    ]
    assert [id_of(span.parent) for span in decided] == [id_of(first.context)]
