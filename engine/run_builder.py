"""Run builder: merges assistant, thread and request into the command that creates a run.

The api creates its runs with it. "Contract" and "statement" with a number:
docs/reference/http-api.md; here 3.8, 3.9.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from threadlog.engine.domain.commands import CreateRun, JsonObject, MultitaskStrategy
from threadlog.engine.tracing import active as tracing

# What the server decides: a client's value for these is dropped.
_RESERVED_METADATA = frozenset(("thread_id", "run_id"))
_COORDINATES = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
_RESERVED_CONFIGURABLE = frozenset((
    "run_id", "thread_id", "graph_id", "assistant_id", "user_id", "langgraph_auth_user", "langgraph_auth_user_id",
    "langgraph_auth_permissions", "langgraph_request_id", "cron_id", "__request_start_time_ms__", "__after_seconds__",
))  # fmt: skip
NOBODY: Mapping[str, Any] = {
    "user_id": "",
    "langgraph_auth_user": None,
    "langgraph_auth_user_id": "",
    "langgraph_auth_permissions": [],
}
"""The caller of a server without authentication."""
_NOT_CONTEXT = _RESERVED_CONFIGURABLE | set(_COORDINATES)


@dataclass(frozen=True, slots=True)
class AssistantDefaults:
    """What a run inherits from its assistant: the current version. Shared: callers must not change it."""

    assistant_id: str
    graph_id: str
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What is asked of a run, checked. `config` and `context`: as one of the two was given and filled the other.

    `webhook`: a URL or path that `engine.webhooks.guard` has checked. `langsmith`: project name and example id.
    `headers`: of the request, those that `configurable` is to have. `caller`: the keys of `configurable` that tell
    nodes who wants the run.
    """

    input: Any = None
    command: JsonObject | None = None
    checkpoint: JsonObject | None = None
    checkpoint_id: str | None = None
    metadata: JsonObject = field(default_factory=dict)
    config: JsonObject = field(default_factory=dict)
    context: JsonObject = field(default_factory=dict)
    interrupt_before: Any = None
    interrupt_after: Any = None
    stream_mode: list[Any] = field(default_factory=lambda: ["values"])
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    multitask_strategy: MultitaskStrategy = "enqueue"
    after_seconds: float = 0
    durability: str = "async"
    strict_resume: bool = False
    webhook: str | None = None
    feedback_keys: list[str] | None = None
    langsmith: tuple[str | None, str | None] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    caller: Mapping[str, Any] = field(default_factory=lambda: NOBODY)


def build_run(
    request: RunRequest,
    *,
    run_id: str,
    thread_id: str,
    assistant: AssistantDefaults,
    thread_metadata: Mapping[str, Any],
    thread_config: Mapping[str, Any],
    create_thread: bool,
    temporary: bool,
    request_id: str,
    thread_ttl: JsonObject | None = None,
    priority: JsonObject | None = None,
    due_at: str | None = None,
    streamed: bool = False,
    stream_from: int = 0,
    cron_id: str | None = None,
) -> CreateRun:
    """The command that creates the run. `cron_id`: the cron that fired; `streamed`: its client follows it from the
    start, so its frames must not wait.

    `create_thread`: also when its thread does not exist, which then has this `thread_ttl`; `temporary`: the thread goes
    with the run. `priority`: of a thread that has no settings yet. Where traces are made, the run keeps the current
    trace context in `kwargs.trace`: attempts and webhooks go on with it, whenever and wherever.
    """
    config, context = _config(request, assistant, thread_config, request_id)
    config["configurable"].update(run_id=run_id, thread_id=thread_id)
    if cron_id is not None:
        config["configurable"]["cron_id"] = cron_id
    metadata = _metadata(request, assistant, thread_metadata, config)
    kwargs = {
        "input": request.input,
        "command": request.command,
        "config": config,
        "context": context,
        "stream_mode": request.stream_mode,
        "interrupt_before": request.interrupt_before,
        "interrupt_after": request.interrupt_after,
        "webhook": request.webhook,
        "feedback_keys": request.feedback_keys,
        "temporary": temporary,
        "subgraphs": request.stream_subgraphs,
        "resumable": request.stream_resumable,
        "checkpoint_during": request.durability != "exit",
        "durability": request.durability,
    }
    if (trace := tracing.current()) is not None:
        kwargs["trace"] = trace
    if streamed:
        kwargs["streamed"] = True
    if request.strict_resume:
        kwargs["strict_resume"] = True
    return CreateRun(
        thread_id=thread_id,
        run_id=run_id,
        graph_id=assistant.graph_id,
        run={"assistant_id": assistant.assistant_id, "metadata": metadata, "kwargs": kwargs},
        multitask_strategy=request.multitask_strategy,
        due_at=due_at,
        create_thread=_of_thread(request.metadata) if create_thread else None,
        thread_ttl=thread_ttl if create_thread and not temporary else None,
        thread_metadata={"graph_id": assistant.graph_id, "assistant_id": assistant.assistant_id},
        thread_config=_left_on_thread(assistant, config, metadata),
        temporary=temporary,
        stream_from=stream_from,
        priority=priority,
    )


