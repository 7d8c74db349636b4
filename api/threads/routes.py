"""Handlers of /threads: create, read, patch, delete, prune, storage."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson
from aiohttp import web
from uuid_utils import uuid7

from threadlog.api.auth.gate import allowed, metadata_in
from threadlog.api.commands import delete_crons_of, submit, submit_many
from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.models import ErrorResponse
from threadlog.api.http.requests import body, header, path_uuid, query_list
from threadlog.api.http.responses import no_content, normalize_timestamp, reply, time_text
from threadlog.api.http.routes import Query, Route, requires, takes
from threadlog.api.idempotency.keyed import make_id
from threadlog.api.threads.bodies import ThreadCreate, ThreadPatch, ThreadPrune
from threadlog.api.threads.json import (
    PrunedResponse,
    StorageResponse,
    ThreadResponse,
    TtlResponse,
    new_thread_to_json,
    thread_to_json,
)
from threadlog.api.threads.lookup import require_allowed, thread_not_found, values_of
from threadlog.api.threads.state_updates import apply_supersteps
from threadlog.engine.domain.commands import CreateThread, DeleteThread, PruneThread, UpdateThread
from threadlog.engine.domain.expiry import Ttl, ttl_of
from threadlog.projections.queries import threads as queries
from threadlog.projections.queries.metadata_filter import MetadataFilter

_RESERVED_METADATA = frozenset(("thread_id", "run_id", "assistant_id"))


@requires("threads.create")
async def create(request: web.Request) -> web.Response:
    """Create a thread, or return it as it is with `if_exists=do_nothing`; `supersteps` replay a history into it.

    POST /threads (contract 1.2, 4.7).
    """
    api = api_of(request)
    params = await body(request, ThreadCreate)
    thread_id = params.thread_id or make_id(uuid7)
    ttl = params.ttl or api.settings.thread_ttl
    value = {
        "thread_id": thread_id,
        "metadata": without_reserved(params.metadata),
        "if_exists": params.if_exists or "raise",
        "ttl": None if ttl is None else ttl.wire,
    }
    only = await allowed(request, "threads.create", value)
    metadata = without_reserved(metadata_in(value))
    command = CreateThread(
        thread_id=thread_id,
        metadata=metadata,
        if_exists=params.if_exists or "raise",
        ttl=None if ttl is None else ttl.wire,
    )
    decided = await submit(api, command)
    created = bool(decided.events) and decided.events[0]["type"] == "thread.created"
    if not created:
        await _require_own(request, api, thread_id, only)
    if params.supersteps:
        supersteps = [{"updates": [u.model_dump() for u in step.updates]} for step in params.supersteps]
        problem = await apply_supersteps(api, thread_id, metadata, supersteps)
        if problem is not None:
            detail = f"Thread {thread_id} was created, but there were problems updating the state: {problem}"
            return reply(ErrorResponse(detail=detail, code="update_failed"), 201)
    elif decided.at and created:
        return reply(new_thread_to_json(thread_id, metadata, normalize_timestamp(decided.at)))
    return await _thread_response(api, thread_id)


async def _require_own(request: web.Request, api: Api, thread_id: str, only: MetadataFilter | None) -> None:
    """Raises `ApiError` 409 unless the caller may see the thread that is there already: a handler of `threads.create`
    that only writes an owner, as LangGraph's own examples have it, says nothing of threads that others have made."""
    try:
        may_read = await allowed(request, "threads.read", {"thread_id": thread_id})
    except ApiError as error:
        if error.status >= 500:
            raise
        raise _exists(thread_id) from None
    for each in (only, may_read):
        if each is not None and not await queries.exists(api.pool, thread_id, each):
            raise _exists(thread_id)


def _exists(thread_id: str) -> ApiError:
    return ApiError(409, f"Thread with ID {thread_id} already exists")


@requires("threads.read")
async def get(request: web.Request) -> web.Response:
    """Return a thread; `include=ttl` adds when it expires.

    GET /threads/{thread_id} (contract 1.2, 4.6).
    """
    include = query_list(request, "include")
    for name in include:
        if name != "ttl":
            raise ApiError(422, f"include: {shown(name)} is not known; ttl is")
    thread_id = path_uuid(request, "thread_id", "thread")
    only = await allowed(request, "threads.read", {"thread_id": thread_id})
    return await _thread_response(api_of(request), thread_id, only, with_ttl="ttl" in include)


