"""State handlers: /threads/{id}/state and /history."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from threadlog.api.auth.gate import allowed, caller_of
from threadlog.api.context import Api, api_of
from threadlog.api.encrypted_fields import require_readable
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.models import fields_of
from threadlog.api.http.requests import body, path_text, path_uuid, query_flag, query_int, query_list, query_text
from threadlog.api.http.responses import no_content, reply
from threadlog.api.http.routes import Query, Route, requires
from threadlog.api.threads.bodies import CheckpointRef, History, StateAt, StatePatch, StateUpdate
from threadlog.api.threads.json import StateUpdatedResponse, ThreadStateResponse
from threadlog.api.threads.lookup import readable, require_thread, thread_not_found
from threadlog.api.threads.routes import merge_metadata
from threadlog.api.threads.state_updates import UpdateFailed, update_state
from threadlog.projections.queries import state, threads
from threadlog.projections.render.state import EVERYTHING, StateSelection

_FIELDS = fields_of(ThreadStateResponse)
_KEY = "values."


def parse_selection(names: list[str] | None) -> StateSelection:
    """The fields a client asks for, `values.<key>` for one key of the values; 422 names what is not a field."""
    if not names:
        return EVERYTHING
    fields, keys = set[str](), set[str]()
    for name in names:
        if name.startswith(_KEY) and name != _KEY:
            keys.add(name.removeprefix(_KEY))
        elif name in _FIELDS:
            fields.add(name)
        else:
            allowed = ", ".join([*sorted(_FIELDS), "values.<key>"])
            raise ApiError(422, f"select: {shown(name)} is not one of {allowed}")
    if "values" in fields or not keys:
        return StateSelection(frozenset(fields))
    return StateSelection(frozenset(fields | {"values"}), frozenset(keys))


@requires("threads.read")
async def get(request: web.Request) -> web.Response:
    """Return a thread's newest state.

    GET /threads/{thread_id}/state (contract 1.2, 4.1).
    """
    selection = parse_selection(query_list(request, "select"))
    return await _state(request, subgraphs=query_flag(request, "subgraphs"), selection=selection)


@requires("threads.read")
async def get_at(request: web.Request) -> web.Response:
    """Return the state at a checkpoint.

    GET /threads/{thread_id}/state/{checkpoint_id} (contract 1.2, 4.1).
    """
    return await _state(
        request,
        checkpoint_id=path_text(request, "checkpoint_id"),
        subgraphs=query_flag(request, "subgraphs"),
        selection=parse_selection(query_list(request, "select")),
    )


@requires("threads.read")
async def post_at(request: web.Request) -> web.Response:
    """Return the state at a checkpoint, which may be a subgraph's.

    POST /threads/{thread_id}/state/checkpoint (contract 1.2, 4.1).
    """
    params = await body(request, StateAt)
    return await _state(
        request,
        checkpoint_id=_id(params.checkpoint),
        ns=params.checkpoint.checkpoint_ns or "",
        subgraphs=bool(params.subgraphs),
        selection=parse_selection(params.select),
    )


@requires("threads.update")
async def update(request: web.Request) -> web.Response:
    """Have an executor apply an update with the thread's graph; returns the new checkpoint.

    POST /threads/{thread_id}/state (contract 1.2, 4.2).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    params = await body(request, StateUpdate)
    only = await allowed(request, "threads.update", {"thread_id": thread_id})
    row = await threads.get(api.pool, thread_id, only)
    if row is None:
        raise thread_not_found(thread_id)
    checkpoint = params.checkpoint.as_dict() if params.checkpoint is not None else {}
    if params.checkpoint_id is not None:
        checkpoint.setdefault("checkpoint_id", params.checkpoint_id)
    try:
        result = await update_state(
            api,
            thread_id,
            orjson.loads(row["metadata"]),
            _supersteps(params),
            checkpoint=checkpoint or None,
            config=as_caller(request, orjson.loads(row["config"])),
        )
    except UpdateFailed as error:
        raise ApiError(400, str(error), code="update_failed") from None
    checkpoint_of_update: Any = result.get("checkpoint") or {}
    response: StateUpdatedResponse = {
        "checkpoint": checkpoint_of_update,
        "configurable": result.get("configurable") or {},
        "checkpoint_id": checkpoint_of_update.get("checkpoint_id"),
    }
    return reply(response)


@requires("threads.update")
async def patch(request: web.Request) -> web.Response:
    """Merge into the thread's metadata, as PATCH /threads/{thread_id} does: older clients call it so.

    PATCH /threads/{thread_id}/state.
    """
    params = await body(request, StatePatch)
    await merge_metadata(request, api_of(request), path_uuid(request, "thread_id", "thread"), params.metadata)
    return no_content()


def as_caller(request: web.Request, config: dict[str, Any]) -> dict[str, Any]:
    """The thread's config with who updates it, for graphs that are made by the user."""
    caller = caller_of(request)
    if caller is None:
        return config
    return {**config, "configurable": {**(config.get("configurable") or {}), **caller.configurable()}}


def _supersteps(params: StateUpdate) -> list[dict[str, Any]]:
    """A list of objects is that many updates, of one superstep if the node is named, else one after the other."""
    values, as_node = params.values, params.as_node
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        return [{"updates": [{"values": values, "as_node": as_node}]}]
    updates = [{"values": value, "as_node": as_node} for value in values]
    return [{"updates": updates}] if as_node is not None else [{"updates": [update]} for update in updates]


