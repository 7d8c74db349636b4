"""Run builder: merges assistant, thread and request into the one command that creates a run.

"Contract" and "statement" with a number: docs/reference/http-api.md; here 3.8, 3.9.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from uuid_utils import uuid7

from threadlog.api.assistants.config import sync_config_and_context
from threadlog.api.caches.assistants import CachedAssistant
from threadlog.api.commands import submit
from threadlog.api.context import Api
from threadlog.api.http.bodies import JsonObject
from threadlog.api.http.errors import ApiError, ServerStopping
from threadlog.api.http.limits import shown
from threadlog.api.http.request_keys import REQUEST_ID
from threadlog.api.http.responses import normalize_timestamp
from threadlog.api.runs.bodies import RunCreate
from threadlog.api.runs.json import new_run_to_json
from threadlog.api.runs.stateless import stateless_thread_id
from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import CreateRun
from threadlog.engine.ids import as_uuid, default_assistant_id
from threadlog.engine.log.records import partition_of

# What the server decides: a client's value for these is dropped.
_RESERVED_METADATA = frozenset(("thread_id", "run_id"))
_COORDINATES = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
_RESERVED_CONFIGURABLE = frozenset((
    "run_id", "thread_id", "graph_id", "assistant_id", "user_id", "langgraph_auth_user", "langgraph_auth_user_id",
    "langgraph_auth_permissions", "langgraph_request_id", "cron_id", "__request_start_time_ms__", "__after_seconds__",
))  # fmt: skip
_NOT_CONTEXT = _RESERVED_CONFIGURABLE | set(_COORDINATES)
_LATEST = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run about to be created; `command` is complete."""

    command: CreateRun
    params: RunCreate

    @property
    def run_id(self) -> str:
        return self.command.run_id

    @property
    def thread_id(self) -> str:
        return self.command.thread_id

    @property
    def path(self) -> str:
        """Where the run is found: under its thread, unless that goes with the run."""
        return f"/runs/{self.run_id}" if self.command.temporary else f"/threads/{self.thread_id}/runs/{self.run_id}"

    @property
    def resumable(self) -> bool:
        return bool(self.params.stream_resumable)

    def headers(self, resume: str | None = None) -> dict[str, str]:
        """`Content-Location`, and `Location` of where to resume (`stream` or `join`)."""
        headers = {"Content-Location": self.path}
        if resume is not None:
            headers["Location"] = f"{self.path}/{resume}"
        return headers


async def prepare(
    request: web.Request, api: Api, params: RunCreate, thread_id: str | None, *, streamed: bool = False
) -> NewRun:
    """Merge and check everything that can be checked before the command is sent.

    `thread_id` None: stateless. `streamed`: the client follows the run from its start, so its frames must not wait.
    """
    if api.hub.closing:
        raise ServerStopping
    config, context = sync_config_and_context(params.config, params.context)
    assistant = await resolve_assistant(api, params.assistant_id)
    thread_metadata: JsonObject = {}
    thread_config: JsonObject = {}
    stateless = thread_id is None
    run_id = str(uuid7())
    if thread_id is None:
        thread_id = stateless_thread_id(run_id)
    else:
        inherited = await api.thread_defaults.get(thread_id)
        if inherited is not None:
            thread_metadata, thread_config = inherited.metadata, inherited.config
        elif params.if_not_exists != "create":
            raise _unknown()
    run_config, run_context = _config(request, params, assistant, thread_config, config or {}, context)
    run_config["configurable"].update(run_id=run_id, thread_id=thread_id)
    metadata = _metadata(params, assistant, thread_metadata, run_config)
    temporary = stateless and params.on_completion != "keep"
    durability = params.durability or ("exit" if params.checkpoint_during is False else "async")
    kwargs = {
        "input": params.input,
        "command": params.command,
        "config": run_config,
        "context": run_context,
        "stream_mode": params.stream_mode or ["values"],
        "interrupt_before": params.interrupt_before,
        "interrupt_after": params.interrupt_after,
        "webhook": None,
        "feedback_keys": None,
        "temporary": temporary,
        "subgraphs": bool(params.stream_subgraphs),
        "resumable": bool(params.stream_resumable),
        "checkpoint_during": durability != "exit",
        "durability": durability,
    }
    if streamed:
        kwargs["streamed"] = True
    if params.strict_resume:
        kwargs["strict_resume"] = True
    command = CreateRun(
        thread_id=thread_id,
        run_id=run_id,
        graph_id=assistant.graph_id,
        run={"assistant_id": assistant.assistant_id, "metadata": metadata, "kwargs": kwargs},
        multitask_strategy=params.multitask_strategy or "enqueue",
        due_at=_due_at(params.after_seconds),
        create_thread={} if stateless or params.if_not_exists == "create" else None,
        thread_metadata={"graph_id": assistant.graph_id, "assistant_id": assistant.assistant_id},
        thread_config=_left_on_thread(assistant, run_config, metadata),
        temporary=temporary,
        stream_from=api.hub.stream_position(partition_of(thread_id, api.log.partitions)),
    )
    return NewRun(command, params)


