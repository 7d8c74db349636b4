"""OpenTelemetry traces of a whole server: one trace per request, whichever process goes on with it, and whenever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

pytest.importorskip("opentelemetry.sdk")

from tests.otlp import SentSpan, SpanReceiver, span_receiver
from tests.servers import Server
from tests.waiting import eventually
from threadlog.engine.tracing.spans import attempt_span_id

from .conftest import APP
from .gate import Gate
from .test_webhooks import Receiver, receiver

__all__ = ["receiver"]  # a fixture

pytestmark = [pytest.mark.star, pytest.mark.timeout(300)]  # the first one starts a server

NOOP = {"assistant_id": "noop", "input": {"items": []}}


@dataclass
class Traced:
    server: Server
    spans: SpanReceiver
    client: LangGraphClient
    http: httpx.AsyncClient

    async def one(self, trace_id: str, name: str, **attributes: Any) -> SentSpan:
        """The only span of this name with these attributes, once it was sent; two underscores stand for a dot."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}.items()

        def found() -> list[SentSpan]:
            return [
                span
                for span in self.spans.of_trace(trace_id)
                if span.name == name and wanted <= span.attributes.items()
            ]

        spans = await eventually(found, within=60)
        assert len(spans) == 1, spans
        return spans[0]


@pytest.fixture(scope="module")
def _spans() -> Iterator[SpanReceiver]:
    with span_receiver() as spans:
        yield spans


@pytest.fixture(scope="module")
def _server(start_server: Callable[..., Server], _spans: SpanReceiver) -> Iterator[Server]:
    """The only executor can be killed; it comes back."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": _spans.url, "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "tested"}
    server = start_server(APP / "langgraph.json", executors=1, env=env)
    yield server
    server.stop()


@pytest.fixture
async def traced(_server: Server, _spans: SpanReceiver) -> AsyncIterator[Traced]:
    async with (
        get_client(url=_server.url, api_key=None) as client,
        httpx.AsyncClient(base_url=_server.url, timeout=60) as http,
    ):
        yield Traced(_server, _spans, client, http)


def client_span(sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    """A client's trace, its span, and the headers that tell of them."""
    trace_id, span_id = os.urandom(16).hex(), os.urandom(8).hex()
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-0{int(sampled)}", "tracestate": "vendor=1"}


async def test_one_trace_from_the_client_to_the_webhook_across_a_killed_executor(
    traced: Traced, gate: Gate, receiver: Receiver
) -> None:
    thread = await traced.client.threads.create()
    trace_id, span_id, headers = client_span()
    body = {"assistant_id": "gated", "input": gate.input, "webhook": f"{receiver.url}/traced"}
    path = f"/threads/{thread['thread_id']}/runs"
    run = (await traced.http.post(path, json=body, headers=headers)).json()
    assert run["kwargs"]["trace"].startswith(f"00-{trace_id}-")
    await gate.entered(run["run_id"])
    pid = traced.server.kill("executor-1")
    await asyncio.to_thread(traced.server.wait_replaced, "executor-1", pid)
    gate.open()
    await traced.client.runs.join(thread["thread_id"], run["run_id"])

    request = await traced.one(trace_id, "POST /threads/{thread_id}/runs")
    assert request.parent_id == span_id
    assert request.attributes["http.response.status_code"] == 200 and request.attributes["url.path"] == path
    assert request.resource["service.name"] == "tested"
    assert (await traced.one(trace_id, "decide run.created")).parent_id == request.span_id
    first = f"{attempt_span_id(run['run_id'], 1):016x}"
    attempt = await traced.one(trace_id, "attempt gated")  # that of the first one went with its executor
    assert attempt.attributes["threadlog.attempt"] == 2 and attempt.parent_id == request.span_id
    assert attempt.links == [(trace_id, first)]
    assert attempt.resource["threadlog.process"] != request.resource["threadlog.process"]
    assert (await traced.one(trace_id, "node hold")).parent_id == attempt.span_id
    reports = await eventually(
        lambda: [span.parent_id for span in traced.spans.of_trace(trace_id) if span.name == "decide run.started"],
        lambda parents: attempt.span_id in parents,
        within=60,
    )
    assert set(reports) <= {attempt.span_id, first}, "the first one need not have reported anything"
    sent = await traced.one(trace_id, "webhook")
    assert sent.parent_id == request.span_id
    await receiver.body("/traced")
    [posted] = [of_post for at, of_post, _ in receiver.received if at == "/traced"]
    assert posted["traceparent"] == f"00-{trace_id}-{sent.span_id}-01" and posted["tracestate"] == "vendor=1"


