"""Spans of commands: from the time of a command to its events in the read models, in the trace of what has sent it."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from threadlog.engine.log.records import EventRecord
from threadlog.engine.tracing.spans import Spans, nanoseconds


class CommandSpans:
    """An `engine.processor.ports.EventListener`. Commands without a trace, such as those of timers, have no span."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        if record.trace is None:
            return
        types = list(dict.fromkeys(event["type"] for event in record.events))
        name = next((type_ for type_ in types if type_.startswith("run.")), types[0] if types else "nothing")
        self._spans.start(
            f"decide {name}",
            self._spans.context(record.trace),
            kind=SpanKind.CONSUMER,
            start_ns=nanoseconds(record.at),
            attributes={
                "threadlog.command_id": record.cmd_id,
                "threadlog.key": record.key,
                "threadlog.events": types,
                "threadlog.partition": partition,
                "threadlog.offset": offset,
            },
        ).end()
