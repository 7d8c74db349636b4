"""Creating a run: everything about a request that can be checked before its command is sent.

"Contract" and "statement" with a number: docs/reference/http-api.md; here 3.8, 3.9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from aiohttp import web
from uuid_utils import uuid7

from threadlog.api.assistants.config import sync_config_and_context
from threadlog.api.auth.caller import Caller
from threadlog.api.auth.gate import allowed, caller_of, metadata_in, needless
from threadlog.api.commands import submit
from threadlog.api.context import Api
from threadlog.api.http.bodies import JsonObject
from threadlog.api.http.errors import ApiError, ServerStopping
from threadlog.api.http.limits import shown
from threadlog.api.http.request_keys import REQUEST_ID
from threadlog.api.http.requests import configurable_headers
from threadlog.api.http.responses import normalize_timestamp
from threadlog.api.idempotency.keyed import make_id, was_done
from threadlog.api.priority import settings_for
from threadlog.api.runs.bodies import RunCreate
from threadlog.api.runs.json import RunResponse, new_run_to_json
from threadlog.engine.clock import now, utc_now
from threadlog.engine.domain.commands import CreateRun
from threadlog.engine.ids import as_uuid, default_assistant_id, stateless_thread_id
from threadlog.engine.log.records import partition_of
from threadlog.engine.run_builder import AssistantDefaults, RunRequest, build_run
from threadlog.engine.webhooks.guard import WebhookRefused
from threadlog.projections.queries.metadata_filter import MetadataFilter

_LATEST = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run about to be created; `command` is complete. `only`: the threads that the caller may run on, None: all."""

    command: CreateRun
    params: RunCreate
    only: MetadataFilter | None = None

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
    await check_webhook(api, params.webhook)
    if params.checkpoint_id and as_uuid(params.checkpoint_id) is None:
        raise ApiError(422, "Invalid checkpoint ID")
    config, context = sync_config_and_context(params.config, params.context)
    assistant = await runnable_assistant(request, api, params.assistant_id)
    thread_metadata: JsonObject = {}
    thread_config: JsonObject = {}
    prioritized = False
    stateless = thread_id is None
    run_id = make_id(uuid7)
    asked = _requested(params, config or {}, context, configurable_headers(request))
    only = None
    if (caller := caller_of(request)) is not None:
        asked, only = await _authorized(request, caller, params, asked, run_id, thread_id, assistant)
    inherited = None
    if thread_id is None:
        thread_id = stateless_thread_id(run_id)
    else:
        inherited = await api.thread_defaults.get(thread_id)
        if inherited is not None:
            if only is not None and not only.matches(inherited.metadata):
                raise _unknown()
            thread_metadata, thread_config = inherited.metadata, inherited.config
            prioritized = inherited.prioritized
        elif params.if_not_exists != "create":
            raise _unknown()
    priority = None
    if api.priority is not None and not prioritized:
        priority = await settings_for(
            api.priority,
            user=None if caller is None else caller.user,
            permissions=() if caller is None else caller.permissions,
            thread_id=None if stateless else thread_id,
            thread_metadata=thread_metadata,
            assistant=assistant,
            run_metadata=asked.metadata,
        )
    command = build_run(
        asked,
        run_id=run_id,
        thread_id=thread_id,
        assistant=assistant,
        thread_metadata=thread_metadata,
        thread_config=thread_config,
        create_thread=stateless or params.if_not_exists == "create",
        temporary=stateless and params.on_completion != "keep",
        request_id=request[REQUEST_ID],
        due_at=_due_at(params.after_seconds),
        streamed=streamed,
        priority=priority,
        thread_ttl=None if api.settings.thread_ttl is None else api.settings.thread_ttl.wire,
        stream_from=api.hub.stream_position(partition_of(thread_id, api.log.partitions)),
    )
    if only is not None and inherited is None and not stateless:
        command = replace(command, new_thread=True)
    return NewRun(command, params, only)


async def create_run(api: Api, new: NewRun) -> RunResponse:
    """Create the run; returns it as clients see it, `pending`."""
    try:
        decided = await submit(api, new.command)
    except ApiError as error:
        if error.status != 404 or not new.command.new_thread:
            raise
        # Somebody has created the thread meanwhile: perhaps the same user.
        thread = await api.thread_defaults.get(new.thread_id)
        if thread is None or (new.only is not None and not new.only.matches(thread.metadata)):
            raise
        decided = await submit(api, replace(new.command, new_thread=False))
    at = normalize_timestamp(decided.at) if decided.at else utc_now()
    return new_run_to_json(new.command, at)


