"""OpenTelemetry spans; trace contexts as text (a W3C traceparent, then a space and the tracestate if there is one)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from hashlib import blake2b

from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from threadlog.engine.tracing.active import TRACE_CHARACTERS

_PARENT, _STATE = "traceparent", "tracestate"
_MOST_STATE = TRACE_CHARACTERS - 56
_W3C = TraceContextTextMapPropagator()
_chosen_id: ContextVar[int | None] = ContextVar("threadlog_span_id", default=None)


class SpanIds(RandomIdGenerator):
    """Random ids, but for a span whose id was chosen: other processes can link to it without being told."""

    def generate_span_id(self) -> int:
        return _chosen_id.get() or super().generate_span_id()


def attempt_span_id(run_id: str, attempt: int) -> int:
    """The id of the span of a run's attempt, the same wherever it is computed."""
    digest = blake2b(f"{run_id}:{attempt}".encode(), digest_size=8, person=b"attempt").digest()
    return int.from_bytes(digest, "big") or 1


class Spans:
    """Starts the spans of this process, as one tracer of `provider`."""

    def __init__(self, provider: TracerProvider, version: str = "") -> None:
        self._tracer = provider.get_tracer("threadlog", version)

    def start(
        self,
        name: str,
        parent: Context,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        links: Sequence[Link] = (),
        start_ns: int | None = None,
        span_id: int | None = None,
    ) -> Span:
        """A span, not made current. `start_ns`: since the epoch, None is now; `span_id`: if it must not be random."""
        token = None if span_id is None else _chosen_id.set(span_id)
        try:
            return self._tracer.start_span(
                name, parent, kind=kind, attributes=attributes, links=links, start_time=start_ns
            )
        finally:
            if token is not None:
                _chosen_id.reset(token)

    def current(self) -> str | None:
        """The current context as text; None outside of any trace."""
        return self.text(otel_context.get_current())

    def text(self, context: Context) -> str | None:
        """This context as text; None outside of any trace."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, context)
        if _PARENT not in carrier:
            return None
        state = carrier.get(_STATE, "")
        return f"{carrier[_PARENT]} {state}" if state and len(state) <= _MOST_STATE else carrier[_PARENT]

    def context(self, text: str | None) -> Context:
        """The context of a text, as the parent of a span; an empty one for None and for what is no trace context."""
        if not isinstance(text, str):
            return Context()
        parent, _, state = text.partition(" ")
        return self.received(parent, state)

    def received(self, parent: str, state: str) -> Context:
        """The context of a client's headers; an empty one, which begins a trace, where they hold none."""
        carrier = {_PARENT: parent}
        if state and len(state) <= _MOST_STATE and state.isascii():
            carrier[_STATE] = state
        return _W3C.extract(carrier, Context())

    def headers(self) -> dict[str, str]:
        """The headers that hand the current context on to another server; none outside of any trace."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier

    def ids(self) -> dict[str, str]:
        """`trace_id` and `span_id` of the current span in hex; empty outside of any trace."""
        span = otel.get_current_span().get_span_context()
        if not span.is_valid:
            return {}
        return {"trace_id": otel.format_trace_id(span.trace_id), "span_id": otel.format_span_id(span.span_id)}

    def link(self, text: object, span_id: int, why: str) -> list[Link]:
        """A link to a span of the trace that this text is of; none if it is of none."""
        there = otel.get_current_span(self.context(text if isinstance(text, str) else None)).get_span_context()
        if not there.is_valid:
            return []
        target = SpanContext(there.trace_id, span_id, True, there.trace_flags, there.trace_state)
        return [Link(target, {"threadlog.link": why})]


def nanoseconds(at: str) -> int | None:
    """A time (ISO-8601) as spans have it, None if it is none."""
    try:
        return int(datetime.fromisoformat(at).timestamp() * 1e9)
    except ValueError:
        return None
