"""What a graph is called with: config, metadata, input or command, context (contract 3.8, 3.9)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from typing import Any
from uuid import UUID

from langgraph.pregel import Pregel
from langgraph.types import Command, Send
from pydantic import BaseModel

from threadlog.engine.executor.graphs.loader import UNNAMED
from threadlog.engine.executor.langgraph_internals import ensure_config
from threadlog.engine.executor.queue import Claim
from threadlog.engine.user_code.user import User

AnyGraph = Pregel[Any, Any, Any, Any]

_COORDINATES = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What every run's metadata says about the server."""

    langgraph_version: str
    langgraph_api_version: str
    langgraph_plan: str
    langgraph_host: str
    langgraph_api_url: str

    @staticmethod
    def of(api_url: str) -> ServerFacts:
        return ServerFacts(
            langgraph_version=_version("langgraph"),
            langgraph_api_version=_version("threadlog"),
            langgraph_plan=os.environ.get("LANGGRAPH_PLAN", "community"),
            langgraph_host="self-hosted",
            langgraph_api_url=api_url,
        )

    def metadata(self) -> dict[str, Any]:
        return {
            "langgraph_version": self.langgraph_version,
            "langgraph_api_version": self.langgraph_api_version,
            "langgraph_plan": self.langgraph_plan,
            "langgraph_host": self.langgraph_host,
            "langgraph_api_url": self.langgraph_api_url,
        }


def run_config(claim: Claim, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run: what the api merged, and what only the attempt knows. `facts`: `ServerFacts.metadata()`.

    What no client gave is left out, so that what the application bound to its graph holds, else LangGraph's default.
    """
    given = claim.kwargs.get("config") or {}
    configurable = {k: v for k, v in (given.get("configurable") or {}).items() if not k.startswith("__pregel_")}
    ids = {
        "run_id": claim.run_id,
        "thread_id": claim.thread_id,
        "graph_id": claim.graph_id,
        "assistant_id": claim.assistant_id or "",
    }
    configurable.update(ids)
    configurable.setdefault("checkpoint_ns", "")
    configurable.setdefault("langgraph_request_id", claim.run_id)
    user = configurable.get("langgraph_auth_user")
    if isinstance(user, Mapping):
        configurable["langgraph_auth_user"] = User(user)
    metadata = {
        **(given.get("metadata") or {}),
        **claim.metadata,
        "run_attempt": claim.attempt,
        **facts,
        "run_id": claim.run_id,
        "thread_id": claim.thread_id,
    }
    config: dict[str, Any] = {
        "configurable": configurable,
        "metadata": metadata,
        "tags": list(given.get("tags") or ()),
        "run_id": UUID(claim.run_id),
    }
    for key, kind in (("recursion_limit", int), ("max_concurrency", int), ("run_name", str)):
        if isinstance(given.get(key), kind):
            config[key] = given[key]
    return config


def named(config: dict[str, Any], graph: AnyGraph, graph_id: str) -> dict[str, Any]:
    """The config with a `run_name` where neither the client nor the graph has one."""
    if "run_name" in config or (graph.config or {}).get("run_name") or graph.name not in UNNAMED:
        return config
    return {**config, "run_name": graph_id}


def with_limit(config: dict[str, Any], graph: AnyGraph) -> dict[str, Any]:
    """The config with the recursion limit that LangGraph would take: LangChain's own methods would put theirs there."""
    return {"recursion_limit": ensure_config(graph.config)["recursion_limit"], **config}


def update_config(claim: Claim) -> dict[str, Any]:
    """The config that a factory gets when the graph is wanted for a state update, which has no run."""
    given = claim.payload.get("config") or {}
    configurable = {k: v for k, v in (given.get("configurable") or {}).items() if not k.startswith("__pregel_")}
    configurable.setdefault("checkpoint_ns", "")
    configurable.setdefault("langgraph_request_id", claim.run_id)
    configurable.update(thread_id=claim.thread_id, graph_id=claim.graph_id, assistant_id=claim.assistant_id or "")
    metadata = {**(given.get("metadata") or {}), "thread_id": claim.thread_id}
    return {"configurable": configurable, "metadata": metadata}


def at_newest(config: dict[str, Any]) -> dict[str, Any]:
    """The config without a checkpoint to start from: the thread's newest."""
    configurable = {k: v for k, v in config["configurable"].items() if k not in _COORDINATES}
    return {**config, "configurable": {**configurable, "checkpoint_ns": ""}}


def input_of(kwargs: Mapping[str, Any]) -> Any:
    """What a run begins with: the `Command` of its client, else its input.

    LangGraph fails with an error of its own on a command without an update, an answer or a target; that is none.
    """
    fields = kwargs.get("command")
    if fields and (fields.get("resume") is not None or fields.get("update") or fields.get("goto")):
        return command_of(fields)
    return kwargs.get("input")


def command_of(fields: Mapping[str, Any]) -> Command[Any]:
    """The `Command` a client asked for; `goto` names nodes or is `{node, input}` (a Send), one or a list."""
    goto = fields.get("goto")
    targets = goto if isinstance(goto, list) else [] if goto is None else [goto]
    update = fields.get("update")
    if isinstance(update, list) and all(isinstance(item, list) and len(item) == 2 for item in update):
        update = [(key, value) for key, value in update]
    return Command(update=update, resume=fields.get("resume"), goto=[_target(target) for target in targets])


def _target(target: Any) -> str | Send:
    if isinstance(target, Mapping) and isinstance(node := target.get("node"), str):
        return Send(node, target.get("input"))
    if isinstance(target, str):
        return target
    raise TypeError(f"goto must be the name of a node or {{node, input}}, not {target!r:.100}")


def stream_modes(kwargs: Mapping[str, Any]) -> list[str]:
    modes = kwargs.get("stream_mode") or ["values"]
    return [modes] if isinstance(modes, str) else list(modes)


def durability(kwargs: Mapping[str, Any]) -> str:
    """`sync`, `async` or `exit`; the older `checkpoint_during: false` means exit."""
    chosen = kwargs.get("durability")
    if chosen in ("sync", "async", "exit"):
        return str(chosen)
    return "exit" if kwargs.get("checkpoint_during") is False else "async"


def context_for(graph: AnyGraph, context: Mapping[str, Any] | None) -> Any:
    """What a node gets as `runtime.context` of the run's context (contract 3.8).

    A dataclass or a pydantic model: its fields, which LangGraph makes the object of, also of none, so that defaults
    apply and what is missing is the run's error. Anything else: the context as it is, None if it is empty.
    """
    schema = graph.context_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        known = set(schema.model_fields) | {field.alias for field in schema.model_fields.values() if field.alias}
    elif schema is not None and is_dataclass(schema):
        known = set(signature(schema).parameters)
    else:
        return context or None
    return {key: value for key, value in (context or {}).items() if key in known}
