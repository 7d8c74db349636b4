"""The span of one POST of a webhook, in the trace of its run."""

from __future__ import annotations

from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from threadlog.engine.tracing.spans import Spans
from threadlog.engine.webhooks.ports import DueWebhook
from threadlog.engine.webhooks.sender import Delivery


def begin(spans: Spans, due: DueWebhook, trace: str | None) -> Span:
    """A span that is the task's current one from now on."""
    parent = spans.context(trace)
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "server.address": due.receiver,
        "threadlog.run_id": due.run_id,
        "threadlog.thread_id": due.thread_id,
        "threadlog.attempt": due.attempt,
    }
    span = spans.start("webhook", parent, kind=SpanKind.CLIENT, attributes=attributes)
    otel_context.attach(set_span_in_context(span, parent))
    return span


def end(span: Span, delivery: Delivery) -> None:
    if delivery.status is not None:
        span.set_attribute("http.response.status_code", delivery.status)
    if delivery.outcome != "delivered":
        span.set_status(Status(StatusCode.ERROR, delivery.reason or f"HTTP {delivery.status}"))
    span.end()
