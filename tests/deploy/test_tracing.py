"""Which environment makes traces, and that their receiver never keeps a process."""

from __future__ import annotations

import io
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import set_span_in_context

from threadlog.deploy import tracing
from threadlog.deploy.extras import TRACING
from threadlog.deploy.logs import configure_logging
from threadlog.deploy.settings import Settings
from threadlog.engine import logging_context
from threadlog.engine.tracing import active
from threadlog.engine.tracing.spans import Spans

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
DOCS = Path(__file__).parents[2] / "docs" / "monitoring.md"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "a"}, []),
        (ENDPOINT, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp"]),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, []),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, []),
    ],
)
def test_traces_are_made_where_a_receiver_is_named(environment: dict[str, str], wanted: list[str]) -> None:
    assert tracing.exporters_wanted(environment) == wanted


def test_every_variable_of_the_page_is_read_here_or_by_the_sdk() -> None:
    from opentelemetry import environment_variables as of_api
    from opentelemetry.sdk import environment_variables as of_sdk

    named = {line.split("`")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `OTEL_")}
    assert named and named <= vars(of_api).keys() | vars(of_sdk).keys()


@pytest.mark.server
def test_what_makes_no_traces_imports_nothing_of_them() -> None:
    """It would cost each process memory, and its start time. In executors LangSmith's client imports it anyway."""
    module = "threadlog.deploy.compose.api_engine"
    code = f"import sys, {module}; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_application_keeps_the_provider_it_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(ENDPOINT.items())))
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", made)
    with tracing.traced("executor"):
        spans = active.active()
        assert spans is not None
        spans.start("attempt", Context()).end()
    assert [span.name for span in exporter.get_finished_spans()] == ["attempt"]
    assert active.active() is None


def test_without_the_extra_the_server_runs_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(*next(iter(ENDPOINT.items())))
    monkeypatch.setattr(type(TRACING), "installed", False)
    with tracing.traced("api"):
        assert active.active() is None and active.current() is None
    assert "pip install 'threadlog[tracing]'" in caplog.text


def test_an_exporter_that_is_not_installed_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert not entry_points(group="opentelemetry_traces_exporter", name="no_such_exporter")
    tracing.provider_of("api", ["no_such_exporter"]).shutdown()
    assert "no_such_exporter can't be used" in caplog.text


def test_a_receiver_that_is_away_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    tracing.provider_of("api", []).shutdown()
    for number in range(5):
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").warning("retrying in %d s", number)
    assert caplog.messages == ["retrying in 0 s"]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A receiver that takes connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_receiver_that_hangs_does_not_keep_the_process(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "STOP_SECONDS", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    provider = tracing.provider_of("api", ["otlp"])
    provider.get_tracer("test").start_span("one").end()
    tracing.shut_down(provider)  # returns, although
    connection, _ = silent.accept()
    with connection:
        assert connection.recv(5) == b"POST ", "its export is under way"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Logs a line and returns it as JSON, with the logging of a process set up, and undone afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr("sys.excepthook", None)
    monkeypatch.setattr("threading.excepthook", None)
    configure_logging(Settings.load(log_json=True))

    def log(logger: str, **extra: Any) -> dict[str, Any]:
        written.truncate(0)
        written.seek(0)
        logging.getLogger(logger).warning("line", extra=extra)
        line: dict[str, Any] = json.loads(written.getvalue())
        return line

    yield log
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_log_lines_have_the_span_they_belong_to(lines: Any) -> None:
    spans = Spans(TracerProvider(shutdown_on_exit=False))
    span = spans.start("attempt", Context())
    token = otel_context.attach(set_span_in_context(span))
    active.install(spans)
    fields = logging_context.fields()
    logging_context.set_fields({"run_id": "r"})
    try:
        ids = SimpleNamespace(**spans.ids())
        assert len(ids.trace_id) == 32 and len(ids.span_id) == 16
        for line in (lines("application"), lines("threadlog.engine", run_id="r")):
            assert (line["trace_id"], line["span_id"]) == (ids.trace_id, ids.span_id)
        assert "trace_id" not in lines("threadlog.engine", run_id="another"), "its task has begun in this context"
    finally:
        logging_context.set_fields(fields)
        active.install(None)
        otel_context.detach(token)
    assert "trace_id" not in lines("application")
