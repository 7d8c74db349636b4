"""Renders a stored checkpoint and its writes as the state object of clients (contract 4.1), by LangGraph's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from threadlog.engine.stored.tasks import RETURN, TaskStatus, namespace, path
from threadlog.engine.stored.value_refs import Reference
from threadlog.projections.render import values as render
from threadlog.projections.render.values import Blobs

JsonObject = dict[str, Any]
_SINGLE = ("__root__", "__end__")  # channels whose value is the whole state

Channels = Mapping[str, Reference]

# A state that is one channel's value (None: without any), or the channels clients see.
Visible = tuple[Reference | None] | dict[str, Reference]

NO_STATE: JsonObject = {
    "values": {}, "next": [], "tasks": [], "metadata": None, "created_at": None, "checkpoint": None,
    "parent_checkpoint": None, "interrupts": [], "checkpoint_id": None, "parent_checkpoint_id": None,
}  # fmt: skip


def visible(channels: Channels, out: Any, shown: Mapping[str, Channels] | None, *, live: bool) -> Visible:
    """The references of the values that clients see of a checkpoint; `live`: with writes of finished tasks applied."""
    differing = {**(shown or {}).get("step", {}), **((shown or {}).get("now", {}) if live else {})}
    if out is None:  # no `tasks.planned` has described this checkpoint yet
        out = "__root__" if "__root__" in channels else [name for name in channels if not internal(name)]
    if isinstance(out, str):
        return (differing.get(out) or channels.get(out),)
    return {name: ref for name in out if (ref := differing.get(name) or channels.get(name)) is not None}


@dataclass(frozen=True, slots=True)
class StateSelection:
    """The part of a state that a client asks for: these fields, and of `values` these keys (None: all of them).

    Where `values` is a single channel's value, its keys are that object's; of a value without keys nothing is returned.
    """

    fields: frozenset[str] = frozenset(NO_STATE)
    keys: frozenset[str] | None = None

    def of_nothing(self) -> JsonObject:
        """The selected part of the empty state."""
        return {name: value for name, value in NO_STATE.items() if name in self.fields}

    def visible(self, values: Visible) -> Visible:
        """The references needed for the selected values."""
        if "values" not in self.fields:
            return {}
        if self.keys is None:
            return values
        if isinstance(values, dict):
            return {name: ref for name, ref in values.items() if name in self.keys}
        if values[0] is not None and "d" in values[0]:
            return ({"d": {name: ref for name, ref in values[0]["d"].items() if name in self.keys}},)
        return values

    def values(self, rendered: Any) -> Any:
        """The selected part of rendered `values`."""
        if self.keys is None:
            return rendered
        return (
            {name: value for name, value in rendered.items() if name in self.keys} if isinstance(rendered, dict) else {}
        )


EVERYTHING = StateSelection()


def references(values: Visible) -> Iterable[Reference]:
    """The references in what is visible."""
    return values.values() if isinstance(values, dict) else (ref for ref in values if ref is not None)


def rendered(values: Visible, blobs: Blobs) -> Any:
    """`values` of a state."""
    if isinstance(values, dict):
        return {name: render.reference(ref, blobs) for name, ref in values.items()}
    return None if values[0] is None else render.reference(values[0], blobs)


def internal(channel: str) -> bool:
    """LangGraph's own channels: triggers, pending sends, the input."""
    return channel.startswith(("__", "branch:to:", "join:"))


