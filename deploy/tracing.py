"""OpenTelemetry in this process, as its standard environment variables say. Off unless one of them names a receiver."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

from threadlog.deploy.extras import TRACING
from threadlog.deploy.logs import PROCESS_NAME
from threadlog.engine.tracing import active

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger("threadlog")

STOP_SECONDS = 2.0
"""How long the end of a process waits for the spans that are still to be sent."""

COMPLAINT_SECONDS = 60.0
"""Between two lines of an exporter whose receiver is away: it tries again, and says so, every second or two."""

_COMPLAINING = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",  # of each span that finds the queue full
)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def exporters_wanted(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of exporters: those of OTEL_TRACES_EXPORTER, else `otlp` where an endpoint is given. Empty: no traces."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if not named:
        return ["otlp"] if any(environment.get(name, "").strip() for name in _ENDPOINTS) else []
    return [name for part in named.split(",") if (name := part.strip()) not in ("", "none")]


@contextmanager
def traced(role: str) -> Iterator[None]:
    """Make traces while this is open, if the environment wants them. `role`: of a process without a name.

    An application that has made a provider of its own by then keeps it, with its exporters: the server's spans go
    there, too.
    """
    exporters = exporters_wanted()
    if not exporters:
        yield
        return
    if not TRACING.installed:
        log.warning("no traces are made: %s", TRACING.missing)
        yield
        return
    from opentelemetry import trace as otel
    from opentelemetry.sdk.trace import TracerProvider

    from threadlog.engine.tracing.spans import Spans

    provider = otel.get_tracer_provider()
    own = None
    if not isinstance(provider, TracerProvider):
        provider = own = provider_of(role, exporters)
        otel.set_tracer_provider(provider)
    active.install(Spans(provider, version("threadlog")))
    try:
        yield
    finally:
        active.install(None)
        if own is not None:
            shut_down(own)


def provider_of(role: str, exporters: list[str]) -> TracerProvider:
    """A provider that sends to these exporters, in a thread of each."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from threadlog.engine.tracing.spans import SpanIds

    attributes: dict[str, str | int] = {
        "threadlog.process": os.environ.get(PROCESS_NAME) or role,
        "process.pid": os.getpid(),
    }
    named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").replace(" ", "")
    if not named and not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = "threadlog"
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False, id_generator=SpanIds())
    for logger in _COMPLAINING:
        logging.getLogger(logger).addFilter(_Seldom())
    for name in exporters:
        try:
            exporter = _exporter(name)
        except Exception as error:  # a library of others, and no reason not to serve
            log.warning("OTEL_TRACES_EXPORTER: %s can't be used: %s", name, error)
        else:
            provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class _Seldom(logging.Filter):
    """Lets a line through, and then none for some time."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created < self._next:
            return False
        self._next = record.created + COMPLAINT_SECONDS
        return True


def _exporter(name: str) -> SpanExporter:
    """`otlp` is OTLP over HTTP, unless OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`; others are what is installed here."""
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if name == "otlp" and protocol != "grpc":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    name = "otlp_proto_grpc" if name == "otlp" else name
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise LookupError("no exporter of this name is installed")
    exporter: SpanExporter = found[0].load()()
    return exporter


def shut_down(provider: TracerProvider) -> None:
    """Send what is left. A receiver that is away, or hangs, does not keep the process."""
    thread = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
    thread.start()
    thread.join(STOP_SECONDS)
