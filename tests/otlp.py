"""A receiver of OpenTelemetry spans, OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class SentSpan:
    """A span as its receiver reads it; ids in hex, `parent_id` "" of a root."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[tuple[str, str]]
    is_error: bool


@dataclass
class SpanReceiver:
    """What it was sent so far."""

    url: str = ""
    spans: list[SentSpan] = field(default_factory=list)

    def where(self, wanted: Callable[[SentSpan], bool]) -> list[SentSpan]:
        return [span for span in list(self.spans) if wanted(span)]

    def of_trace(self, trace_id: str) -> list[SentSpan]:
        return self.where(lambda span: span.trace_id == trace_id)


@contextmanager
def span_receiver() -> Iterator[SpanReceiver]:
    """Listens on loopback while it is open."""
    received = SpanReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            received.spans += spans_in(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spans_in(body: bytes) -> list[SentSpan]:
    """The spans in the body of an export."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return [
        SentSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes=_values(span.attributes),
            resource=_values(of_resource.resource.attributes),
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        )
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return None if kind is None else getattr(value, kind)
