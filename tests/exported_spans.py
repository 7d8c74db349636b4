"""The spans that this process makes, as they would be sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id

from tests.waiting import eventually
from threadlog.engine.tracing import active
from threadlog.engine.tracing.spans import SpanIds, Spans


class Exported:
    """What was exported so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    async def attempt(self, run_id: str, number: int = 1) -> ReadableSpan:
        """The span of an attempt, once it has ended."""
        wanted = {"threadlog.run_id": run_id, "threadlog.attempt": number}.items()

        def found() -> list[ReadableSpan]:
            return [s for s in self.all() if s.name.startswith("attempt ") and wanted <= (s.attributes or {}).items()]

        return (await eventually(found))[0]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def below(self, span: ReadableSpan) -> dict[str, ReadableSpan]:
        return {s.name: s for s in self.all() if s.parent is not None and id_of(s.parent) == id_of(span.context)}


@contextmanager
def exported_spans() -> Iterator[InMemorySpanExporter]:
    """This process makes spans while this is open."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=SpanIds(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    active.install(Spans(provider))
    try:
        yield exporter
    finally:
        active.install(None)
        provider.shutdown()


def id_of(context: Any) -> str:
    return format_span_id(context.span_id)
