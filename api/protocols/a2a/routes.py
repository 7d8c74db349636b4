"""Handlers of A2A: the agent card, and JSON-RPC in both versions of the protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from threadlog.api.auth.gate import all_needless, allowed, needless
from threadlog.api.commands import submit_unless_rejected
from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import header, json_body, path_text, query_text
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Query, Route, joins, requires, sends, takes
from threadlog.api.idempotency.keyed import has_done_something, make_id
from threadlog.api.protocols.a2a.card import HISTORY_SCOPE, card_of
from threadlog.api.protocols.a2a.dialect import as_1_0, event_1_0
from threadlog.api.protocols.a2a.incoming import Incoming, incoming
from threadlog.api.protocols.a2a.listing import list_tasks
from threadlog.api.protocols.a2a.streaming import UNSUPPORTED_OPERATION, Shape, stream_run, stream_task
from threadlog.api.protocols.a2a.tasks import (
    ENDED,
    LONGEST_HISTORY,
    MESSAGE_ID,
    HistoryScope,
    parse_task_id,
    task_of,
)
from threadlog.api.protocols.json_rpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RpcCall,
    RpcError,
    RpcMessage,
    RpcResponse,
    call_of,
    failed,
    succeeded,
)
from threadlog.api.protocols.running import run_to_end
from threadlog.api.protocols.slow_reply import aborted_on_failure, respond
from threadlog.api.runs.bodies import RunCreate
from threadlog.api.runs.create import create_run, prepare, runnable_assistant
from threadlog.api.streaming.waiters import EventWaiter
from threadlog.api.threads.state import as_caller
from threadlog.api.threads.state_updates import UpdateFailed, update_state
from threadlog.engine.domain.commands import CancelRun
from threadlog.engine.run_builder import AssistantDefaults
from threadlog.projections.queries import runs, threads

TASK_NOT_CANCELABLE, PUSH_NOT_SUPPORTED = -32002, -32003
_REASON = "cancelled by an A2A client"
_NEVER_SECONDS = 86_400.0  # longer than between two commands

Answer = Callable[[web.Request, Api, AssistantDefaults, dict[str, Any]], Awaitable[Any]]


@requires("assistants.read")
async def card(request: web.Request) -> web.Response:
    """Return an assistant's agent card.

    GET /.well-known/agent-card.json with ?assistant_id=…, GET /a2a/{assistant_id} (contract 10.2).
    """
    api = api_of(request)
    named = path_text(request, "assistant_id") or query_text(request, "assistant_id")
    if not named:
        raise ApiError(400, "Missing required query parameter: assistant_id")
    return reply(await card_of(request, api, await runnable_assistant(request, api, named)))


@joins
@requires("assistants.read", "threads.create_run", "threads.read", "threads.search", "threads.update")
@takes(HISTORY_SCOPE)
@sends("Content-Location", "Cache-Control")
async def call(request: web.Request) -> web.StreamResponse:
    """Answer one JSON-RPC call of an A2A client.

    POST /a2a/{assistant_id} (contract 10.2).
    """
    api = api_of(request)
    try:
        asked = call_of(await json_body(request))
    except ApiError as error:
        if error.status != 422:
            raise
        return await _failed(request, None, RpcError(PARSE_ERROR, error.detail))
    if asked is None or asked.method is None or asked.id is None:
        return await _failed(request, None, RpcError(INVALID_REQUEST, "This is no JSON-RPC 2.0 request, with an id"))
    with aborted_on_failure(request):
        try:
            return await _respond(request, api, asked)
        except RpcError as error:
            return await _failed(request, asked.id, error)
        except ApiError as error:
            if error.status >= 500 or error.status in (401, 403):
                raise
            return await _failed(request, asked.id, RpcError(INVALID_PARAMS, error.detail))


async def _failed(request: web.Request, id_: str | int | None, error: RpcError) -> web.StreamResponse:
    all_needless(request)
    return await respond(request, failed(id_, error))


async def _respond(request: web.Request, api: Api, call: RpcCall) -> web.StreamResponse:
    params = call.params
    known = _METHODS.get(str(call.method))
    if call.method in _PUSH:
        raise _no_push()
    if known is None and call.method not in (*_STREAMS, *_RESUBSCRIBES):
        raise RpcError(METHOD_NOT_FOUND, f"Method not found: {call.method}")
    assistant = await runnable_assistant(request, api, path_text(request, "assistant_id"))
    if call.method in _STREAMS:
        shape: Shape = event_1_0 if call.method == "SendStreamingMessage" else dict
        scope = _scope(request, params)
        message = _message(request, params)
        run, thread_id = await _run_of(request, api, assistant, message, modes=["messages-tuple", "values"])
        made = (run, thread_id, scope, lambda item: succeeded(call.id, shape(item)))
        return await stream_run(request, api, *made, task=message.task)
    if call.method in _RESUBSCRIBES:
        return await _resubscribe(request, api, assistant, call)
    assert known is not None
    answer, shaped = known
    return await respond(request, succeeded(call.id, shaped(await answer(request, api, assistant, params))))


def _needs(request: web.Request, *accesses: str) -> None:
    """The call needs only these, of what calls may need."""
    for access in ("threads.create_run", "threads.read", "threads.search", "threads.update"):
        if access not in accesses:
            needless(request, access)


def _message(request: web.Request, params: dict[str, Any]) -> Incoming:
    """The message of a call; what the call needs. Raises `RpcError`: it is none, or asks for push notifications."""
    message = incoming(params)
    configuration = params.get("configuration")
    if isinstance(configuration, dict) and any(configuration.get(name) for name in _PUSH_CONFIGS):
        raise _no_push()
    _needs(request, "threads.create_run", *(() if message.task is None else ("threads.read",)))
    return message


async def _run_of(
    request: web.Request,
    api: Api,
    assistant: AssistantDefaults,
    message: Incoming,
    *,
    modes: list[Any] | None = None,
) -> tuple[RunCreate, str]:
    """The run that a message begins, and its thread; on a thread that waits for an answer the message is that.

    Raises `RpcError`: the task that it continues does not exist, or has ended; it answers nothing of what is asked; it
    has a text, and the graph no `messages`.
    """
    thread_id = message.context_id or make_id(uuid4)
    metadata = {MESSAGE_ID: message.message_id}
    begun = await has_done_something(api)  # a request with an idempotency key, sent again: its run is there
    if message.task is not None:
        only = await allowed(request, "threads.read", {"thread_id": thread_id, "run_id": message.task})
        task = await task_of(api, assistant.assistant_id, thread_id, message.task, HistoryScope(0), only)
        if task["status"]["state"] in ENDED and not begun:
            raise RpcError(UNSUPPORTED_OPERATION, "A terminal task cannot accept another message")
        metadata[runs.A2A_TASK] = message.task
    row = await threads.get(api.pool, thread_id) if message.context_id else None
    waits = row is not None and row["status"] == "interrupted" and not begun
    asked = orjson.loads(row["interrupts"] or b"{}") if row is not None and waits else {}
    given: dict[str, Any] = {"command": {"resume": _answer(message, asked)}} if asked else {"input": message.as_input()}
    if message.needs_messages and not asked and not begun:
        await _check_takes_messages(api, assistant)
    run = RunCreate(
        assistant_id=assistant.assistant_id,
        metadata=metadata,
        if_not_exists="create",
        stream_mode=modes,
        **given,
    )
    return run, thread_id


async def _send(request: web.Request, api: Api, assistant: AssistantDefaults, params: dict[str, Any]) -> Any:
    scope = _scope(request, params)
    message = _message(request, params)
    run, thread_id = await _run_of(request, api, assistant, message)
    configuration = params.get("configuration")
    configuration = configuration if isinstance(configuration, dict) else {}
    if configuration.get("blocking") is False or configuration.get("returnImmediately") is True:
        new = await prepare(request, api, run, thread_id)
        await create_run(api, new)
    else:
        new, _, _ = await run_to_end(request, api, run, thread_id, cancels=False)
    return await task_of(api, assistant.assistant_id, thread_id, message.task or new.run_id, scope)


def _answer(message: Incoming, asked: dict[str, Any]) -> Any:
    """What resumes a thread that asks this: `{task: [interrupt, …]}`. Raises `RpcError`: it does not tell which."""
    ids = [one["id"] for of_task in asked.values() for one in of_task]
    if len(ids) < 2:
        return message.as_answer()
    if not message.data or not message.data.keys() <= set(ids):
        raise RpcError(
            INVALID_PARAMS,
            f"The task asks {len(ids)} questions: send a data part whose keys are those of the interrupts that it "
            f"answers, of {', '.join(ids)}",
        )
    return message.data


async def _check_takes_messages(api: Api, assistant: AssistantDefaults) -> None:
    """Raises `RpcError`: what is said would get lost."""
    info = await api.assistant_cache.graph(api.pool, assistant.graph_id) or {}
    fields = ((info.get("schemas") or {}).get("input") or {}).get("properties")
    if fields and "messages" not in fields:
        raise RpcError(
            INVALID_PARAMS,
            f"The input of graph '{assistant.graph_id}' has no `messages`, where text and files have their place: send "
            f"data parts, with {', '.join(list(fields)[:20])}",
        )


def _no_push() -> RpcError:
    return RpcError(PUSH_NOT_SUPPORTED, "Push Notification is not supported")


async def _get(request: web.Request, api: Api, assistant: AssistantDefaults, params: dict[str, Any]) -> Any:
    thread_id, run_id = parse_task_id(params.get("id"))
    _needs(request, "threads.read")
    only = await allowed(request, "threads.read", {"thread_id": thread_id, "run_id": run_id})
    return await task_of(api, assistant.assistant_id, thread_id, run_id, _scope(request, params), only)


async def _resubscribe(
    request: web.Request, api: Api, assistant: AssistantDefaults, call: RpcCall
) -> web.StreamResponse:
    thread_id, run_id = parse_task_id(call.params.get("id"))
    scope = _scope(request, call.params)
    _needs(request, "threads.read")
    only = await allowed(request, "threads.read", {"thread_id": thread_id, "run_id": run_id})
    await task_of(api, assistant.assistant_id, thread_id, run_id, scope, only)
    shape: Shape = event_1_0 if call.method == "SubscribeToTask" else dict
    place = (assistant.assistant_id, thread_id, run_id)
    return await stream_task(request, api, *place, scope, lambda item: succeeded(call.id, shape(item)))


async def _cancel(request: web.Request, api: Api, assistant: AssistantDefaults, params: dict[str, Any]) -> Any:
    thread_id, run_id = parse_task_id(params.get("id"))
    scope = _scope(request, params)
    _needs(request, "threads.update")
    value = {"thread_id": thread_id, "run_id": run_id, "action": "interrupt"}
    only = await allowed(request, "threads.update", value)
    task = await task_of(api, assistant.assistant_id, thread_id, run_id, scope, only)
    cancelled = False
    if task["status"]["state"] == "input-required":
        await _end_question(request, api, assistant, thread_id, run_id)
        cancelled = True
    elif task["status"]["state"] not in ENDED:
        for of_task in await runs.of_task(api.pool, thread_id, run_id):  # the newest first: it is not to begin now
            cancelled |= await _cancel_run(api, thread_id, of_task)
    if not cancelled:
        raise RpcError(TASK_NOT_CANCELABLE, "Task is not cancelable in its current state")
    return await task_of(api, assistant.assistant_id, thread_id, run_id, scope)


async def _end_question(
    request: web.Request, api: Api, assistant: AssistantDefaults, thread_id: str, run_id: str
) -> None:
    """The task that waits for an answer is cancelled: by a run that never begins, as the run that asked has succeeded.
    Then its thread asks no more."""
    never = RunCreate(
        assistant_id=assistant.assistant_id, metadata={runs.A2A_TASK: run_id}, after_seconds=_NEVER_SECONDS
    )
    new = await prepare(request, api, never, thread_id)
    await create_run(api, new)
    await _cancel_run(api, thread_id, new.run_id)
    row = await threads.get(api.pool, thread_id)
    if row is None or not orjson.loads(row["interrupts"] or b"{}"):
        return
    try:
        end = {"updates": [{"values": None, "as_node": "__end__"}]}
        config = as_caller(request, orjson.loads(row["config"]))
        await update_state(api, thread_id, orjson.loads(row["metadata"]), [end], config=config)
    except UpdateFailed as error:
        raise RpcError(INTERNAL_ERROR, str(error)) from None


async def _cancel_run(api: Api, thread_id: str, run_id: str) -> bool:
    """Whether it was in flight; its executor has stopped then."""
    stopped = EventWaiter(thread_id, "run.stopped", "thread.deleted", run_id=run_id)
    api.hub.subscribe(stopped)
    try:
        cancel = CancelRun(thread_id=thread_id, run_id=run_id, action="interrupt", reason=_REASON)
        decided = await submit_unless_rejected(api, cancel)
        if decided is not None and any(event.get("stopping") for event in decided.events):
            await stopped.wait(api.settings.cancel_wait_timeout_seconds)
        return decided is not None
    finally:
        api.hub.unsubscribe(stopped)


async def _list(request: web.Request, api: Api, assistant: AssistantDefaults, params: dict[str, Any]) -> Any:
    _needs(request, "threads.read" if params.get("contextId") else "threads.search")
    size = _number(params, "pageSize", 0)
    return await list_tasks(request, api, assistant.assistant_id, params, _scope(request, params), size)


async def _card(request: web.Request, api: Api, assistant: AssistantDefaults, params: dict[str, Any]) -> Any:
    _needs(request)
    return await card_of(request, api, assistant)


def _scope(request: web.Request, params: dict[str, Any]) -> HistoryScope:
    configuration = params.get("configuration")
    within = configuration if isinstance(configuration, dict) else params
    length = _number(within, "historyLength", LONGEST_HISTORY)
    metadata = params.get("metadata")
    asked = header(request, HISTORY_SCOPE) or (metadata.get("historyScope") if isinstance(metadata, dict) else None)
    return HistoryScope(min(length, LONGEST_HISTORY), asked in ("task", "thread-task"))


def _number(params: dict[str, Any], name: str, default: int) -> int:
    value = params.get(name, default)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RpcError(INVALID_PARAMS, f"{name}: must be a number, at least 0")
    return value


_PUSH = frozenset({
    *(f"tasks/pushNotificationConfig/{what}" for what in ("set", "get", "list", "delete")),
    *(f"{what}TaskPushNotificationConfig" for what in ("Create", "Get", "Delete")),
    "ListTaskPushNotificationConfigs",
})  # fmt: skip
_PUSH_CONFIGS = ("pushNotificationConfig", "taskPushNotificationConfig")
_STREAMS = ("message/stream", "SendStreamingMessage")
_RESUBSCRIBES = ("tasks/resubscribe", "SubscribeToTask")
_METHODS: dict[str, tuple[Answer, Callable[[Any], Any]]] = {
    "message/send": (_send, dict),
    "tasks/get": (_get, dict),
    "tasks/cancel": (_cancel, dict),
    "agent/getAuthenticatedExtendedCard": (_card, dict),
    "SendMessage": (_send, event_1_0),
    "GetTask": (_get, as_1_0),
    "CancelTask": (_cancel, as_1_0),
    "ListTasks": (_list, as_1_0),
    "GetExtendedAgentCard": (_card, dict),
}

_AGENT = "/a2a/{assistant_id}"
_OF = (Query("assistant_id", "string", "the assistant"),)
Card = dict[str, Any]

routes = [
    Route("GET", "/.well-known/agent-card.json", card, "Get an agent card", returns=Card, query=_OF, errors=(400, 404)),
    Route("GET", _AGENT, card, "Get an assistant's agent card", returns=Card, errors=(404,)),
    Route(
        "POST",
        _AGENT,
        call,
        "Answer one call of an A2A client",
        RpcMessage,
        returns=RpcResponse,
        text=("text/event-stream",),
    ),
]