@requires("threads.read")
async def get_history(request: web.Request) -> web.Response:
    """Return a thread's states, newest first.

    GET /threads/{thread_id}/history (contract 1.2, 4.3).
    """
    limit = query_int(request, "limit", 10, 1, 1000)
    selection = parse_selection(query_list(request, "select"))
    return await _history(request, limit=limit, before=query_text(request, "before"), selection=selection)


@requires("threads.read")
async def post_history(request: web.Request) -> web.Response:
    """Return a thread's states, newest first, filtered by metadata, also of a subgraph.

    POST /threads/{thread_id}/history (contract 1.2, 4.3).
    """
    params = await body(request, History)
    checkpoint = params.checkpoint
    return await _history(
        request,
        limit=params.limit,
        before=_before(params.before),
        checkpoint_id=(checkpoint.checkpoint_id if checkpoint is not None else None) or None,
        metadata=params.metadata,
        ns=(checkpoint.checkpoint_ns if checkpoint is not None else None) or "",
        selection=parse_selection(params.select),
    )


async def _state(
    request: web.Request, *, checkpoint_id: str | None = None, ns: str = "", subgraphs: bool, selection: StateSelection
) -> web.Response:
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    await readable(request, api, thread_id)
    read = StateSelection(selection.fields | {"checkpoint"}, selection.keys)
    thread_state = await read_state(
        api, thread_id, checkpoint_id=checkpoint_id, ns=ns, subgraphs=subgraphs, selection=read
    )
    if thread_state["checkpoint"] is None:  # nothing there: of a thread, or of nothing?
        await require_thread(api, thread_id)
    if "checkpoint" not in selection.fields:
        del thread_state["checkpoint"]
    return reply(thread_state)


async def read_state(
    api: Api,
    thread_id: str,
    *,
    checkpoint_id: str | None = None,
    ns: str = "",
    subgraphs: bool = False,
    selection: StateSelection = EVERYTHING,
) -> dict[str, Any]:
    """A state in one snapshot, so that its parts fit together."""
    async with api.snapshot() as connection:
        return await state.get_state(
            connection, thread_id, checkpoint_id=checkpoint_id, ns=ns, subgraphs=subgraphs, selection=selection
        )


async def _history(
    request: web.Request,
    *,
    limit: int,
    before: str | None,
    checkpoint_id: str | None = None,
    metadata: Any = None,
    ns: str = "",
    selection: StateSelection,
) -> web.Response:
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    await readable(request, api, thread_id)
    require_readable(api, metadata, "metadata")
    async with api.snapshot() as connection:
        states = await state.get_history(
            connection,
            thread_id,
            limit=limit,
            before=before,
            checkpoint_id=checkpoint_id,
            metadata=metadata or None,
            ns=ns,
            selection=selection,
        )
    if not states:
        await require_thread(api, thread_id)
    return reply(states)


def _id(checkpoint: CheckpointRef) -> str | None:
    return checkpoint.checkpoint_id


def _before(before: Any) -> str | None:
    """An id, a checkpoint, or a config with one."""
    if before is None or before == {}:
        return None
    if isinstance(before, dict):
        inner = before.get("configurable")
        before = (inner if isinstance(inner, dict) else before).get("checkpoint_id")
    if not isinstance(before, str):
        raise ApiError(422, "before: must be a checkpoint id, or an object with a checkpoint_id")
    return before


_STATE = "/threads/{thread_id}/state"
_HISTORY = "/threads/{thread_id}/history"
_SELECT = Query("select", "array", "only these fields of the state; values.<key> for one key of its values")
_STATE_QUERY = (Query("subgraphs", "boolean", "nest the states of running subgraphs"), _SELECT)

routes = [
    Route("GET", _STATE, get, "Get a thread's state", returns=ThreadStateResponse, query=_STATE_QUERY, errors=(404,)),
    Route(
        "POST", _STATE, update, "Update a thread's state", StateUpdate, returns=StateUpdatedResponse,
        errors=(400, 404, 409),
    ),
    Route("PATCH", _STATE, patch, "Merge into a thread's metadata", StatePatch, status=204, errors=(404,)),
    Route(
        "POST", f"{_STATE}/checkpoint", post_at, "Get the state at a checkpoint", StateAt, returns=ThreadStateResponse,
        errors=(404,),
    ),
    Route(
        "GET", f"{_STATE}/{{checkpoint_id}}", get_at, "Get the state at a checkpoint", returns=ThreadStateResponse,
        query=_STATE_QUERY, errors=(404,),
    ),
    Route(
        "GET", _HISTORY, get_history, "Get a thread's states, newest first", returns=list[ThreadStateResponse],
        errors=(400, 404),
        query=(
            Query("limit", "integer", "states of a page; default: 10"),
            Query("before", "string", "a checkpoint id, exclusive"),
            _SELECT,
        ),
    ),
    Route(
        "POST", _HISTORY, post_history, "Get a thread's states, newest first", History,
        returns=list[ThreadStateResponse], errors=(404,),
    ),
]  # fmt: skip
