"""Meter of projected events: queue waits, run times, outcomes, rejections, as metrics of the process that decides."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from threadlog.engine.log.records import EventRecord
from threadlog.engine.metrics import METRICS, ProcessMetrics

_REMEMBERED = 100_000  # attempts under way whose times are kept
_METERED = frozenset(
    {
        "run.scheduled",
        "run.started",
        "run.succeeded",
        "run.failed",
        "run.timed_out",
        "run.interrupted",
        "run.rolled_back",
        "run.deleted",
        "run.lease_expired",
        "run.released",
        "report.fenced",
        "cron.fired",
        "cron.run_refused",
        "command.rejected",
    }
)


class EventMeter:
    """An `engine.processor.ports.EventListener`; it counts each record once."""

    def __init__(self, metrics: ProcessMetrics = METRICS) -> None:
        self._metrics = metrics
        self._scheduled: dict[str, tuple[int, str]] = {}
        self._started: dict[str, str] = {}

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        if record.imported:
            return
        metrics, at = self._metrics, record.at
        if (sent := _seconds(at)) is not None:
            metrics.observe("command_latency", max(0.0, (time.time() - sent) * 1000))
        for event in record.events:
            if (kind := event["type"]) not in _METERED:  # a batch of puts has many events
                continue
            match kind:
                case "run.scheduled":
                    if event.get("kind", "run") == "run" and len(self._scheduled) < _REMEMBERED:
                        self._scheduled[event["run_id"]] = (event["attempt"], at)
                case "run.started":
                    self._begun(event, at)
                case "run.succeeded":
                    self._ended(event, at, "run_success_counter", "success")
                case "run.failed":
                    error = event["error"].get("error") if isinstance(event["error"], dict) else None
                    if error == "GraphRecursionError":
                        metrics.count("graph_recursion_limit_error_counter")
                    elif error == "RunAttemptsExhausted":
                        metrics.count("run_exceed_max_attempts_at_start_counter")
                    self._ended(event, at, "run_failed_after_retry_counter", "error", "error")
                case "run.timed_out":
                    self._ended(event, at, "run_failed_after_retry_counter", "timeout", "timeout")
                case "run.interrupted":
                    self._ended(event, at, "run_canceled_by_request_counter", "interrupted")
                case "run.rolled_back":
                    self._ended(event, at, "run_canceled_by_request_counter", "rollback")
                case "run.deleted":
                    self._forget(event["run_id"])
                case "run.lease_expired":
                    metrics.count("run_failed_retriable_counter")
                case "run.released":
                    metrics.count("run_abandoned_by_shutdown_counter")
                case "report.fenced":
                    metrics.count("reports_fenced")
                case "cron.fired":
                    if (late := _between(event["due_at"], at)) is not None:
                        metrics.observe("cron_delay", late)
                case "cron.run_refused":
                    metrics.count("cron_runs_refused")
                case "command.rejected":
                    metrics.count("commands_rejected", event["code"])

    def _begun(self, event: Mapping[str, Any], at: str) -> None:
        run_id = str(event["run_id"])
        self._metrics.count("run_attempt_started_counter")
        started = event.get("at")
        began = started if isinstance(started, str) else at
        attempt, scheduled_at = self._scheduled.pop(run_id, (0, ""))
        if attempt and (waited := _between(scheduled_at, began)) is not None:
            which = "1st" if attempt == 1 else "retry"
            self._metrics.observe(f"run_queue_wait_time_{which}_attempt", waited)
        if len(self._started) < _REMEMBERED:
            self._started[run_id] = began

    def _ended(self, event: Mapping[str, Any], at: str, counter: str, status: str, label: str = "") -> None:
        self._metrics.count(counter, label)
        began = self._forget(str(event["run_id"]))
        if began is not None and (took := _between(began, at)) is not None:
            self._metrics.observe("run_execution_latency", took, status)

    def _forget(self, run_id: str) -> str | None:
        self._scheduled.pop(run_id, None)
        return self._started.pop(run_id, None)


def _seconds(at: str) -> float | None:
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return None


def _between(start: str, end: str) -> float | None:
    """Milliseconds; the clocks may be two processes'."""
    first, last = _seconds(start), _seconds(end)
    return None if first is None or last is None else max(0.0, (last - first) * 1000)
