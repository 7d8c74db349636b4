"""Metrics of this process: counts and distributions that its parts add to, and what each of them means.

Names and meanings are in `DEFINED`; docs/monitoring.md lists the same (a test compares). To add to one costs a
dictionary update, so that commands and appends may. `families` turns them into what Prometheus reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 3_600_000)


@dataclass(frozen=True, slots=True)
class Definition:
    """`label`: its label, if it has one. `internal`: shown with EXPOSE_INTERNAL_METRICS_PROMETHEUS, as on LangGraph
    Server. `values`: of the label, those that are shown from the beginning: Prometheus sees no increase in a counter
    that appears with 1."""

    kind: Literal["counter", "histogram", "gauge"]
    help: str
    label: str | None = None
    internal: bool = False
    values: tuple[str, ...] = ()


DEFINED: Mapping[str, Definition] = {
    # LangGraph Server's
    "run_queue_wait_time_1st_attempt": Definition("histogram", "From a run's turn to its first attempt's start, ms"),
    "run_queue_wait_time_retry_attempt": Definition("histogram", "The same of later attempts, ms", internal=True),
    "run_execution_latency": Definition("histogram", "From an attempt's start to its run's end, ms", "status", True),
    "run_attempt_started_counter": Definition("counter", "Attempts that executors began", internal=True),
    "run_success_counter": Definition("counter", "Runs that succeeded", internal=True),
    "run_canceled_by_request_counter": Definition("counter", "Runs cancelled or superseded", internal=True),
    "run_failed_retriable_counter": Definition("counter", "Attempts lost with their executor", internal=True),
    "run_failed_after_retry_counter": Definition(
        "counter", "Runs that failed or timed out", "status", True, ("error", "timeout")
    ),
    "run_abandoned_by_shutdown_counter": Definition(
        "counter", "Attempts handed back by draining executors", None, True
    ),
    "run_exceed_max_attempts_at_start_counter": Definition(
        "counter", "Runs that failed as too many attempts were lost", internal=True
    ),
    "failed_to_fetch_runs_counter": Definition("counter", "Looks for runs that Postgres did not answer", internal=True),
    "stream_publish_latency": Definition(
        "histogram", "From an append of frames and reports to its place in the log, ms", internal=True
    ),
    "server_started_counter": Definition("counter", "Starts of this process: 1", internal=True),
    "server_requested_to_stop_counter": Definition(
        "counter", "1 once this process has been told to stop", internal=True
    ),
    "graph_recursion_limit_error_counter": Definition("counter", "Runs over the recursion limit", internal=True),
    "pg_pool_requests_queued": Definition("counter", "Requests that waited for a connection to Postgres"),
    "pg_pool_requests_errors": Definition("counter", "Requests that Postgres, or the log, did not answer"),
    # threadlog's own
    "command_latency": Definition("histogram", "From a command's time to its projected events, ms"),
    "commands_rejected": Definition("counter", "Commands decided to a rejection", "code"),
    "reports_fenced": Definition("counter", "Reports of attempts that are not the current one"),
    "partition_takeovers": Definition("counter", "Terms begun: each raises a partition's epoch"),
    "partition_lag": Definition("gauge", "Commands in the log that are not decided in the read models", "partition"),
    "appended_bytes": Definition("counter", "Bytes this process gave to the log, uncompressed", "topic"),
    "stream_clients": Definition("gauge", "Requests that follow a thread's stream or wait for a run"),
    "executor_attempts": Definition("gauge", "Attempts that this executor works on"),
    "webhook_attempts": Definition(
        "counter", "Attempts to deliver a webhook", "outcome", values=("delivered", "failed", "dead")
    ),
    "cron_delay": Definition("histogram", "From a cron's due time to its firing, ms"),
    "cron_runs_refused": Definition("counter", "Firings of crons that have no run"),
    "webhooks_in_flight": Definition("gauge", "Attempts to deliver a webhook under way"),
}


class Histogram:
    """Milliseconds in buckets."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_MS) + 1)
        self.sum = 0.0

    def observe(self, milliseconds: float) -> None:
        self.counts[bisect_left(BUCKETS_MS, milliseconds)] += 1
        self.sum += milliseconds

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: cumulated."""
        running, rows = 0, []
        for bound, count in zip((*map(str, BUCKETS_MS), "+Inf"), self.counts, strict=True):
            running += count
            rows.append((bound, float(running)))
        return rows


class ProcessMetrics:
    """By name and label value ("" without a label). `gauges` are functions, called at a scrape, by name."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.histograms: dict[tuple[str, str], Histogram] = {}
        self.gauges: dict[str, Callable[[], Mapping[str, float]]] = {}

    def count(self, name: str, label: str = "", amount: float = 1) -> None:
        self.counts[name, label] += amount  # type: ignore[assignment]

    def observe(self, name: str, milliseconds: float, label: str = "") -> None:
        histogram = self.histograms.get((name, label))
        if histogram is None:
            histogram = self.histograms[name, label] = Histogram()
        histogram.observe(milliseconds)

    def families(
        self, prefix: str, *, internal: bool, gauges: Mapping[str, Mapping[str, float]] | None = None
    ) -> Iterator[Metric]:
        """Every metric of `DEFINED` that this process has to do with; with a label, what was not 0 so far.

        `gauges`: values that were asked for beforehand.
        """
        read = {**{name: function() for name, function in self.gauges.items()}, **(gauges or {})}
        for name, defined in DEFINED.items():
            if defined.internal and not internal:
                continue
            labels = () if defined.label is None else (defined.label,)
            if defined.kind == "gauge":
                if name not in read:
                    continue
                gauge = GaugeMetricFamily(prefix + name, defined.help, labels=labels)
                for label, value in sorted(read[name].items()):
                    gauge.add_metric(() if defined.label is None else (label,), value)
                yield gauge
            elif defined.kind == "counter":
                counter = CounterMetricFamily(prefix + name, defined.help, labels=labels)
                found = {label: count for (of, label), count in sorted(self.counts.items()) if of == name}
                found = dict.fromkeys(defined.values, 0) | found
                for label, count in (found or ({"": 0} if defined.label is None else {})).items():
                    counter.add_metric(() if defined.label is None else (label,), count)
                yield counter
            else:
                family = HistogramMetricFamily(prefix + name, defined.help, labels=labels)
                some = {label: h for (of, label), h in sorted(self.histograms.items()) if of == name}
                for label, one in (some or ({"": Histogram()} if defined.label is None else {})).items():
                    family.add_metric(() if defined.label is None else (label,), one.buckets(), sum_value=one.sum)
                yield family


METRICS = ProcessMetrics()
"""Of this process."""
