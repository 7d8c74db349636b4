"""The spans of this process, if it makes any. Imports no OpenTelemetry; without traces it costs one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadlog.engine.tracing.spans import Spans

TRACE_CHARACTERS = 568
"""Of a trace context as text: 55 of the traceparent, a space, 512 of the tracestate (W3C Trace Context, 3.3.1.5)."""

_spans: Spans | None = None


def install(spans: Spans | None) -> None:
    """From now on this process makes these spans (None: it makes none)."""
    global _spans
    _spans = spans


def active() -> Spans | None:
    """The spans of this process; None where nothing is traced."""
    return _spans


def current() -> str | None:
    """The trace context of the current task or thread, as text; None where nothing is traced."""
    return None if _spans is None else _spans.current()
