"""What a checkpoint's writes say about its tasks, by LangGraph's own rules (`langgraph.pregel._task_status`).

A task has finished if and only if it left an output write; its interrupts wait for an answer as long as it has not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from threadlog.engine.stored.value_refs import Reference

NULL_TASK = "00000000-0000-0000-0000-000000000000"  # writes of no task: input and commands
ERROR = "__error__"
INTERRUPT = "__interrupt__"
RETURN = "__return__"
ERROR_SOURCE = "__error_source_node__"
CONTROL = frozenset((ERROR, ERROR_SOURCE, INTERRUPT, "__resume__"))
PULL = "__pregel_pull"
PUSH = "__pregel_push"


@dataclass(slots=True)
class TaskStatus:
    """`output`: (channel, reference) in the order written; `interrupts`: references to one or a list of them."""

    output: list[tuple[str, Reference]] = field(default_factory=list)
    interrupts: list[Reference] = field(default_factory=list)
    error: Reference | None = None

    @property
    def finished(self) -> bool:
        return bool(self.output)


def statuses(writes: Iterable[tuple[str, str, Reference]]) -> dict[str, TaskStatus]:
    """The status of every task with `(task id, channel, reference)` writes, given in their sort order."""
    found: dict[str, TaskStatus] = {}
    for task_id, channel, reference in writes:
        if task_id == NULL_TASK:
            continue
        status = found.setdefault(task_id, TaskStatus())
        if channel == INTERRUPT:
            status.interrupts.append(reference)
        elif channel == ERROR:
            status.error = status.error or reference
        elif channel not in CONTROL:
            status.output.append((channel, reference))
    return found


def namespace(parent: str, task: dict[str, Any]) -> str:
    """The checkpoint namespace of a task's subgraph."""
    own = f"{task['name']}:{task['id']}"
    return f"{parent}|{own}" if parent else own


def path(task: dict[str, Any]) -> list[Any]:
    """The task's path as clients see it; the usual one is not stored."""
    return task.get("path") or [PULL, task["name"]]
