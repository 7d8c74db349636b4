"""Metrics of a process at a port of its own (`LSD_PROM_METRICS_PORT`), so that engines and executors have some, too."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from threadlog.deploy.logs import PROCESS_NAME
from threadlog.deploy.settings import Settings
from threadlog.engine.metrics import METRICS

log = logging.getLogger("threadlog")


class _ProcessFamilies(Collector):
    def __init__(self, prefix: str, internal: bool) -> None:
        self._prefix, self._internal = prefix, internal

    def collect(self) -> Iterator[Metric]:
        return METRICS.families(self._prefix, internal=self._internal)


def port_of(settings: Settings) -> int:
    """Of this process: under `threadlog up` the api has the port itself, the engine the next if it is another process,
    and the executors those after it by their number."""
    name = os.environ.get(PROCESS_NAME, "")
    number = re.fullmatch(r"executor-(\d+)", name)
    return settings.lsd_prom_metrics_port + (1 + int(number[1]) if number else 1 if name == "engine" else 0)


@contextmanager
def exposed_metrics(settings: Settings) -> Iterator[None]:
    """Serve `GET /metrics`, from a thread, while this lasts; a port that is taken is a warning."""
    METRICS.count("server_started_counter")
    if not settings.lsd_prom_metrics_enabled:
        yield
        return
    registry = CollectorRegistry(target_info={"service_name": "threadlog"})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_ProcessFamilies(settings.metric_prefix, settings.expose_internal_metrics_prometheus))
    try:
        server, thread = start_http_server(port_of(settings), settings.host, registry)
    except OSError as error:
        log.warning("metrics can't be served at port %d: %s", port_of(settings), error)
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        assert isinstance(thread, Thread)
        thread.join(5)
        server.server_close()
