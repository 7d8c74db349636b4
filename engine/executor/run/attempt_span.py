"""The span of an attempt, and those of its nodes: current where these run, so that what they trace is below them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.errors import GraphBubbleUp
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from threadlog.engine.executor.checkpointer.retrying_pool import RetryingPool
from threadlog.engine.executor.queue import Claim
from threadlog.engine.executor.run.tracing import langsmith_makes_spans
from threadlog.engine.tracing.spans import Spans, attempt_span_id

logger = logging.getLogger(__name__)

# The run that has left the newest checkpoint, and so what a resumed run goes on with.
_BEFORE = """
SELECT r.run_id::text, r.attempt, r.kwargs->>'trace' FROM checkpoints c LEFT JOIN runs r USING (run_id)
WHERE c.thread_id = $1 AND c.ns = '' ORDER BY c.checkpoint_id DESC LIMIT 1
"""
_NAMES = {"run": "attempt", "state_update": "state update"}


class AttemptSpan:
    """Begun in the attempt's task, whose current span it is from then on. `trace`: its context as text."""

    def __init__(self, spans: Spans, claim: Claim) -> None:
        self._spans, self._claim = spans, claim
        parent = spans.context(claim.trace)
        attributes = _attributes(claim)
        links = []
        if claim.attempt > 1:
            before = attempt_span_id(claim.run_id, claim.attempt - 1)
            links = spans.link(claim.trace, before, "previous attempt")
        elif (since := _waiting_since(claim)) is not None:
            spans.start("run queued", parent, attributes=attributes, start_ns=since).end()
        self._span = spans.start(
            f"{_NAMES[claim.kind]} {claim.graph_id}",
            parent,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
            span_id=attempt_span_id(claim.run_id, claim.attempt),
        )
        self._context = set_span_in_context(self._span, parent)
        otel_context.attach(self._context)
        self.trace = spans.text(self._context)
        self._nodes: NodeSpans | None = None

    def nodes(self) -> BaseCallbackHandler | None:
        """A callback handler that makes the spans of nodes; None where LangSmith makes them."""
        if self._span.is_recording() and not langsmith_makes_spans():
            self._nodes = NodeSpans(self._spans, self._context)
        return self._nodes

    async def link_resumed(self, pool: RetryingPool) -> None:
        """Link to the attempt whose question this run answers, or whose end it continues."""
        if not self._span.is_recording():
            return
        try:
            row = await pool.fetchrow(_BEFORE, self._claim.thread_id)
        except (asyncpg.PostgresError, OSError) as error:  # a run does not fail for its trace
            logger.debug("run %s: what it resumes is not known: %s", self._claim.run_id, error)
            return
        if row is None or row[0] is None or row[0] == self._claim.run_id:
            return
        for link in self._spans.link(row[2], attempt_span_id(row[0], row[1]), "resumed run"):
            self._span.add_link(link.context, link.attributes)

    def end(
        self, status: str, error: Mapping[str, Any] | None = None, usage: Mapping[str, Mapping[str, int]] | None = None
    ) -> None:
        """`status`, `error`, `usage`: of the attempt's outcome."""
        if self._nodes is not None:
            self._nodes.end_all()
        self._span.set_attribute("threadlog.status", status)
        for kind in ("input_tokens", "output_tokens") if usage else ():
            self._span.set_attribute(f"gen_ai.usage.{kind}", sum(of.get(kind, 0) for of in (usage or {}).values()))
        if status in ("error", "timeout"):
            self._span.set_status(Status(StatusCode.ERROR, str((error or {}).get("error") or status)))
            self._span.add_event(
                "exception",
                {
                    "exception.type": str((error or {}).get("error") or ""),
                    "exception.message": str((error or {}).get("message") or ""),
                },
            )
        self._span.end()


def _attributes(claim: Claim) -> dict[str, str | int]:
    return {
        "threadlog.run_id": claim.run_id,
        "threadlog.thread_id": claim.thread_id,
        "threadlog.graph_id": claim.graph_id,
        "threadlog.assistant_id": claim.assistant_id or "",
        "threadlog.attempt": claim.attempt,
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": claim.graph_id,
        "gen_ai.conversation.id": claim.thread_id,
    }


def _waiting_since(claim: Claim) -> int | None:
    """When the run came, or was due, in nanoseconds since the epoch: its id has the time (UUIDv7). None: not known."""
    id_ = UUID(claim.run_id)
    if claim.kind != "run" or id_.version != 7:
        return None
    configurable = (claim.kwargs.get("config") or {}).get("configurable") or {}
    delay = configurable.get("__after_seconds__")
    since = (id_.int >> 80) * 1_000_000
    if isinstance(delay, int | float) and delay > 0:
        since += int(delay * 1e9)
    return min(since, time.time_ns())


class NodeSpans(BaseCallbackHandler):
    """A span per task of the graph and its subgraphs, current where its node runs. Any thread."""

    run_inline = True  # in the node's own task: what is made current there stays so
    ignore_llm = ignore_chat_model = ignore_retriever = ignore_agent = ignore_retry = ignore_custom_event = True

    def __init__(self, spans: Spans, attempt: Context) -> None:
        self._spans, self._attempt = spans, attempt
        self._open: dict[str, tuple[Span, Context, Context]] = {}  # by namespace: the span, with it, and before it
        self._namespaces: dict[UUID, str] = {}
        self._lock = threading.Lock()

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not metadata or (namespace := metadata.get("langgraph_checkpoint_ns")) is None:
            return
        node = metadata.get("langgraph_node")
        if not isinstance(namespace, str) or kwargs.get("name") != node:
            return
        with self._lock:
            if namespace in self._open:
                return
            outer = self._open.get(namespace.rpartition("|")[0])
            parent = self._attempt if outer is None else outer[1]
            span = self._spans.start(
                f"node {node}",
                parent,
                attributes={
                    "threadlog.node": str(node),
                    "threadlog.step": int(metadata.get("langgraph_step") or 0),
                    "threadlog.namespace": namespace,
                },
            )
            within = set_span_in_context(span, parent)
            self._open[namespace] = (span, within, otel_context.get_current())
            self._namespaces[run_id] = namespace
        otel_context.attach(within)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, error)

    def end_all(self) -> None:
        """The attempt ends: the spans of nodes that were stopped, or still run in their threads, end with it."""
        with self._lock:
            left, self._open = self._open, {}
            self._namespaces.clear()
        for span, _, _ in left.values():
            span.end()

    def _end(self, run_id: UUID, error: BaseException | None) -> None:
        with self._lock:
            namespace = self._namespaces.pop(run_id, None)
            entry = None if namespace is None else self._open.pop(namespace, None)
        if entry is None:
            return
        span, _, before = entry
        if isinstance(error, GraphBubbleUp):
            span.set_attribute("threadlog.interrupted", True)
        elif isinstance(error, Exception):
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        span.end()
        # LangGraph runs the only task of a superstep where the next ones run, too. Not `detach`, which would complain
        # in another context.
        otel_context.attach(before)
