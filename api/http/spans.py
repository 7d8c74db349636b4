"""The span of a request, in its client's trace (W3C `traceparent`, `tracestate`) or one of its own."""

from __future__ import annotations

from aiohttp import web
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from threadlog.api.http.requests import header
from threadlog.api.settings import SETTINGS
from threadlog.engine.domain.text import storable
from threadlog.engine.tracing.spans import Spans

# Asked for all the time, by machines.
_UNTRACED = frozenset({"/ok", "/metrics", "/info"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestSpan:
    """Current from `begin` to `end`, which are called in the same task."""

    def __init__(self, span: Span, context: otel_context.Context) -> None:
        self._span, self._token = span, otel_context.attach(context)

    @staticmethod
    def begin(spans: Spans, request: web.Request, route: str, request_id: str) -> RequestSpan | None:
        """None for requests that are not worth a span."""
        if request.path in _UNTRACED or route.removeprefix(request.app[SETTINGS].mount_prefix) in _UNTRACED:
            return None
        parent = spans.received(header(request, "traceparent"), header(request, "tracestate"))
        method = request.method if request.method in _METHODS else "_OTHER"
        span = spans.start(
            f"{method} {route}",
            parent,
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "http.route": route,
                "url.path": storable(request.path),
                "threadlog.request_id": request_id,
            },
        )
        return RequestSpan(span, set_span_in_context(span, parent))

    def end(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
        otel_context.detach(self._token)
