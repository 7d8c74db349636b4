"""LangSmith's variables in an executor's environment: its receiver gets run trees, as JSON of its own or as OTLP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually

pytest.importorskip("langsmith")
BATCHES = {
    "use_multipart_endpoint": False, "size_limit": 100, "size_limit_bytes": 20_971_520, "scale_up_nthreads_limit": 16,
    "scale_up_qsize_trigger": 1000, "scale_down_nempty_trigger": 4,
}  # fmt: skip
EXAMPLE = "11111111-1111-4111-8111-111111111111"


@dataclass
class LangSmith:
    """What a LangSmith server is sent. It says that it takes plain JSON."""

    url: str = ""
    posted: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """Runs by id, as they were created and then changed."""
        runs: dict[str, dict[str, Any]] = {}
        for path, body in list(self.posted):
            if path.endswith("/runs/batch"):
                batch = json.loads(body)
                for run in (*batch.get("post", ()), *batch.get("patch", ())):
                    runs.setdefault(run["id"], {}).update({k: v for k, v in run.items() if v is not None})
        return runs


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangSmith]:
    """A receiver, and the environment that sends to it."""
    received = LangSmith()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(json.dumps({"batch_ingest_config": BATCHES}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            received.posted.append((self.path, body))
            self._reply(b"{}")

        def _reply(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_address[1]}"
    for name, value in {
        "LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "key", "LANGSMITH_ENDPOINT": received.url,
        "LANGSMITH_PROJECT": "of the environment", "LANGSMITH_DISABLE_RUN_COMPRESSION": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    _as_in_a_new_process()
    yield received
    monkeypatch.undo()
    _as_in_a_new_process()
    server.shutdown()
    thread.join()
    server.server_close()


def _as_in_a_new_process() -> None:
    """Make LangSmith's client read its variables again."""
    from langsmith import run_trees
    from langsmith.utils import get_env_var, get_tracer_project

    for cached in (get_env_var, get_tracer_project):
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    run_trees._CLIENT = None
    with suppress(ImportError):
        from opentelemetry import trace
        from opentelemetry.util._once import Once

        trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()


async def test_a_run_is_a_tree_in_langsmith(harness: ExecutorHarness, serving: Any, receiver: LangSmith) -> None:
    await serving("noop")
    run_id = await harness.enqueue("noop", {"items": ["in"]})
    await harness.outcome(run_id)
    root = await eventually(lambda: receiver.runs.get(run_id), lambda run: run and "end_time" in run)
    below = [run for run in receiver.runs.values() if run.get("trace_id") == run_id and run["id"] != run_id]
    assert {run["name"] for run in below} >= {"a", "b"}
    assert root["session_name"] == "of the environment" and root["outputs"] == {"items": ["in", "x", "y"]}
    metadata = root["extra"]["metadata"]
    assert metadata["thread_id"] == await harness.thread_of(run_id) and metadata["run_id"] == run_id


async def test_a_client_may_choose_the_project_and_the_example(
    harness: ExecutorHarness, serving: Any, receiver: LangSmith
) -> None:
    await serving("noop")
    chosen = {"__langsmith_project__": "of the client", "__langsmith_example_id__": EXAMPLE}
    run_id = await harness.enqueue("noop", {"items": []}, config={"configurable": chosen})
    await harness.outcome(run_id)
    root = await eventually(lambda: receiver.runs.get(run_id), lambda run: run and "end_time" in run)
    assert (root["session_name"], root["reference_example_id"]) == ("of the client", EXAMPLE)


async def test_the_same_tree_goes_out_as_otlp(
    harness: ExecutorHarness, serving: Any, receiver: LangSmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    _as_otlp(monkeypatch)
    await serving("noop")
    run_id = await harness.enqueue("noop", {"items": ["in"]})
    await harness.outcome(run_id)
    thread_id = await harness.thread_of(run_id)

    def spans() -> bytes:
        return b"".join(body for path, body in receiver.posted if path.endswith("/v1/traces"))

    await eventually(spans, lambda sent: thread_id.encode() in sent and run_id.encode() in sent)
    assert receiver.runs == {}


async def test_beside_the_servers_own_spans_that_tree_is_below_the_attempt_and_has_the_nodes(
    harness: ExecutorHarness, serving: Any, receiver: LangSmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    _as_otlp(monkeypatch)
    from tests.exported_spans import Exported, exported_spans, id_of
    from tests.otlp import spans_in

    with exported_spans() as provider:
        await serving("noop")
        run_id = await harness.enqueue("noop", {"items": ["in"]})
        await harness.outcome(run_id)
        attempt = await Exported(provider).attempt(run_id)
        assert [span.name for span in Exported(provider).all()] == ["attempt noop"]

    def names_below() -> set[str]:
        sent = [span for path, body in receiver.posted if path.endswith("/v1/traces") for span in spans_in(body)]
        return {span.name for span in sent if span.trace_id == f"{attempt.context.trace_id:032x}"} | {
            "root" for span in sent if span.parent_id == id_of(attempt.context)
        }

    await eventually(names_below, lambda names: names >= {"a", "b", "root"})


def _as_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setenv("LANGSMITH_OTEL_ENABLED", "true")
    monkeypatch.setenv("LANGSMITH_OTEL_ONLY", "true")
    _as_in_a_new_process()