async def test_a_run_without_a_trace_begins_one_and_its_answer_is_linked(traced: Traced) -> None:
    thread_id = (await traced.client.threads.create())["thread_id"]
    asking = await traced.client.runs.create(thread_id, "ask", input={"items": []})
    await traced.client.runs.join(thread_id, asking["run_id"])
    trace_id = asking["kwargs"]["trace"].split("-")[1]
    request = await traced.one(trace_id, "POST /threads/{thread_id}/runs")
    asked = await traced.one(trace_id, "attempt ask")
    assert request.parent_id == "" and asked.parent_id == request.span_id
    assert not (await traced.one(trace_id, "node question")).is_error
    assert (await traced.one(trace_id, "run queued")).parent_id == request.span_id

    unsampled, _, nowhere = client_span(sampled=False)
    await traced.http.post("/runs/wait", json=NOOP, headers=nowhere)
    answers, span_id, headers = client_span()
    path = f"/threads/{thread_id}/runs/wait"
    await traced.http.post(path, json={"assistant_id": "ask", "command": {"resume": "yes"}}, headers=headers)
    answered = await traced.one(answers, "attempt ask")
    assert answered.links == [(trace_id, asked.span_id)]
    assert (await traced.one(answers, "POST /threads/{thread_id}/runs/wait")).parent_id == span_id
    assert traced.spans.of_trace(unsampled) == []


async def test_a_run_that_is_due_after_its_engine_was_killed_is_in_its_trace(traced: Traced) -> None:
    thread_id = (await traced.client.threads.create())["thread_id"]
    trace_id, _, headers = client_span()
    body = {"assistant_id": "noop", "input": {"items": []}, "after_seconds": 2}
    run = (await traced.http.post(f"/threads/{thread_id}/runs", json=body, headers=headers)).json()
    request = await traced.one(trace_id, "POST /threads/{thread_id}/runs")
    engine = "engine" if "engine" in traced.server.pids else "server"
    pid = traced.server.kill(engine)
    await asyncio.to_thread(traced.server.wait_replaced, engine, pid)
    await asyncio.to_thread(traced.server.wait_ok)
    await traced.client.runs.join(thread_id, run["run_id"])
    assert (await traced.one(trace_id, "attempt noop")).parent_id == request.span_id


async def test_what_a_node_asks_of_this_server_is_below_its_span(traced: Traced) -> None:
    trace_id, _, headers = client_span()
    body = {"assistant_id": "calls_sync", "input": {}}
    await traced.http.post("/runs/wait", json=body, headers=headers)
    node = await traced.one(trace_id, "node call")
    for name in ("POST /threads", "POST /threads/{thread_id}/runs/wait"):  # of the client for threads
        assert (await traced.one(trace_id, name)).parent_id == node.span_id
    requests = await eventually(
        lambda: [span for span in traced.spans.of_trace(trace_id) if span.name == "POST /runs/wait"],
        lambda spans: len(spans) == 2,
    )
    below = [span for span in requests if span.parent_id == node.span_id]  # of the one for loops
    assert len(below) == 1
    attempts = await eventually(
        lambda: [span.parent_id for span in traced.spans.of_trace(trace_id) if span.name == "attempt noop"],
        lambda parents: len(parents) == 2,
    )
    assert below[0].span_id in attempts


async def test_a_state_update_is_in_the_trace_of_its_request(traced: Traced) -> None:
    thread = await traced.client.threads.create(graph_id="noop")
    trace_id, span_id, headers = client_span()
    path = f"/threads/{thread['thread_id']}/state"
    response = await traced.http.post(path, json={"values": {"items": ["x"]}, "as_node": "a"}, headers=headers)
    assert response.status_code == 200
    request = await traced.one(trace_id, "POST /threads/{thread_id}/state")
    assert request.parent_id == span_id
    assert (await traced.one(trace_id, "state update noop")).parent_id == request.span_id


async def test_each_firing_of_a_cron_has_a_trace_of_its_own(traced: Traced) -> None:
    cron = await traced.client.crons.create("noop", schedule="* * * * * *", input={"items": []})

    def firings() -> list[SentSpan]:
        return traced.spans.where(
            lambda span: span.name == "cron" and span.attributes["threadlog.cron_id"] == cron["cron_id"]
        )

    fired = await eventually(firings, lambda spans: len(spans) >= 2, within=60)
    await traced.client.crons.delete(cron["cron_id"])
    assert fired[0].trace_id != fired[1].trace_id and fired[0].parent_id == ""
    attempt = await traced.one(fired[0].trace_id, "attempt noop")
    assert attempt.parent_id == fired[0].span_id
    assert attempt.attributes["threadlog.run_id"] == fired[0].attributes["threadlog.run_id"]


async def test_what_is_no_trace_context_begins_a_trace(traced: Traced) -> None:
    for bad in ("", "00-0-0-01", f"00-{'0' * 32}-{'0' * 16}-01", "ff-" + "a" * 60, "\xff"):
        headers = {"traceparent": bad.encode("latin-1")}
        response = await traced.http.post("/runs/wait", json=NOOP, headers=headers)
        assert response.status_code == 200, bad
    long = client_span()[2]["traceparent"]
    headers = {"traceparent": long, "tracestate": "a=" + "b" * 600}
    trace = (await traced.http.post("/runs", json=NOOP, headers=headers)).json()["kwargs"]["trace"]
    assert trace.split("-")[1] == long.split("-")[1] and " " not in trace