async def create_run(api: Api, new: NewRun) -> dict[str, Any]:
    """Create the run; returns it as clients see it, `pending`."""
    decided = await submit(api, new.command)
    at = normalize_timestamp(decided.at) if decided.at else utc_now()
    return new_run_to_json(new.command, at)


async def resolve_assistant(api: Api, id_or_name: str) -> CachedAssistant:
    """The assistant of this id, or a graph's own assistant by the graph's name."""
    assistant_id = as_uuid(id_or_name)
    by_name = assistant_id is None
    if assistant_id is None:
        assistant_id = default_assistant_id(id_or_name)
    assistant = await api.assistant_cache.assistant(api.pool, assistant_id)
    if assistant is not None:
        return assistant
    if by_name:
        names = ", ".join(await api.assistant_cache.graph_names(api.pool)) or "none, as no executor has started yet"
        raise ApiError(
            422,
            f"Invalid assistant: {shown(id_or_name)}. Must be either:\n- A valid assistant UUID, or\n"
            f"- One of the registered graphs: {names}",
        )
    raise _unknown()


def _unknown() -> ApiError:
    return ApiError(404, "Thread or assistant not found.")


def _config(
    request: web.Request,
    params: RunCreate,
    assistant: CachedAssistant,
    thread_config: JsonObject,
    config: JsonObject,
    context: JsonObject | None,
) -> tuple[JsonObject, JsonObject]:
    """The run's config and context. `configurable` is merged by key, the rest comes from the run or the assistant."""
    own = {k: v for k, v in (config.get("configurable") or {}).items() if k not in _RESERVED_CONFIGURABLE}
    configurable = {
        **(assistant.config.get("configurable") or {}),
        **(thread_config.get("configurable") or {}),
        **own,
    }
    if params.checkpoint is not None:
        configurable.update(params.checkpoint.as_dict())
    if params.checkpoint_id is not None:
        configurable["checkpoint_id"] = params.checkpoint_id
    configurable.setdefault("checkpoint_ns", "")
    configurable.update(
        graph_id=assistant.graph_id,
        assistant_id=assistant.assistant_id,
        user_id="",
        langgraph_auth_user=None,
        langgraph_auth_user_id="",
        langgraph_auth_permissions=[],
        langgraph_request_id=request[REQUEST_ID],
        __request_start_time_ms__=time.time_ns() // 1_000_000,
        __after_seconds__=params.after_seconds or 0,
    )
    if params.langsmith_tracer is not None:
        configurable["__langsmith_project__"] = params.langsmith_tracer.project_name
        configurable["__langsmith_example_id__"] = params.langsmith_tracer.example_id
    merged = {**{k: v for k, v in assistant.config.items() if k in ("tags", "recursion_limit")}, **config}
    merged["configurable"] = configurable
    run_context = {**assistant.context, **{k: v for k, v in (context or {}).items() if k not in _NOT_CONTEXT}}
    return merged, run_context


def _metadata(params: RunCreate, assistant: CachedAssistant, thread: JsonObject, config: JsonObject) -> JsonObject:
    of_request = {**(config.get("metadata") or {}), **(params.metadata or {})}
    metadata = {**assistant.metadata, **thread, "created_by": "system", **of_request}
    for name in _RESERVED_METADATA:
        metadata.pop(name, None)
    metadata["graph_id"] = assistant.graph_id
    metadata["assistant_id"] = assistant.assistant_id
    return metadata


def _left_on_thread(assistant: CachedAssistant, config: JsonObject, metadata: JsonObject) -> JsonObject:
    """What later runs of the thread inherit: of `configurable` only what the assistant brought."""
    inherited: JsonObject = {k: config[k] for k in ("tags", "recursion_limit") if k in config}
    inherited["metadata"] = metadata
    inherited["configurable"] = assistant.config.get("configurable") or {}
    return inherited


def _due_at(after_seconds: float | None) -> str | None:
    if after_seconds is None or after_seconds <= 0:
        return None
    if not math.isfinite(after_seconds) or after_seconds > _LATEST.total_seconds():
        raise ApiError(422, f"after_seconds: must be at most {int(_LATEST.total_seconds())}")
    return (datetime.now(UTC) + timedelta(seconds=after_seconds)).isoformat(timespec="microseconds")
