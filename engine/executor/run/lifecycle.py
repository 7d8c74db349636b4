"""Starts and ends of subgraphs: the `lifecycle` mode.

LangGraph does not tell of them. A subgraph has started with its first event; it has ended when what called it has: the
tool call, if a tool did, else the task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langgraph.errors import GraphBubbleUp, GraphInterrupt

from threadlog.engine.executor.run.tool_calls import tool_call

Namespace = tuple[str, ...]
Error = dict[str, Any]
Tell = Callable[[Namespace, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class _Subgraph:
    """`tool_run`: the callbacks' id of the tool call that has called it."""

    tool_call_id: str | None = None
    tool_run: UUID | None = None


class Lifecycle:
    """Tells `started`, then `completed`, `failed` or `interrupted` of every subgraph at every depth, inner ones first.

    `describe` makes `{error, message}` of an exception. Any thread.
    """

    def __init__(self, tell: Tell, describe: Callable[[BaseException], Error]) -> None:
        self._tell, self._describe = tell, describe
        self._open: dict[Namespace, _Subgraph] = {}
        self._lock = threading.RLock()

    def observe(self, ns: Namespace, mode: str, payload: Any) -> None:
        """One event of the graph or of a subgraph."""
        with self._lock:
            if ns and ns not in self._open:
                self._start(ns)
            if mode == "tasks" and "result" in payload:
                self._task_ended(ns, payload)

    def tool_ended(self, run_id: UUID, error: BaseException | None) -> None:
        if isinstance(error, GraphBubbleUp) and not isinstance(error, GraphInterrupt):
            return  # handed to the graph above, which goes on with it
        with self._lock:
            ended = [ns for ns, subgraph in self._open.items() if subgraph.tool_run == run_id]
            if isinstance(error, GraphInterrupt):
                self._end(ended, "interrupted")
            elif error is not None:
                self._end(ended, "failed", self._describe(error))
            else:
                self._end(ended, "completed")

    def run_ended(self, event: str, error: Error | None = None) -> None:
        """What is still open ends with the run."""
        with self._lock:
            self._end(list(self._open), event, error)

    def _start(self, ns: Namespace) -> None:
        call = tool_call()
        # The code of a subgraph's subgraph is part of the tool call too, but the tool has not called that one.
        called = call is not None and _depth(ns) == _depth(call.task)
        subgraph = self._open[ns] = _Subgraph(call.id, call.run_id) if call is not None and called else _Subgraph()
        self._told(ns, subgraph, "started")

    def _task_ended(self, ns: Namespace, result: dict[str, Any]) -> None:
        task_id, name = str(result["id"]), str(result["name"])
        # A subgraph with a memory of its own (`checkpointer=True`) has no task ids in its namespace.
        plain = (*(segment.partition(":")[0] for segment in ns), name)
        ended = [
            other
            for other in self._open
            if any(segment.partition(":")[2] == task_id for segment in other)
            or (not any(":" in segment for segment in other) and other[: len(plain)] == plain)
        ]
        if not ended:
            return
        error = result.get("error")
        if result.get("interrupts"):
            self._end(ended, "interrupted")
        elif error:
            told = self._describe(error) if isinstance(error, BaseException) else {"error": "Error", "message": error}
            self._end(ended, "failed", told)
        else:
            self._end(ended, "completed")

    def _end(self, ended: list[Namespace], event: str, error: Error | None = None) -> None:
        """End these and what is open below them."""
        below = [other for other in self._open if any(_within(other, ns) for ns in ended)]
        for ns in sorted(below, key=len, reverse=True):
            self._told(ns, self._open.pop(ns), event, error)

    def _told(self, ns: Namespace, subgraph: _Subgraph, event: str, error: Error | None = None) -> None:
        data: dict[str, Any] = {"event": event, "namespace": list(ns)}
        if subgraph.tool_call_id is not None:
            data["tool_call_id"] = subgraph.tool_call_id
        if error is not None:
            data["error"] = error
        self._tell(ns, data)


def _within(ns: Namespace, above: Namespace) -> bool:
    """Whether it is this subgraph or one below; `(…, "1")` is the second that the task has called, beside the first."""
    rest = ns[len(above) :]
    return ns[: len(above)] == above and not (rest and rest[0].isdecimal())


def _depth(ns: Namespace) -> int:
    """How many tasks deep; a second call of one task has a number behind the task."""
    return sum(not segment.isdecimal() for segment in ns)
