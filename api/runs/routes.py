"""Handlers of /threads/{id}/runs and /runs: create, list, get, delete, batch; and the route table of all runs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.commands import gather_in_batches, submit
from threadlog.api.context import api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import AT_A_TIME, RUNS
from threadlog.api.http.models import EmptyResponse, fields_of, list_of_selected
from threadlog.api.http.requests import (
    body,
    checked,
    json_body,
    path_uuid,
    query_int,
    query_list,
    query_text,
    select_of,
    thread_id_or_none,
)
from threadlog.api.http.responses import no_content, reply, select_fields
from threadlog.api.http.routes import Query, Route, requires, sends
from threadlog.api.runs import cancel, explain, stream, wait
from threadlog.api.runs.bodies import CancelMany, RunCreate
from threadlog.api.runs.create import create_run, prepare
from threadlog.api.runs.json import Output, RunResponse, run_to_json
from threadlog.api.threads.lookup import require_thread
from threadlog.engine.domain.commands import DeleteRun
from threadlog.projections.queries import runs as queries

_SELECTABLE = fields_of(RunResponse)


@requires("threads.create_run", "assistants.read")
@sends("Content-Location")
async def create(request: web.Request) -> web.Response:
    """Create a run in the background.

    POST /threads/{thread_id}/runs, POST /runs (contract 1.3, 3).
    """
    api = api_of(request)
    thread_id = thread_id_or_none(request)
    new = await prepare(request, api, await body(request, RunCreate), thread_id)
    return reply(await create_run(api, new), headers=new.headers())


@requires("threads.create_run", "assistants.read")
async def batch(request: web.Request) -> web.Response:
    """Create stateless runs, all checked before the first is created; the response is in the order of the request.

    POST /runs/batch (contract 1.3, 3.5).
    """
    api = api_of(request)
    items = await json_body(request, RunCreate.OPAQUE)
    if not isinstance(items, list) or not items:
        raise ApiError(422, "The request body must be a list of at least one run")
    if len(items) > RUNS:
        raise ApiError(
            422, f"The request body is a list of {len(items)} runs; at most {RUNS} are allowed", code="limit_exceeded"
        )
    new_runs = []
    for index, item in enumerate(items):
        if index % AT_A_TIME == 0:
            await asyncio.sleep(0)  # let other requests run: `prepare` may never wait for anything
        try:
            new_runs.append(await prepare(request, api, checked(item, RunCreate), None))
        except ApiError as error:
            raise ApiError(error.status, f"[{index}] {error.detail}", error.headers, code=error.code) from None
    return reply(await gather_in_batches(partial(create_run, api), new_runs))


@requires("threads.search")
async def list_runs(request: web.Request) -> web.Response:
    """Return a page of a thread's runs, newest first.

    GET /threads/{thread_id}/runs (contract 1.3).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    limit = query_int(request, "limit", 10, 0, 1000)
    offset = query_int(request, "offset", 0, 0, 2**31 - 1)
    select = select_of(query_list(request, "select"), _SELECTABLE)
    status = query_text(request, "status")
    value: dict[str, Any] = {"thread_id": thread_id, "metadata": {}, "status": status, "limit": limit, "offset": offset}
    only = await allowed(request, "threads.search", value)
    rows = await queries.search(api.pool, thread_id, status=status, limit=limit, offset=offset, only=only)
    if not rows:
        await require_thread(api, thread_id, only)
    return reply([select_fields(run_to_json(row), select) for row in rows])


@requires("threads.read")
async def get(request: web.Request) -> web.Response:
    """Return one run.

    GET /threads/{thread_id}/runs/{run_id}, GET /runs/{run_id} (contract 1.3).
    """
    thread_id = thread_id_or_none(request)
    run_id = path_uuid(request, "run_id", "run")
    only = await allowed(request, "threads.read", {"thread_id": thread_id, "run_id": run_id})
    row = await queries.get(api_of(request).pool, run_id, thread_id, only)
    if row is None:
        raise ApiError(404, "Run not found", code="run_not_found")
    return reply(run_to_json(row))


