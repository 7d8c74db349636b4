"""Metrics: what docs/monitoring.md lists is what is exposed, by each kind of process."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from threadlog.deploy.logs import PROCESS_NAME
from threadlog.deploy.metrics import exposed_metrics, port_of
from threadlog.deploy.settings import Settings
from threadlog.engine.log.records import EventRecord
from threadlog.engine.metrics import DEFINED, METRICS, ProcessMetrics
from threadlog.engine.processor.meter import EventMeter

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
PLACES = {
    **dict.fromkeys(("partition_lag", "stream_clients", "pg_pool_requests_queued", "pg_pool_requests_errors"), "api"),
    **dict.fromkeys(("executor_attempts", "failed_to_fetch_runs_counter", "stream_publish_latency"), "executor"),
    **dict.fromkeys(("server_started_counter", "server_requested_to_stop_counter"), "all"),
    "appended_bytes": "all",
}


def table() -> list[str]:
    rows = []
    for name, defined in DEFINED.items():
        shown = f"{name}_total" if defined.kind == "counter" else name
        label = f"`{defined.label}`" if defined.label else ""
        internal = " (*internal*)" if defined.internal else ""
        place = PLACES.get(name, "engine")
        rows.append(
            f"| `{shown}` | {defined.kind} | {label} | {place} | {defined.help.removesuffix(', ms')}{internal} |"
        )
    return rows


def test_the_docs_list_every_metric_as_it_is() -> None:
    page = PAGE.read_text()
    for row in table():
        assert row in page, row


def at(second: float) -> str:
    return f"2026-01-01T00:00:{second:09.6f}+00:00"


def told(*records: tuple[float, list[dict[str, object]]]) -> ProcessMetrics:
    metrics = ProcessMetrics()
    meter = EventMeter(metrics)
    for n, (second, events) in enumerate(records):
        meter.projected(
            0, n, EventRecord(1, n, f"c{n}", "k", at(second), [{"run_id": "r", **event} for event in events])
        )
    return metrics


def test_waits_and_times_of_runs_are_those_of_their_events() -> None:
    metrics = told(
        (0, [{"type": "run.scheduled", "attempt": 1}]),
        (3, [{"type": "run.started", "attempt": 1, "at": at(2)}]),
        (4, [{"type": "run.lease_expired"}, {"type": "run.scheduled", "attempt": 2}]),
        (9, [{"type": "run.started", "attempt": 2, "at": at(5)}, {"type": "run.succeeded"}]),
    )
    waits = {name: h.sum for (name, label), h in metrics.histograms.items() if name != "command_latency"}
    assert waits == {
        "run_queue_wait_time_1st_attempt": 2000,
        "run_queue_wait_time_retry_attempt": 1000,
        "run_execution_latency": 4000,
    }
    assert metrics.histograms["run_execution_latency", "success"].sum == 4000
    assert metrics.histograms["command_latency", ""].buckets()[-1] == ("+Inf", 4.0)
    assert metrics.counts == {
        ("run_attempt_started_counter", ""): 2, ("run_failed_retriable_counter", ""): 1, ("run_success_counter", ""): 1,
    }  # fmt: skip


def test_how_late_crons_are_and_what_has_no_run() -> None:
    fired = {"type": "cron.fired", "due_at": at(1)}
    metrics = told((1.5, [fired]), (3, [fired, {"type": "cron.run_refused"}]))
    assert metrics.histograms["cron_delay", ""].sum == 2500
    assert metrics.counts == {("cron_runs_refused", ""): 1}


def test_what_is_alerted_on_is_there_before_it_has_happened() -> None:
    families = {family.name: family for family in ProcessMetrics().families("", internal=True)}
    outcomes = {sample.labels["outcome"]: sample.value for sample in families["webhook_attempts"].samples}
    assert outcomes == {"delivered": 0, "failed": 0, "dead": 0}


def test_outcomes_rejections_and_fenced_reports_are_counted() -> None:
    error = {"error": "GraphRecursionError", "message": ""}
    metrics = told(
        (0, [{"type": "run.failed", "error": error}, {"type": "run.timed_out", "error": {}}]),
        (0, [{"type": "run.interrupted"}, {"type": "run.rolled_back"}, {"type": "run.released"}]),
        (0, [{"type": "run.failed", "error": {"error": "RunAttemptsExhausted", "message": ""}}]),
        (0, [{"type": "report.fenced"}, {"type": "command.rejected", "code": "conflict", "detail": ""}]),
        (0, [{"type": "run.deleted"}, {"type": "run.scheduled", "attempt": 1, "kind": "state_update"}]),
    )
    assert metrics.counts == {
        ("graph_recursion_limit_error_counter", ""): 1,
        ("run_exceed_max_attempts_at_start_counter", ""): 1,
        ("run_failed_after_retry_counter", "error"): 2,
        ("run_failed_after_retry_counter", "timeout"): 1,
        ("run_canceled_by_request_counter", ""): 2,
        ("run_abandoned_by_shutdown_counter", ""): 1,
        ("reports_fenced", ""): 1,
        ("commands_rejected", "conflict"): 1,
    }


def test_each_process_of_a_machine_has_a_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []
    for name in ("", "server", "api", "engine", "executor-1", "executor-2"):
        monkeypatch.setenv(PROCESS_NAME, name)
        ports.append(port_of(Settings.load(lsd_prom_metrics_port=9000)))
    assert ports == [9000, 9000, 9000, 9001, 9002, 9003]


def test_a_process_serves_its_metrics_and_a_taken_port_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings.load(lsd_prom_metrics_enabled=True, lsd_prom_metrics_port=port, metric_prefix="x_")
    METRICS.count("webhook_attempts", "dead", 0)
    url = f"http://127.0.0.1:{port}/metrics"
    with exposed_metrics(settings), exposed_metrics(settings), urllib.request.urlopen(url) as response:
        text = response.read().decode()
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"x_command_latency", "x_webhook_attempts", "process_resident_memory_bytes"} <= families
    assert "x_run_success_counter" not in families, "it is internal"
    assert "metrics can't be served" in caplog.text


def test_without_the_setting_nothing_listens() -> None:
    with exposed_metrics(Settings.load(lsd_prom_metrics_port=1)):
        pass


def test_names_are_of_the_form_that_prometheus_takes() -> None:
    assert all(re.fullmatch(r"[a-z0-9_]+", name) and not name.endswith("_total") for name in DEFINED)