@requires("threads.update")
@takes("Prefer")
async def patch(request: web.Request) -> web.Response:
    """Merge into a thread's metadata, replace its ttl; with `Prefer: return=minimal` the response is an empty 204.

    PATCH /threads/{thread_id} (contract 1.2).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    params = await body(request, ThreadPatch)
    await merge_metadata(request, api, thread_id, params.metadata, params.ttl)
    if "return=minimal" in header(request, "Prefer"):
        return no_content()
    return await _thread_response(api, thread_id)


async def merge_metadata(
    request: web.Request, api: Api, thread_id: str, metadata: dict[str, Any] | None, ttl: Ttl | None = None
) -> None:
    """Merge these into the thread's metadata, at the top level; a ttl replaces the thread's. Raises `ApiError` 404
    without such a thread."""
    value = {"thread_id": thread_id, "metadata": without_reserved(metadata)}
    await require_allowed(api, thread_id, await allowed(request, "threads.update", value))
    wire = None if ttl is None else ttl.wire
    await submit(api, UpdateThread(thread_id=thread_id, metadata=without_reserved(metadata_in(value)), ttl=wire))


@requires("threads.delete")
async def delete(request: web.Request) -> web.Response:
    """Delete a thread with everything in it.

    DELETE /threads/{thread_id} (contract 1.2, 4.8).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    await require_allowed(api, thread_id, await allowed(request, "threads.delete", {"thread_id": thread_id}))
    await submit(api, DeleteThread(thread_id=thread_id))
    await delete_crons_of(api, thread_ids=[thread_id])
    return no_content()


@requires("threads.delete")
async def prune(request: web.Request) -> web.Response:
    """Delete threads, or all but their newest checkpoints (`keep_latest`).

    POST /threads/prune (contract 1.2, 4.6).
    """
    api = api_of(request)
    params = await body(request, ThreadPrune)
    command = PruneThread if params.strategy == "keep_latest" else DeleteThread
    only = await allowed(request, "threads.delete", {"thread_ids": params.thread_ids})
    thread_ids = await queries.existing(api.pool, params.thread_ids, only)
    commands = [command(thread_id=thread_id) for thread_id in thread_ids]
    pruned = await submit_many(api, commands)
    if command is DeleteThread:
        await delete_crons_of(api, thread_ids=thread_ids)
    return reply(PrunedResponse(pruned_count=pruned))


@requires("threads.read")
async def storage(request: web.Request) -> web.Response:
    """Return the bytes that a thread occupies in the read models.

    GET /threads/{thread_id}/storage (contract 1.2).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    only = await allowed(request, "threads.read", {"thread_id": thread_id})
    async with api.snapshot() as connection:
        if not await queries.exists(connection, thread_id, only):
            raise thread_not_found(thread_id)
        return reply(await queries.storage(connection, thread_id))


def without_reserved(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Of a client's metadata what is the client's to set; `graph_id` is, `assistant_id` comes with a run."""
    return {name: value for name, value in (metadata or {}).items() if name not in _RESERVED_METADATA}


async def _thread_response(
    api: Api, thread_id: str, only: MetadataFilter | None = None, *, with_ttl: bool = False
) -> web.Response:
    row = await queries.get(api.pool, thread_id, only)
    if row is None:
        raise thread_not_found(thread_id)
    item = thread_to_json(row, (await values_of(api.pool, [row])).get(thread_id))
    if with_ttl:
        item["ttl"] = _ttl_of(row)
    return reply(item)


def _ttl_of(row: asyncpg.Record) -> TtlResponse | None:
    """The clock of a thread's time to live starts anew with every activity."""
    ttl = ttl_of(None if row["ttl"] is None else orjson.loads(row["ttl"]))
    if ttl is None:
        return None
    last: datetime = max(row["updated_at"], row["state_updated_at"])
    expires_at = time_text(last + timedelta(minutes=ttl.minutes))
    return {"strategy": ttl.strategy, "ttl_minutes": ttl.minutes, "expires_at": expires_at}


_ID = "/threads/{thread_id}"

routes = [
    Route("POST", "/threads", create, "Create a thread", ThreadCreate, returns=ThreadResponse, errors=(409,),
          also={201: ErrorResponse}),
    Route("POST", "/threads/prune", prune, "Delete or shorten threads", ThreadPrune, returns=PrunedResponse),
    Route(
        "GET", _ID, get, "Get a thread", returns=ThreadResponse, errors=(404,),
        query=(Query("include", "string", "ttl: also tell when the thread expires"),),
    ),
    Route("PATCH", _ID, patch, "Merge into a thread's metadata", ThreadPatch, returns=ThreadResponse, errors=(404,),
          also={204: None}),
    Route("DELETE", _ID, delete, "Delete a thread with everything in it", status=204, errors=(404,)),
    Route("GET", f"{_ID}/storage", storage, "Get the bytes a thread occupies", returns=StorageResponse, errors=(404,)),
]  # fmt: skip