@requires("threads.delete")
async def delete(request: web.Request) -> web.Response:
    """Delete a run with its checkpoints, also while it executes.

    DELETE /threads/{thread_id}/runs/{run_id} (contract 1.3).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    run_id = path_uuid(request, "run_id", "run")
    only = await allowed(request, "threads.delete", {"thread_id": thread_id, "run_id": run_id})
    if await queries.progress(api.pool, run_id, thread_id, only) is None:
        raise ApiError(404, "Run not found", code="run_not_found")
    await submit(api, DeleteRun(thread_id=thread_id, run_id=run_id))
    return no_content()


_ON_THREAD = "/threads/{thread_id}/runs"
_RUN = f"{_ON_THREAD}/{{run_id}}"
# Ids don't begin like this; /runs/crons and the like are other resources.
_STATELESS = "/runs/{run_id:(?!crons(?:/|$))[^{}/]+}"
_CANCEL = (
    Query("wait", "boolean", "respond once the run has stopped"),
    Query("action", "string", "interrupt, or rollback: also delete the run and its checkpoints"),
    Query("reason", "string", "what the run's cancel_reason is to say; taken: another run has taken up its input"),
)
_LEAVE = Query("cancel_on_disconnect", "boolean", "cancel the run when the last such client has gone")
_NAMESPACE = Query(
    "namespace", "array", 'only events of these graphs, "" for the root; without the subgraphs of theirs'
)
_JOIN_STREAM = (
    Query("stream_mode", "array", "only events of these modes"),
    _NAMESPACE,
    Query("checkpoint_id", "string", "of a resumable run, only what came after this checkpoint, if the run made it"),
    _LEAVE,
)

_STORY: dict[str, Any] = {
    "returns": explain.StoryResponse, "text": ("text/plain",), "query": explain.QUERY, "errors": (400, 404),
}  # fmt: skip


def _created(method: str, path: str, handler: Any, summary: str, **more: Any) -> Route:
    return Route(method, path, handler, summary, RunCreate, errors=(400, 404, 409), **more)


routes = [
    _created("POST", f"{_ON_THREAD}/wait", wait.create, "Create a run and wait for its output", returns=Output),
    _created("POST", f"{_ON_THREAD}/stream", stream.create, "Create a run and stream its events", stream=True,
             query=(_NAMESPACE,)),
    _created("POST", _ON_THREAD, create, "Create a run in the background", returns=RunResponse),
    _created("POST", "/runs/wait", wait.create, "Create a stateless run and wait", returns=Output),
    _created("POST", "/runs/stream", stream.create, "Create a stateless run and stream it", stream=True,
             query=(_NAMESPACE,)),
    _created("POST", "/runs", create, "Create a stateless run in the background", returns=RunResponse),
    Route(
        "POST", "/runs/batch", batch, "Create several stateless runs", RunCreate, list_body=True,
        returns=list[RunResponse],
        errors=(400, 404),
    ),
    Route(
        "POST", "/runs/cancel", cancel.cancel_many, "Cancel several runs", CancelMany, status=204, errors=(404,),
        query=_CANCEL[1:],
    ),
    Route(
        "GET", _ON_THREAD, list_runs, "List a thread's runs, newest first", returns=list_of_selected(RunResponse),
        errors=(400, 404),
        query=(
            Query("limit", "integer", "runs of a page; default: 10"),
            Query("offset", "integer", "runs before the page"),
            Query("status", "string", "only runs with this status"),
            Query("select", "array", "only these fields of the runs"),
        ),
    ),
    Route("GET", _RUN, get, "Get a run", returns=RunResponse, errors=(404,)),
    Route("DELETE", _RUN, delete, "Delete a run and its checkpoints", status=204, errors=(404,)),
    Route("GET", f"{_RUN}/explain", explain.explain, "Explain a run: its story, from the log", **_STORY),
    Route("GET", f"{_RUN}/join", wait.join, "Wait for a run's output", returns=Output, query=(_LEAVE,),
          errors=(404,)),
    Route("GET", f"{_RUN}/stream", stream.join, "Join a run's stream", stream=True, query=_JOIN_STREAM,
          errors=(404,)),
    Route("POST", f"{_RUN}/cancel", cancel.cancel, "Cancel a run", status=202, also={200: EmptyResponse},
          query=_CANCEL, errors=(404,)),
    Route("GET", _STATELESS, get, "Get a run by its id alone", returns=RunResponse, errors=(404,)),
    Route("GET", f"{_STATELESS}/explain", explain.explain, "Explain a run by its id alone", **_STORY),
    Route("GET", f"{_STATELESS}/join", wait.join, "Wait for a run's output", returns=Output, query=(_LEAVE,),
          errors=(404,)),
    Route("GET", f"{_STATELESS}/stream", stream.join, "Join a run's stream", stream=True, query=_JOIN_STREAM,
          errors=(404,)),
    Route("POST", f"{_STATELESS}/cancel", cancel.cancel, "Cancel a run", status=202, also={200: EmptyResponse},
          query=_CANCEL, errors=(404,)),
]  # fmt: skip
