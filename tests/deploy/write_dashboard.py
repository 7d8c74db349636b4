"""Writes deploy/monitoring/grafana/threadlog.json: `python -m tests.deploy.write_dashboard`. A test compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "threadlog.json"

_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_M = 'job=~"$job", instance=~"$instance"'


def _rate(name: str, by: str = "", more: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate(lg_api_{name}{{{_M}{more}}}[$__rate_interval]))"


def _most(name: str, by: str = "") -> str:
    """Each api has it of the same database."""
    return f"max{f' by ({by})' if by else ''} (lg_api_{name}{{{_M}}})"


def _sum(name: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (lg_api_{name}{{{_M}}})"


def _quantiles(name: str, more: str = "") -> dict[str, str]:
    buckets = _rate(f"{name}_bucket", "le", more)
    return {f"p{q * 100:g}": f"histogram_quantile({q:g}, {buckets})" for q in (0.5, 0.95, 0.99)}


# Row -> panels: title, what it tells, unit, legend -> query.
ROWS: dict[str, list[tuple[str, str, str, dict[str, str]]]] = {
    "Runs": [
        ("Queue", "Runs that wait and that are under way, and the slots of the executors alive.", "short",
         {"waiting": _most("num_pending_runs"), "running": _most("num_running_runs"), "slots": _most("workers_max")}),
        ("Longest wait", "Of runs that an executor could take, and of all: these may wait for their thread.", "s",
         {"could start": _most("pending_unblocked_runs_wait_time_max_secs"),
          "any": _most("pending_runs_wait_time_max_secs")}),
        ("Wait for the first attempt", "From a run's turn to its start.", "ms",
         _quantiles("run_queue_wait_time_1st_attempt")),
        ("Ends of runs (internal)", "With EXPOSE_INTERNAL_METRICS_PROMETHEUS.", "ops",
         {"success": _rate("run_success_counter_total"),
          "{{status}}": _rate("run_failed_after_retry_counter_total", "status"),
          "cancelled": _rate("run_canceled_by_request_counter_total")}),
        ("Duration of runs (internal)", "From an attempt's start to its run's end.", "ms",
         _quantiles("run_execution_latency", ', status="success"')),
        ("Lost and handed back (internal)", "Attempts whose executor died, or was stopped.", "ops",
         {"lost": _rate("run_failed_retriable_counter_total"),
          "handed back": _rate("run_abandoned_by_shutdown_counter_total"),
          "no attempt left": _rate("run_exceed_max_attempts_at_start_counter_total"),
          "recursion limit": _rate("graph_recursion_limit_error_counter_total")}),
        ("Attempts of each executor", "Work of each executor process.", "short",
         {"{{instance}}": _sum("executor_attempts", "instance")}),
        ("Nodes left behind", "Nodes that still run in threads after their run was stopped.", "short",
         {"nodes": _most("nodes_left_behind")}),
        ("Started attempts (internal)", "Attempts that executors began.", "ops",
         {"started": _rate("run_attempt_started_counter_total")}),
    ],
    "Requests": [
        ("Requests", "By status.", "reqps", {"{{status}}": _rate("http_requests_total", "status")}),
        ("Latency of POST", "To the end of the response: streams last as long as their runs.", "ms",
         _quantiles("http_requests_latency", ', method="POST"')),
        ("Latency of GET", "To the end of the response.", "ms",
         _quantiles("http_requests_latency", ', method="GET"')),
        ("Busiest routes", "Requests per second.", "reqps",
         {"{{method}} {{path}}": f"topk(8, {_rate('http_requests_total', 'method, path')})"}),
        ("Slowest routes", "Mean of each route.", "ms",
         {"{{method}} {{path}}": f"topk(8, {_rate('http_requests_latency_sum', 'method, path')} / "
                                 f"{_rate('http_requests_latency_count', 'method, path')})"}),
        ("Clients of streams", "Requests that follow a thread's stream or wait for a run.", "short",
         {"{{instance}}": _sum("stream_clients", "instance")}),
    ],
    "The log": [
        ("Lag of partitions", "Commands that are not decided in the read models.", "short",
         {"{{partition}}": _most("partition_lag", "partition")}),
        ("Commands", "From a command's time to its projected events.", "ms", _quantiles("command_latency")),
        ("Commands decided", "And those decided to a rejection.", "ops",
         {"decided": _rate("command_latency_count"), "{{code}}": _rate("commands_rejected_total", "code")}),
        ("Fenced reports, epoch changes", "Attempts that were lost and went on; partitions that changed hands.", "ops",
         {"fenced": _rate("reports_fenced_total"), "epochs": _rate("partition_takeovers_total")}),
        ("Bytes per topic", "Given to the log, before compression.", "Bps",
         {"{{topic}}": _rate("appended_bytes_total", "topic")}),
        ("Appends of executors (internal)", "Of frames and reports, until they are in the log.", "ms",
         _quantiles("stream_publish_latency")),
        ("Must be 0", "Events that the read models lack, records that are none, listeners that do not hear.", "short",
         {"not projected": _most("events_not_projected"), "events unreadable": _most("events_unreadable"),
          "frames unreadable": _most("frames_unreadable"), "listeners deaf": _most("listeners_deaf")}),
    ],
    "Webhooks and crons": [
        ("Webhooks", "Attempts, by what became of them.", "ops",
         {"{{outcome}}": _rate("webhook_attempts_total", "outcome")}),
        ("Webhooks under way", "Many: receivers that hang.", "short",
         {"{{instance}}": _sum("webhooks_in_flight", "instance")}),
        ("Crons", "From the due time to the firing.", "ms",
         {**_quantiles("cron_delay"), "no run, per s": _rate("cron_runs_refused_total")}),
    ],
    "Postgres and processes": [
        ("Connections of the apis", "Of the pool: all, open, idle.", "short",
         {"most": _sum("pg_pool_max"), "open": _sum("pg_pool_size"), "idle": _sum("pg_pool_available")}),
        ("Requests and Postgres", "Those that waited for a connection, or had no answer of Postgres or the log.", "ops",
         {"waited": _rate("pg_pool_requests_queued_total"), "no answer": _rate("pg_pool_requests_errors_total"),
          "no runs fetched": _rate("failed_to_fetch_runs_counter_total")}),
        ("Memory", "Of each process.", "bytes", {"{{instance}}": f"process_resident_memory_bytes{{{_M}}}"}),
        ("CPU", "Cores, of each process.", "short",
         {"{{instance}}": f"rate(process_cpu_seconds_total{{{_M}}}[$__rate_interval])"}),
        ("Files", "Open files and connections of each process.", "short",
         {"{{instance}}": f"process_open_fds{{{_M}}}"}),
        ("Processes", "1: scraped, 0: not.", "short",
         {"{{instance}}": f"up{{{_M}}}",
          "stopping (internal)": _sum("server_requested_to_stop_counter_total"),
          "started (internal)": _sum("server_started_counter_total")}),
    ],
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row, cells in ROWS.items():
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row, "collapsed": False, "gridPos": place, "panels": []}
        )
        y += 1
        for n, cell in enumerate(cells):
            x = n * _WIDTH % _COLUMNS
            panels.append(_panel(len(panels) + 1, {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y}, *cell))
            if x + _WIDTH == _COLUMNS or n == len(cells) - 1:
                y += _HEIGHT
    return {
        "uid": "threadlog",
        "title": "threadlog",
        "description": "Runs, requests, the log, webhooks and crons, Postgres (docs/monitoring.md).",
        "tags": ["threadlog"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_data_source(), _label("job", "up"), _label("instance", 'up{job=~"$job"}')]},
        "panels": panels,
    }


def _panel(
    id: int, place: dict[str, int], title: str, tells: str, unit: str, queries: dict[str, str]
) -> dict[str, Any]:
    return {
        "id": id,
        "type": "timeseries",
        "title": title,
        "description": tells,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"showPoints": "never"}}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for n, (legend, query) in enumerate(queries.items())
        ],
    }


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _label(label: str, of: str) -> dict[str, Any]:
    query = f"label_values({of}, {label})"
    start = {"text": "threadlog", "value": "threadlog"} if label == "job" else {"text": "All", "value": "$__all"}
    return {
        "name": label, "type": "query", "datasource": _SOURCE, "definition": query, "multi": True, "includeAll": True,
        "allValue": ".+", "current": start, "refresh": 2, "query": {"query": query, "refId": label},
    }  # fmt: skip


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