def _of_thread(metadata: Mapping[str, Any]) -> JsonObject:
    """What a thread that is made for its first run takes over from the request's metadata (the run: all of it)."""
    return {k: v for k, v in metadata.items() if k not in _RESERVED_METADATA and k != "assistant_id"}


def _config(
    request: RunRequest, assistant: AssistantDefaults, thread_config: Mapping[str, Any], request_id: str
) -> tuple[JsonObject, JsonObject]:
    """The run's config and context. `configurable` is merged by key, the rest comes from the run or the assistant."""
    own = {k: v for k, v in (request.config.get("configurable") or {}).items() if k not in _RESERVED_CONFIGURABLE}
    configurable = {
        **(assistant.config.get("configurable") or {}),
        **(thread_config.get("configurable") or {}),
        **own,
        **{name: value for name, value in request.headers.items() if name not in _NOT_CONTEXT},
    }
    if request.checkpoint is not None:
        configurable.update(request.checkpoint)
    if request.checkpoint_id is not None:
        configurable["checkpoint_id"] = request.checkpoint_id
    configurable.setdefault("checkpoint_ns", "")
    configurable.update(
        graph_id=assistant.graph_id,
        assistant_id=assistant.assistant_id,
        **request.caller,
        langgraph_request_id=request_id,
        __request_start_time_ms__=time.time_ns() // 1_000_000,
        __after_seconds__=request.after_seconds,
    )
    if request.langsmith is not None:
        configurable["__langsmith_project__"], configurable["__langsmith_example_id__"] = request.langsmith
    merged = {**{k: v for k, v in assistant.config.items() if k in ("tags", "recursion_limit")}, **request.config}
    merged["configurable"] = configurable
    context = {**assistant.context, **{k: v for k, v in request.context.items() if k not in _NOT_CONTEXT}}
    return merged, context


def _metadata(
    request: RunRequest, assistant: AssistantDefaults, thread: Mapping[str, Any], config: JsonObject
) -> JsonObject:
    of_request = {**(config.get("metadata") or {}), **request.metadata}
    metadata = {**assistant.metadata, **thread, "created_by": "system", **of_request}
    for name in _RESERVED_METADATA:
        metadata.pop(name, None)
    metadata["graph_id"] = assistant.graph_id
    metadata["assistant_id"] = assistant.assistant_id
    return metadata


def _left_on_thread(assistant: AssistantDefaults, config: JsonObject, metadata: JsonObject) -> JsonObject:
    """What later runs of the thread inherit: of `configurable` only what the assistant brought."""
    inherited: JsonObject = {k: config[k] for k in ("tags", "recursion_limit") if k in config}
    inherited["metadata"] = metadata
    inherited["configurable"] = assistant.config.get("configurable") or {}
    return inherited
