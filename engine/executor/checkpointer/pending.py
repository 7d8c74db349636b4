"""What stands at the end of an attempt: the tasks still to run and the interrupts that wait for an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from threadlog.engine.executor.checkpointer.cache import CheckpointCache
from threadlog.engine.executor.checkpointer.next_tasks import half_done
from threadlog.engine.executor.checkpointer.reader import Stored, ordered
from threadlog.engine.executor.reporting.jsonable import as_json
from threadlog.engine.stored.tasks import ERROR_SOURCE, TaskStatus, namespace, statuses


def next_tasks(memory: CheckpointCache) -> list[str]:
    """Names of the tasks that still have to run after the newest root checkpoint."""
    root = memory.root()
    return [] if root is None else [task["name"] for task, status in _tasks(root) if not status.finished]


def interrupts(memory: CheckpointCache) -> dict[str, list[dict[str, Any]]]:
    """Interrupts that wait for an answer, by the task that raised them, at any depth: `{id, value}` in JSON, and
    `response_schema` where there is one.
    """
    root = memory.root()
    out: dict[str, list[dict[str, Any]]] = {}
    if root is not None:
        for task_id, interrupt in _pending(root, memory).values():
            out.setdefault(task_id, []).append(interrupt)
    return out


def under_way(memory: CheckpointCache, *, continues: bool) -> Iterator[tuple[Stored, dict[str, Any]]]:
    """The tasks, with their checkpoints, that have neither finished nor failed nor asked in this attempt, at any depth.

    `continues`: the attempt began with tasks of checkpoints that were there before.
    """
    root = memory.root()
    if root is not None:
        yield from _under_way(root, memory, continues)


def _under_way(checkpoint: Stored, memory: CheckpointCache, continues: bool) -> Iterator[tuple[Stored, dict[str, Any]]]:
    if not (continues or memory.is_mine(checkpoint.checkpoint_id)):
        return
    handled = {key[0] for key, write in checkpoint.writes.items() if write[1] == ERROR_SOURCE}
    for task, status in _tasks(checkpoint):
        if status.finished or task["id"] in handled or memory.has_ended(checkpoint, task["id"]):
            continue
        yield checkpoint, task
        for child in _below(checkpoint, task, memory):
            yield from _under_way(child, memory, continues)


def unclear(memory: CheckpointCache) -> bool:
    """Whether only the graph can tell what clients see of the newest state."""
    root = memory.root()
    return root is not None and (root.tasks is None or _half_done(root, memory))


def _tasks(checkpoint: Stored) -> Iterator[tuple[dict[str, Any], TaskStatus]]:
    found = statuses(ordered(checkpoint.writes))
    for task in checkpoint.tasks or ():
        yield task, found.get(task["id"]) or TaskStatus()


def _below(checkpoint: Stored, task: dict[str, Any], memory: CheckpointCache) -> Iterator[Stored]:
    """The newest checkpoints of the graphs a task calls: its subgraph's, and those of further ones, numbered."""
    first = namespace(checkpoint.ns, task)
    for ns in memory.namespaces():
        numbered = ns.startswith(first + "|") and ns[len(first) + 1 :].isdigit()
        if (ns == first or numbered) and (child := memory.get(ns, memory.newest(ns))) is not None:
            yield child


def _half_done(checkpoint: Stored, memory: CheckpointCache) -> bool:
    return half_done(checkpoint) or any(
        _half_done(child, memory)
        for task in checkpoint.tasks or ()
        if task.get("sub")
        for child in _below(checkpoint, task, memory)
    )


def _pending(checkpoint: Stored, memory: CheckpointCache) -> dict[str, tuple[str, dict[str, Any]]]:
    """Interrupt id -> (task id, interrupt). A subgraph's interrupt is with each task above too: the deepest counts."""
    out: dict[str, tuple[str, dict[str, Any]]] = {}
    for task, status in _tasks(checkpoint):
        if status.finished or not status.interrupts:
            continue
        raised = {i.id: (task["id"], _told(i)) for i in memory.interrupts(checkpoint, task["id"])}
        for child in _below(checkpoint, task, memory):
            raised.update((k, v) for k, v in _pending(child, memory).items() if k in raised)
        out |= raised
    return out


def _told(interrupt: Any) -> dict[str, Any]:
    told = {"id": interrupt.id, "value": as_json(interrupt.value)}
    if (schema := getattr(interrupt, "response_schema", None)) is not None:
        told["response_schema"] = as_json(schema)
    return told
