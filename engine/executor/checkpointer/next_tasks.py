"""What follows a checkpoint and what clients see of it, so that the API can show states without the graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from threadlog.engine.executor.checkpointer.reader import Stored
from threadlog.engine.executor.checkpointer.serde import UnserializableState
from threadlog.engine.executor.checkpointer.values import PendingBlobs, Values
from threadlog.engine.stored.tasks import NULL_TASK, PUSH

logger = logging.getLogger(__name__)

_MISSING = object()
_ROOT, _END, _TASKS = "__root__", "__end__", "__pregel_tasks"


NodeOrder = Callable[[str], Sequence[str]]  # the names of a namespace's nodes; empty where the graph is not known


@dataclass(slots=True)
class NextTasks:
    """The tasks of the superstep after a checkpoint (`path` only where it is not the usual one), and its values."""

    ns: str
    checkpoint_id: str
    tasks: list[dict[str, Any]]
    values: Any


def plan_of(ns: str, payload: Mapping[str, Any]) -> NextTasks:
    """The plan in the payload of a `checkpoints` stream event."""
    configurable = payload["config"]["configurable"]
    tasks = []
    for task in payload["tasks"]:
        compact: dict[str, Any] = {"id": task["id"], "name": task["name"]}
        if (path := task.get("path")) and path[0] == PUSH:
            compact["path"] = list(path)
        if task.get("state") is not None:
            compact["sub"] = True
        tasks.append(compact)
    return NextTasks(configurable.get("checkpoint_ns", ns), configurable["checkpoint_id"], tasks, payload["values"])


def plan_of_snapshot(entry: Stored, snapshot: StateSnapshot) -> NextTasks:
    """The plan in LangGraph's own view of a state."""
    tasks = []
    for task in snapshot.tasks:
        compact: dict[str, Any] = {"id": task.id, "name": task.name}
        if task.path and task.path[0] == PUSH:
            compact["path"] = list(task.path)
        if task.state is not None:
            compact["sub"] = True
        tasks.append(compact)
    return NextTasks(entry.ns, entry.checkpoint_id, tasks, snapshot.values)


def node_order(graph: Pregel[Any, Any, Any, Any]) -> NodeOrder:
    """The order of the nodes of a graph and of the subgraphs that LangGraph finds in it."""

    @cache
    def order(names: str) -> Sequence[str]:
        if not names:
            return list(graph.nodes)
        try:
            found = dict(graph.get_subgraphs(namespace=names, recurse=True))
        except Exception:  # it looks into the user's functions
            logger.debug("no subgraph %s", names, exc_info=True)
            return ()
        subgraph = found.get(names)
        return list(subgraph.nodes) if isinstance(subgraph, Pregel) else ()

    def of_namespace(ns: str) -> Sequence[str]:
        # without task ids, and the numbers of a task's further subgraphs
        return order("|".join(part.partition(":")[0] for part in ns.split("|") if not part.isdigit()))

    return of_namespace


def half_done(entry: Stored) -> bool:
    """Whether tasks of the next superstep have written to channels clients see, or a command has."""
    return any(_is_seen(channel) for _, channel, _ in entry.writes.values())


def commanded(entry: Stored) -> bool:
    """Whether a command has written to channels clients see: LangGraph counts that as part of the checkpoint."""
    return any(_is_seen(entry.writes[key][1]) for key in entry.writes if key[0] == NULL_TASK)


def _is_seen(channel: str) -> bool:
    return channel in (_ROOT, _END) or not channel.startswith(("__", "branch:"))


def described(
    entry: Stored, plan: NextTasks, values: Values, draft: PendingBlobs, *, final: bool, order: NodeOrder | None = None
) -> dict[str, Any]:
    """`tasks`, `out` and `shown` of a `tasks` item.

    `out`: the names of the channels clients see, or the one whose value is the state. `shown`: references of what they
    see where the checkpoint's own don't tell it: under `step` as the checkpoint was made (and a command changed it),
    under `now` with what is half done applied. `final`: the plan is LangGraph's view of the newest state, the half
    done included.
    """
    out, fields = _visible(entry, plan.values)
    shown = {part: dict(references) for part, references in (entry.shown or {}).items()}
    step = part = shown.setdefault("step", {})
    if final and half_done(entry):
        part = shown["now"] = {}
    for name, value in fields.items():
        try:
            if final or entry.live is None:
                # The objects the checkpoint was made of are gone, but what is stored the same has the same reference.
                reference = values.reference(name, value, draft)
                if reference != step.get(name, entry.channels.get(name)):
                    part[name] = reference
            elif not _stored_alike(entry, name, value):
                part[name] = values.reference(name, value, draft)
        except UnserializableState as error:
            logger.warning("clients don't see a part of the state: %s", error)
    tasks = entry.tasks
    if tasks is None or final:
        _add_paths(entry, plan)
        tasks = plan.tasks if final or order is None else _in_order(plan.tasks, entry.ns, order)
    return {"tasks": tasks, "out": out, "shown": shown if any(shown.values()) or "now" in shown else None}


def _visible(entry: Stored, values: Any) -> tuple[list[str] | str, dict[str, Any]]:
    """The channels clients see, with their values."""
    versions = entry.checkpoint["channel_versions"]
    if isinstance(values, Mapping) and _ROOT not in versions and _END not in versions:
        return list(values), dict(values)
    if _ROOT in versions or _END in versions:
        name = _ROOT if _ROOT in versions else _END
    else:
        live = entry.live or {}
        name = _END if values is None else next((k for k, v in live.items() if v is values), _ROOT)
    return name, {} if values is None else {name: values}


def _stored_alike(entry: Stored, name: str, value: Any) -> bool:
    """Whether rendering the stored value of this channel shows `value`."""
    if name in entry.channels:
        stored = (entry.live or {}).get(name, _MISSING)
        if type(stored).__name__ == "_DeltaSnapshot":
            stored = stored.value
        if stored is value:
            return True
        try:
            return type(stored) is type(value) and bool(stored == value)
        except Exception:  # values that don't compare, like arrays
            return False
    if name not in entry.checkpoint["channel_versions"]:
        return False  # never written: what a reducer starts from
    # Stored as deltas. Anything else without a stored value is untracked, and no state shows that.
    return name not in entry.metadata.get("counters_since_delta_snapshot", {})


def _in_order(tasks: list[dict[str, Any]], ns: str, order: NodeOrder) -> list[dict[str, Any]]:
    """The tasks as a state of the graph tells them: those sent, then the graph's nodes in their order, not by name."""
    nodes = [task for task in tasks if "path" not in task]
    if len(nodes) < 2:
        return tasks
    places = {name: place for place, name in enumerate(order(ns))}
    nodes.sort(key=lambda task: places.get(task["name"], len(places)))
    return [task for task in tasks if "path" in task] + nodes


def _add_paths(entry: Stored, plan: NextTasks) -> None:
    """Tasks of `Send`s come first, in the order sent."""
    sends = entry.live.get(_TASKS) if entry.live else None
    if not sends:
        return
    at = 0
    for index, send in enumerate(sends):
        if at < len(plan.tasks) and plan.tasks[at]["name"] == getattr(send, "node", None):
            plan.tasks[at]["path"] = [PUSH, index, False]
            at += 1