@dataclass(slots=True)
class State:
    """A checkpoint row, values as references. `live`: shown as what stands now, else as a record of the step."""

    thread_id: str
    ns: str
    checkpoint_id: str
    parent_id: str | None
    metadata: JsonObject
    created_at: str | None
    values: Visible
    out: Any
    tasks: list[JsonObject]
    statuses: dict[str, TaskStatus]
    live: bool
    below: dict[str, State] = field(default_factory=dict)

    def references(self, selection: StateSelection = EVERYTHING) -> Iterable[Reference]:
        """What `to_json` needs."""
        yield from references(selection.visible(self.values))
        tasks = "tasks" in selection.fields
        if not tasks and "interrupts" not in selection.fields:
            return
        for task in self.tasks:
            if (status := self.statuses.get(task["id"])) is not None:
                yield from status.interrupts
                if not tasks:
                    continue
                if status.error is not None:
                    yield status.error
                yield from (ref for channel, ref in status.output if self._in_result(channel))
        for state in self.below.values() if tasks else ():
            yield from state.references()

    def subgraph_namespaces(self) -> list[str]:
        """Where the subgraphs of the next tasks keep their checkpoints."""
        return [namespace(self.ns, task) for task in self.tasks if task.get("sub")]

    def nest(self, states: Mapping[str, State]) -> None:
        """Take the states of subgraphs, by namespace, and theirs."""
        for ns in self.subgraph_namespaces():
            if (state := states.get(ns)) is not None:
                state.nest(states)
                self.below[ns] = state

    def to_json(self, blobs: Blobs, *, subgraphs: bool, selection: StateSelection = EVERYTHING) -> JsonObject:
        """The selected part of the state; states of subgraphs are nested whole.

        Raises `BlobMissing` when `blobs` lacks a value of it.
        """
        parents = self.metadata.get("parents") or {}
        fields: dict[str, Callable[[], Any]] = {
            "values": lambda: selection.values(rendered(selection.visible(self.values), blobs)),
            "next": lambda: [task["name"] for task in self.tasks if not (self.live and self._status(task).finished)],
            "tasks": lambda: [self._task(task, blobs, subgraphs) for task in self.tasks],
            "metadata": lambda: {**self.metadata, "thread_id": self.thread_id},
            "created_at": lambda: self.created_at,
            "checkpoint": lambda: self._checkpoint(self.checkpoint_id, parents),
            "parent_checkpoint": lambda: self._checkpoint(self.parent_id, parents) if self.parent_id else None,
            "interrupts": lambda: [interrupt for task in self.tasks for interrupt in self._waiting(task, blobs)],
            "checkpoint_id": lambda: self.checkpoint_id,
            "parent_checkpoint_id": lambda: self.parent_id,
        }
        return {name: make() for name, make in fields.items() if name in selection.fields}

    def _checkpoint(self, checkpoint_id: str, parents: Mapping[str, str]) -> JsonObject:
        checkpoint: JsonObject = {"checkpoint_id": checkpoint_id, "thread_id": self.thread_id, "checkpoint_ns": self.ns}
        if parents:
            checkpoint["checkpoint_map"] = {**parents, self.ns: checkpoint_id}
        return checkpoint

    def _status(self, task: JsonObject) -> TaskStatus:
        return self.statuses.get(task["id"]) or TaskStatus()

    def _task(self, task: JsonObject, blobs: Blobs, subgraphs: bool) -> JsonObject:
        status = self._status(task)
        checkpoint: JsonObject | None = None
        state: JsonObject | None = None
        if task.get("sub"):
            ns = namespace(self.ns, task)
            if not subgraphs:
                checkpoint = {"thread_id": self.thread_id, "checkpoint_ns": ns}
            elif (below := self.below.get(ns)) is not None:
                state = below.to_json(blobs, subgraphs=True)
            else:
                state = dict(NO_STATE)
        return {
            "id": task["id"],
            "name": task["name"],
            "path": path(task),
            "error": None if status.error is None else render.reference(status.error, blobs),
            "interrupts": self._waiting(task, blobs),
            "checkpoint": checkpoint,
            "state": state,
            "result": self._result(status, blobs) if status.finished else None,
        }

    def _waiting(self, task: JsonObject, blobs: Blobs) -> list[JsonObject]:
        """The interrupts at which this task stands."""
        status = self._status(task)
        return [] if self.live and status.finished else _interrupts(status, blobs)

    def _in_result(self, channel: str) -> bool:
        return channel == RETURN or channel in _SINGLE or channel == self.out or not internal(channel)

    def _result(self, status: TaskStatus, blobs: Blobs) -> Any:
        for channel, ref in status.output:
            if channel == RETURN:
                return render.reference(ref, blobs)
        written: dict[str, list[Any]] = {}
        for channel, ref in status.output:
            if self._in_result(channel):
                written.setdefault(channel, []).append(render.reference(ref, blobs))
        # Several writes to one channel are shown as such.
        result = {name: values[0] if len(values) == 1 else {"$writes": values} for name, values in written.items()}
        single = next((name for name in (*_SINGLE, self.out) if isinstance(name, str) and name in result), None)
        if single is not None:
            return result[single]
        return None if isinstance(self.out, str) else result


def _interrupts(status: TaskStatus, blobs: Blobs) -> list[JsonObject]:
    interrupts: list[Any] = []
    for ref in status.interrupts:
        raised = render.reference(ref, blobs)
        interrupts += raised if isinstance(raised, list) else [raised]
    return [_interrupt(raised) for raised in interrupts]


def _interrupt(raised: Any) -> JsonObject:
    if not isinstance(raised, dict) or "id" not in raised:
        return {"id": None, "value": raised}
    shown = {"id": raised["id"], "value": raised.get("value")}
    if raised.get("response_schema") is not None:
        shown["response_schema"] = raised["response_schema"]
    return shown