async def was_created(api: Api, new: NewRun) -> bool:
    """Whether the run is there already, as its request was sent before with the same idempotency key."""
    return await was_done(api, new.command)


async def runnable_assistant(request: web.Request, api: Api, id_or_name: str) -> AssistantDefaults:
    """The assistant; 404 if the caller may not read it. Those that come with the graphs are everybody's to run."""
    assistant = await resolve_assistant(api, id_or_name)
    if assistant.assistant_id == default_assistant_id(assistant.graph_id):
        needless(request, "assistants.read")
        return assistant
    only = await allowed(request, "assistants.read", {"assistant_id": assistant.assistant_id})
    if only is not None and not only.matches(assistant.metadata):
        raise _unknown()
    return assistant


async def _authorized(
    request: web.Request,
    caller: Caller,
    params: RunCreate,
    asked: RunRequest,
    run_id: str,
    thread_id: str | None,
    assistant: AssistantDefaults,
) -> tuple[RunRequest, MetadataFilter | None]:
    """Ask for `threads.create_run`; returns what the application's handler made of the request, as its caller's, and
    which threads it may run on."""
    kwargs: JsonObject = {
        "input": asked.input,
        "command": asked.command,
        "config": {**asked.config, "configurable": dict(asked.config.get("configurable") or {})},
        "context": asked.context,
        "stream_mode": asked.stream_mode,
        "interrupt_before": asked.interrupt_before,
        "interrupt_after": asked.interrupt_after,
        "webhook": params.webhook,
        "durability": asked.durability,
        "temporary": thread_id is None and params.on_completion != "keep",
    }
    value: JsonObject = {
        "thread_id": thread_id,
        "assistant_id": assistant.assistant_id,
        "run_id": run_id,
        "status": "pending",
        "metadata": asked.metadata,
        "prevent_insert_if_inflight": asked.multitask_strategy == "reject",
        "multitask_strategy": asked.multitask_strategy,
        "if_not_exists": "create" if thread_id is None else params.if_not_exists or "reject",
        "after_seconds": asked.after_seconds,
        "kwargs": kwargs,
    }
    only = await allowed(request, "threads.create_run", value)
    changed = {name: kwargs[name] for name in ("input", "command", "config", "context")}
    return replace(asked, metadata=metadata_in(value), caller=caller.configurable(), **changed), only


async def resolve_assistant(api: Api, id_or_name: str) -> AssistantDefaults:
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
            code="assistant_not_found",
        )
    raise _unknown()


def _unknown() -> ApiError:
    return ApiError(404, "Thread or assistant not found.", code="assistant_not_found")


def _requested(
    params: RunCreate, config: JsonObject, context: JsonObject | None, headers: Mapping[str, str]
) -> RunRequest:
    tracer = params.langsmith_tracer
    return RunRequest(
        input=params.input,
        command=params.command,
        checkpoint=None if params.checkpoint is None else params.checkpoint.as_dict(),
        checkpoint_id=params.checkpoint_id or None,
        metadata=params.metadata or {},
        config=config,
        context=context or {},
        interrupt_before=params.interrupt_before,
        interrupt_after=params.interrupt_after,
        stream_mode=params.stream_mode or ["values"],
        stream_subgraphs=bool(params.stream_subgraphs),
        stream_resumable=bool(params.stream_resumable),
        multitask_strategy=params.multitask_strategy or "enqueue",
        after_seconds=params.after_seconds or 0,
        durability=params.durability or ("exit" if params.checkpoint_during is False else "async"),
        strict_resume=bool(params.strict_resume),
        headers=headers,
        webhook=params.webhook,
        feedback_keys=params.feedback_keys,
        langsmith=None if tracer is None else (tracer.project_name, tracer.example_id),
    )


async def check_webhook(api: Api, webhook: str | None) -> None:
    """Raises `ApiError` for a URL that nothing would be sent to."""
    if webhook is not None:
        try:
            await api.webhooks.check(webhook)
        except WebhookRefused as refused:
            raise ApiError(422, str(refused)) from None


def _due_at(after_seconds: float | None) -> str | None:
    if after_seconds is None or after_seconds <= 0:
        return None
    if not math.isfinite(after_seconds) or after_seconds > _LATEST.total_seconds():
        raise ApiError(422, f"after_seconds: must be at most {int(_LATEST.total_seconds())}")
    return (now() + timedelta(seconds=after_seconds)).isoformat(timespec="microseconds")
