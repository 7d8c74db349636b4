"""The job of `state.update`: updates applied with the graph's own reducers and writers (contract 4.2, 4.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.errors import InvalidUpdateError
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.types import StateSnapshot, StateUpdate

from threadlog.engine.executor.checkpointer.saver import ThreadlogSaver
from threadlog.engine.executor.queue import Claim
from threadlog.engine.executor.run.config import command_of

AnyGraph = Pregel[Any, Any, Any, Any]

_COORDINATES = ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map")


async def apply_state_update(
    graph: AnyGraph, saver: ThreadlogSaver, store: BaseStore, claim: Claim, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Apply the supersteps in order; `result` of `StateUpdated`: where the thread stands now.

    Raises:
        InvalidUpdateError, ValueError, and what the graph's reducers raise: the update was wrong.
    """
    payload = claim.payload
    supersteps = payload.get("supersteps") or []
    if not supersteps:
        raise InvalidUpdateError("No supersteps provided")
    # the saver is the graph's own here: a lent one would keep LangGraph from finding the subgraph of a namespace
    graph = graph.copy(update={"checkpointer": saver, "store": store})
    config = _config(claim, facts)
    for superstep in supersteps:
        updates = [_update(update) for update in superstep.get("updates") or []]
        config = await graph.abulk_update_state(config, [updates])  # type: ignore[arg-type,assignment]
        config = _with_metadata(config, claim, facts)
        state = await graph.aget_state(config)  # type: ignore[arg-type]
        saver.planned(config["configurable"].get("checkpoint_ns") or "", checkpoint_event(state))
    configurable = {key: config["configurable"].get(key) for key in _COORDINATES if key in config["configurable"]}
    checkpoint = {key: configurable.get(key) or "" for key in ("thread_id", "checkpoint_ns", "checkpoint_id")}
    if checkpoint["checkpoint_ns"] and (parents := (state.metadata or {}).get("parents")):
        checkpoint["checkpoint_map"] = {**parents, checkpoint["checkpoint_ns"]: checkpoint["checkpoint_id"]}
    return {"checkpoint": checkpoint, "configurable": configurable}


def _config(claim: Claim, facts: Mapping[str, Any]) -> dict[str, Any]:
    given = (claim.payload.get("config") or {}).get("configurable") or {}
    configurable = {k: v for k, v in given.items() if not k.startswith("__pregel_")}
    configurable["thread_id"] = claim.thread_id
    configurable.setdefault("checkpoint_ns", "")
    for key, value in (claim.payload.get("checkpoint") or {}).items():
        if key in _COORDINATES and key != "thread_id" and value is not None:
            configurable[key] = value
    return _with_metadata({"configurable": configurable}, claim, facts)


def _with_metadata(config: Any, claim: Claim, facts: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {
        **((claim.payload.get("config") or {}).get("metadata") or {}),
        **(claim.payload.get("metadata") or {}),
        **facts,
        "graph_id": claim.graph_id,
        "thread_id": claim.thread_id,
    }
    return {**config, "metadata": metadata}


def _update(fields: Mapping[str, Any]) -> StateUpdate:
    command = fields.get("command")
    values: Any = command_of(command) if command else fields.get("values")
    return StateUpdate(values, fields.get("as_node"), fields.get("task_id"))


def checkpoint_event(state: StateSnapshot) -> dict[str, Any]:
    """A snapshot in the form of LangGraph's `checkpoints` stream event."""
    return {
        "config": state.config,
        "parent_config": state.parent_config,
        "values": state.values,
        "metadata": state.metadata,
        "next": list(state.next),
        "tasks": [
            {
                "id": task.id,
                "name": task.name,
                "path": task.path,
                "interrupts": [{"value": i.value, "id": i.id} for i in task.interrupts],
                "state": task.state,
                **({"error": task.error} if task.error else {}),
            }
            for task in state.tasks
        ],
    }
