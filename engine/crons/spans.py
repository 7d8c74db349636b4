"""The span that begins the trace of a cron's run: a firing has no request that it could belong to."""

from __future__ import annotations

from dataclasses import replace

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from threadlog.engine.crons.ports import Firing
from threadlog.engine.domain.commands import CreateRun
from threadlog.engine.tracing.spans import Spans


class FiringSpan:
    """A span of a trace of its own, the current one of the task that makes it."""

    def __init__(self, spans: Spans, firing: Firing) -> None:
        self._span = spans.start(
            "cron",
            Context(),
            attributes={
                "threadlog.cron_id": firing.cron_id,
                "threadlog.due_at": firing.due_at,
                "threadlog.run_id": firing.run_id,
                "threadlog.thread_id": firing.thread_id,
            },
        )
        context = set_span_in_context(self._span, Context())
        self._trace = spans.text(context)
        otel_context.attach(context)

    def carried(self, command: CreateRun) -> CreateRun:
        """The run's command, with this trace to go on with."""
        return replace(command, run={**command.run, "kwargs": {**command.run["kwargs"], "trace": self._trace}})

    def end(self, error: str | None) -> None:
        """`error`: why there is no run."""
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()
