"""Request metrics: counts and latencies as plain numbers; a request costs two dictionary updates."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from threadlog.engine.metrics import METRICS

LATENCY_BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000)

_Key = tuple[str, str, int]


class HttpMetrics:
    """What has been served so far, by method, route and status."""

    def __init__(self) -> None:
        self.requests: dict[_Key, int] = {}
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def observe(self, method: str, path: str, status: int, milliseconds: float) -> None:
        key = (method, path, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        route = (method, path)
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(LATENCY_BUCKETS_MS) + 1)
            self._sums[route] = 0.0
        buckets[bisect_left(LATENCY_BUCKETS_MS, milliseconds)] += 1
        self._sums[route] += milliseconds

    def families(self, prefix: str) -> Iterator[Metric]:
        total = CounterMetricFamily(
            f"{prefix}http_requests_total", "HTTP requests served", labels=("method", "path", "status")
        )
        for (method, path, status), count in self.requests.items():
            total.add_metric((method, path, str(status)), count)
        yield total
        latency = HistogramMetricFamily(
            f"{prefix}http_requests_latency", "Time to the end of the response, milliseconds", labels=("method", "path")
        )
        for (method, path), counts in self._buckets.items():
            running, rows = 0, []
            for bound, count in zip((*map(str, LATENCY_BUCKETS_MS), "+Inf"), counts, strict=True):
                running += count
                rows.append((bound, running))
            latency.add_metric((method, path), rows, sum_value=self._sums[method, path])
        yield latency


class Scrape(Collector):
    """The families of one scrape: what was counted here and what was asked of the database beforehand."""

    def __init__(
        self,
        http: HttpMetrics,
        prefix: str,
        gauges: dict[str, float],
        labelled: Mapping[str, Mapping[str, float]],
        *,
        internal: bool,
    ) -> None:
        """`labelled`: gauges of `engine.metrics.DEFINED`."""
        self._http, self._prefix, self._gauges, self._internal = http, prefix, gauges, internal
        self._labelled = labelled

    def collect(self) -> Iterator[Metric]:
        yield from self._http.families(self._prefix)
        yield from METRICS.families(self._prefix, internal=self._internal, gauges=self._labelled)
        for name, value in self._gauges.items():
            yield GaugeMetricFamily(f"{self._prefix}{name}", name.replace("_", " "), value=value)
