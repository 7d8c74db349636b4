"""Command dispatcher of the event-streaming protocol: a client's command as the run, or the read, that it means.

A command's response is `{"type": "success", "id", "result", "meta"}` or `{"type": "error", "id", "error", "message"}`,
both with status 200. What it decides goes through the same gateway as every other request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from aiohttp import web
from pydantic import ValidationError

from threadlog.api.context import Api
from threadlog.api.events.errors import ProtocolError
from threadlog.api.events.filters import InvalidFilter, filter_of
from threadlog.api.events.interrupts import missing, waiting
from threadlog.api.events.models import CommandFailedResponse, CommandMeta, CommandSucceededResponse
from threadlog.api.events.subscription import sequence_at
from threadlog.api.events.tree import agent_tree
from threadlog.api.http.errors import ApiError, invalid
from threadlog.api.http.limits import shown
from threadlog.api.idempotency.keyed import has_done_something
from threadlog.api.runs.bodies import RunCreate
from threadlog.api.runs.create import create_run, prepare
from threadlog.api.threads.state import read_state
from threadlog.engine.log.records import EVENT_STREAMING, partition_of
from threadlog.projections.queries import runs, state, threads
from threadlog.projections.queries.metadata_filter import MetadataFilter
from threadlog.projections.render.state import StateSelection

JsonObject = dict[str, Any]
Handler = Callable[["Commands", JsonObject], Awaitable[JsonObject]]

# What every run of this protocol streams, so that each channel has data whoever subscribes later.
STREAM_MODES = ["values", "updates", "messages-tuple", "tools", "lifecycle", "tasks", "custom"]
MALFORMED = "Protocol commands must include an integer id and string method."
# Of a command, what only the graph looks into: see `json_text.payloads`.
OPAQUE = ("params.input", "params.response", "params.responses.response", "params.update", "params.goto")
# What the protocol decides for its runs; the other fields of a run are the client's: what is not acted on is refused.
_DECIDED = {"stream_mode", "stream_subgraphs", "stream_resumable", "if_not_exists", "on_disconnect", "on_completion"}
_FIELDS = RunCreate.model_fields.keys() - _DECIDED - {"assistant_id", "command", "strict_resume"}
_MOST_CHECKPOINTS = 1000
_SUMMARY = StateSelection(frozenset(("checkpoint", "metadata", "created_at", "next")))


def is_command(value: Any) -> bool:
    """Whether it has the form of a command."""
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        return False
    return isinstance(value.get("id"), int) and not isinstance(value["id"], bool)


def malformed(value: Any) -> CommandFailedResponse:
    """The response to what is not a command."""
    command_id = value.get("id") if isinstance(value, dict) else None
    return failure(command_id, ProtocolError("invalid_argument", MALFORMED))


def failure(command_id: Any, error: ProtocolError) -> CommandFailedResponse:
    return {"type": "error", "id": command_id, "error": error.code, "message": error.message}


class Commands:
    """The commands of one thread's clients. `request`: the HTTP request, or that of the WebSocket they came by.

    `only`: the threads that the client may read, None: all. One that does not exist yet is for `run.start` to create.
    """

    def __init__(self, request: web.Request, api: Api, thread_id: str, only: MetadataFilter | None) -> None:
        self._request, self._api, self._thread_id, self._only = request, api, thread_id, only

    async def respond(self, command: JsonObject) -> CommandSucceededResponse | CommandFailedResponse:
        """The response to a command that `is_command`. Raises what makes the whole server unavailable."""
        try:
            result = await self.result(command["method"], command.get("params"))
        except ProtocolError as error:
            return failure(command["id"], error)
        return self.success(command["id"], result)

    def success(self, command_id: Any, result: JsonObject) -> CommandSucceededResponse:
        return {"type": "success", "id": command_id, "result": result, "meta": self._meta()}

    async def result(self, method: str, params: Any) -> JsonObject:
        """Carry out a command. Raises `ProtocolError`."""
        handler = _HANDLERS.get(method)
        if handler is None:
            raise ProtocolError("unknown_command", f"Unknown protocol command: {shown(method)}")
        if params is None:
            params = {}
        if not isinstance(params, dict):
            raise ProtocolError("invalid_argument", "params must be an object")
        if self._only is not None:
            await self._require_readable(self._only)
        return await handler(self, params)

    async def _require_readable(self, only: MetadataFilter) -> None:
        # With each command: over a WebSocket, the thread may have been created by somebody else meanwhile.
        exists, pool = threads.exists, self._api.pool
        if not await exists(pool, self._thread_id, only) and await exists(pool, self._thread_id):
            raise ProtocolError("unknown_error", "404: Thread or assistant not found.")

    def _meta(self) -> CommandMeta:
        # Every event up to here was there before the response; a run begun by the command has later ones.
        position = self._api.hub.stream_position(partition_of(self._thread_id, self._api.log.partitions))
        return {"applied_through_seq": sequence_at(position)}

    # --- runs

    async def _run_start(self, params: JsonObject) -> JsonObject:
        assistant_id = params.get("assistant_id")
        if not isinstance(assistant_id, str) or not assistant_id:
            raise ProtocolError("invalid_argument", "run.start requires an assistant_id.")
        fields = {name: params[name] for name in _FIELDS if params.get(name) is not None}
        questions = await waiting(self._api.pool, self._thread_id)
        if questions:
            if len(questions) > 1:
                raise ProtocolError(
                    "invalid_argument",
                    f"The thread waits for {len(questions)} answers: send input.respond with their interrupt ids.",
                )
            answer = fields.pop("input", None)
            # LangGraph takes null for an answer only where it is told whose.
            fields["command"] = {"resume": {questions.pop(): None} if answer is None else answer}
        strategy = params.get("multitask_strategy") or params.get("multitaskStrategy")
        if strategy is not None:
            fields["multitask_strategy"] = strategy
        return await self._start(assistant_id, fields)

    async def _respond(self, params: JsonObject) -> JsonObject:
        responses = _responses(params)
        last = await self._last_assistant()
        answered = await has_done_something(self._api)  # by this request, sent before
        if not answered and (lacking := await missing(self._api, self._thread_id, responses)):
            raise ProtocolError("no_such_interrupt", f"Unknown or already-consumed interrupt: {shown(lacking[0])}")
        command: JsonObject = {"resume": responses}
        for name in ("update", "goto"):
            if params.get(name) is not None:
                command[name] = params[name]
        fields: JsonObject = {"command": command, "strict_resume": True}
        for name in ("config", "metadata"):
            if params.get(name) is not None:
                fields[name] = params[name]
        await self._start(last, fields)
        return {}

    async def _fork(self, params: JsonObject) -> JsonObject:
        checkpoint_id = params.get("checkpoint_id")
        if not isinstance(checkpoint_id, str) or not checkpoint_id:
            raise ProtocolError("invalid_argument", "state.fork requires a checkpoint_id.")
        last = await self._last_assistant()
        state_json = await read_state(self._api, self._thread_id, checkpoint_id=checkpoint_id, selection=_SUMMARY)
        if state_json["checkpoint"] is None:
            raise ProtocolError("no_such_checkpoint", f"Unknown checkpoint: {shown(checkpoint_id)}")
        fields: JsonObject = {"checkpoint_id": checkpoint_id}
        for name in ("input", "config"):
            if params.get(name) is not None:
                fields[name] = params[name]
        return {**await self._start(last, fields), "thread_id": self._thread_id}

    async def _start(self, assistant_id: str, fields: JsonObject) -> JsonObject:
        fields |= {
            "assistant_id": assistant_id,
            "stream_mode": STREAM_MODES,
            "stream_subgraphs": True,
            "stream_resumable": True,
            "if_not_exists": "create",
        }
        try:
            run = RunCreate.model_validate(fields)
        except ValidationError as error:
            raise ProtocolError("invalid_argument", invalid(error).detail) from None
        try:
            new = await prepare(self._request, self._api, run, self._thread_id, streamed=True)
            new.command.run["kwargs"]["config"]["configurable"][EVENT_STREAMING] = True
            await create_run(self._api, new)
        except ApiError as error:
            if error.status >= 500:
                raise
            if error.code == "invalid_request":
                raise ProtocolError("invalid_argument", error.detail) from None
            raise ProtocolError("unknown_error", f"{error.status}: {error.detail}") from None
        return {"run_id": new.run_id}

    async def _last_assistant(self) -> str:
        newest = await runs.search(self._api.pool, self._thread_id, status=None, limit=1, offset=0)
        if not newest:
            raise ProtocolError("no_such_run", "No run is bound to this thread.")
        return str(newest[0]["assistant_id"])

    # --- reads

    async def _tree(self, params: JsonObject) -> JsonObject:
        run_id = params.get("run_id")
        if run_id is not None and not isinstance(run_id, str):
            raise ProtocolError("invalid_argument", "run_id must be a string")
        tree = await agent_tree(self._api, self._thread_id, run_id)
        if tree is None:
            raise ProtocolError("no_such_run", "No active run is bound to this thread.")
        return {"tree": tree}

    async def _state(self, params: JsonObject) -> JsonObject:
        ns = _namespace(params)
        keys = params.get("keys")
        if keys is not None and not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
            raise ProtocolError("invalid_argument", "keys must be an array of strings")
        selection = StateSelection(frozenset(("values", "checkpoint")), frozenset(keys) if keys is not None else None)
        state_json = await read_state(self._api, self._thread_id, ns=ns, selection=selection)
        if state_json["checkpoint"] is None:
            if ns:
                raise ProtocolError("no_such_namespace", f"There is no state of {shown(ns)}")
            return {"values": {}}
        values = state_json["values"] if isinstance(state_json["values"], dict) else {}
        checkpoint = {"id": state_json["checkpoint"]["checkpoint_id"], "ns": ns}
        return {"values": values, "checkpoint": checkpoint}

    async def _checkpoints(self, params: JsonObject) -> JsonObject:
        limit = params.get("limit", 10)
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _MOST_CHECKPOINTS:
            raise ProtocolError("invalid_argument", f"limit must be a whole number from 1 to {_MOST_CHECKPOINTS}")
        before = params.get("before")
        if before is not None and not isinstance(before, str):
            raise ProtocolError("invalid_argument", "before must be a checkpoint id")
        ns = _namespace(params)
        async with self._api.snapshot() as connection:
            states = await state.get_history(
                connection, self._thread_id, limit=limit, before=before, ns=ns, selection=_SUMMARY
            )
        return {"checkpoints": [_summary(state_json) for state_json in states]}

    # --- subscriptions, of which an HTTP request has none

    async def _subscribe(self, params: JsonObject) -> JsonObject:
        try:
            filter_of(params)
        except InvalidFilter as error:
            raise ProtocolError("invalid_argument", str(error)) from None
        return {"subscription_id": str(uuid4()), "replayed_events": 0}

    async def _unsubscribe(self, params: JsonObject) -> JsonObject:
        raise ProtocolError(
            "no_such_subscription", f"Unknown subscription: {shown(str(params.get('subscription_id')))}"
        )

    async def _reconnect(self, params: JsonObject) -> JsonObject:
        raise ProtocolError("not_supported", "Subscribe again: the events of the past are replayed.")

    async def _inject(self, params: JsonObject) -> JsonObject:
        raise ProtocolError("not_supported", "Send run.start with the message as input: it runs after the current run.")


_HANDLERS: dict[str, Handler] = {
    "run.start": Commands._run_start,
    "input.respond": Commands._respond,
    "input.inject": Commands._inject,
    "subscription.subscribe": Commands._subscribe,
    "subscription.unsubscribe": Commands._unsubscribe,
    "subscription.reconnect": Commands._reconnect,
    "agent.getTree": Commands._tree,
    "state.get": Commands._state,
    "state.listCheckpoints": Commands._checkpoints,
    "state.fork": Commands._fork,
}


def _responses(params: JsonObject) -> JsonObject:
    """The answers by interrupt id: one, or a list of them."""
    responses = params.get("responses")
    entries = [params] if responses is None else responses
    if not isinstance(entries, list) or not entries:
        raise ProtocolError("invalid_argument", "responses must be a non-empty array")
    answers: JsonObject = {}
    for entry in entries:
        interrupt_id = entry.get("interrupt_id") if isinstance(entry, dict) else None
        if not isinstance(interrupt_id, str) or not interrupt_id:
            raise ProtocolError("invalid_argument", "input.respond requires an interrupt_id.")
        answers[interrupt_id] = entry.get("response")
    return answers


def _namespace(params: JsonObject) -> str:
    namespace = params.get("namespace") or []
    if not isinstance(namespace, list) or not all(isinstance(segment, str) for segment in namespace):
        raise ProtocolError("invalid_argument", "namespace must be an array of strings")
    return "|".join(namespace)


def _summary(state_json: JsonObject) -> JsonObject:
    metadata = state_json.get("metadata") or {}
    return {
        "id": state_json["checkpoint"]["checkpoint_id"],
        "timestamp": state_json["created_at"],
        "step": metadata.get("step", -1),
        "metadata": metadata,
    }
