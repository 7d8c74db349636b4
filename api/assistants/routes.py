"""Handlers of /assistants: create, read, search, patch, delete, versions."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from aiohttp import web

from threadlog.api.assistants.bodies import (
    AssistantCreate,
    AssistantFilter,
    AssistantLatest,
    AssistantPatch,
    AssistantSearch,
    AssistantVersions,
)
from threadlog.api.assistants.config import sync_config_and_context
from threadlog.api.assistants.json import AssistantResponse, assistant_to_json
from threadlog.api.auth.gate import allowed, metadata_in
from threadlog.api.commands import delete_crons_of, submit, submit_many
from threadlog.api.context import Api, api_of
from threadlog.api.encrypted_fields import require_readable
from threadlog.api.http.bodies import JsonObject
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.models import Count, fields_of, list_of_selected
from threadlog.api.http.requests import body, path_uuid, query_flag, query_int, select_of
from threadlog.api.http.responses import no_content, page, reply, select_fields
from threadlog.api.http.routes import Query, Route, requires, sends
from threadlog.api.idempotency.keyed import make_id
from threadlog.engine.domain.commands import (
    CancelRun,
    CreateAssistant,
    DeleteAssistant,
    DeleteThread,
    SetLatestAssistant,
    UpdateAssistant,
)
from threadlog.projections.queries import assistants as queries
from threadlog.projections.queries import runs, threads
from threadlog.projections.queries.metadata_filter import MetadataFilter

_SELECTABLE = fields_of(AssistantResponse)


@requires("assistants.create")
async def create(request: web.Request) -> web.Response:
    """Create an assistant, or return it as it is with `if_exists=do_nothing`.

    POST /assistants (contract 1.1, 5).
    """
    api = api_of(request)
    params = await body(request, AssistantCreate)
    await _require_graph(api, params.graph_id)
    config, context = sync_config_and_context(params.config, params.context)
    assistant_id = params.assistant_id or make_id(uuid4)
    value: JsonObject = {
        "assistant_id": assistant_id,
        "graph_id": params.graph_id,
        "config": config or {},
        "context": context or {},
        "metadata": params.metadata or {},
        "if_exists": params.if_exists or "raise",
        "name": params.name or "Untitled",
    }
    only = await allowed(request, "assistants.create", value)
    command = CreateAssistant(
        assistant_id=assistant_id,
        graph_id=params.graph_id,
        name=value["name"],
        description=params.description,
        config=value["config"],
        context=value["context"],
        metadata=metadata_in(value),
        if_exists=params.if_exists or "raise",
    )
    decided = await submit(api, command)
    row = await queries.get(api.pool, assistant_id, only)
    made_now = bool(decided.events) and decided.events[0]["type"] == "assistant.created"
    if row is None or not (made_now or await _may_read(request, api, assistant_id)):
        # It exists, and is not the caller's; or was deleted meanwhile.
        raise ApiError(409, f"Assistant {assistant_id} already exists")
    return reply(assistant_to_json(row))


async def _may_read(request: web.Request, api: Api, assistant_id: str) -> bool:
    try:
        only = await allowed(request, "assistants.read", {"assistant_id": assistant_id})
    except ApiError as error:
        if error.status >= 500:
            raise
        return False
    return only is None or await queries.get(api.pool, assistant_id, only) is not None


@requires("assistants.read")
async def get(request: web.Request) -> web.Response:
    """Return the current version of an assistant.

    GET /assistants/{assistant_id} (contract 1.1).
    """
    assistant_id = path_uuid(request, "assistant_id", "assistant")
    only = await allowed(request, "assistants.read", {"assistant_id": assistant_id})
    return await _assistant_response(api_of(request), assistant_id, only)


@requires("assistants.update")
async def patch(request: web.Request) -> web.Response:
    """Make a new version of an assistant, which becomes the current one.

    PATCH /assistants/{assistant_id} (contract 1.1, 5).
    """
    api = api_of(request)
    assistant_id = path_uuid(request, "assistant_id", "assistant")
    params = await body(request, AssistantPatch)
    if params.graph_id is not None:
        await _require_graph(api, params.graph_id)
    config, context = sync_config_and_context(params.config, params.context)
    value: dict[str, Any] = {
        "assistant_id": assistant_id,
        "graph_id": params.graph_id,
        "config": config,
        "context": context,
        "metadata": params.metadata or {},
        "name": params.name,
    }
    await _require_allowed(api, assistant_id, await allowed(request, "assistants.update", value))
    command = UpdateAssistant(
        assistant_id=assistant_id,
        graph_id=params.graph_id,
        name=value["name"],
        description=params.description,
        config=value["config"],
        context=value["context"],
        metadata=metadata_in(value) or params.metadata,
    )
    decided = await submit(api, command)
    made = next((event["version"] for event in decided.events if event["type"] == "assistant.updated"), None)
    if made is not None and (row := await queries.get_version(api.pool, assistant_id, made)) is not None:
        return reply(assistant_to_json(row))  # another client may have made the next one meanwhile
    return await _assistant_response(api, assistant_id)


@requires("assistants.delete")
async def delete(request: web.Request) -> web.Response:
    """Delete an assistant and its crons, and cancel its runs; `delete_threads` also deletes their threads.

    DELETE /assistants/{assistant_id} (contract 1.1).
    """
    api = api_of(request)
    assistant_id = path_uuid(request, "assistant_id", "assistant")
    delete_threads = query_flag(request, "delete_threads")
    only = await allowed(request, "assistants.delete", {"assistant_id": assistant_id})
    await _require_allowed(api, assistant_id, only)
    threads_only = await allowed(request, "threads.delete", {"thread_id": None}) if delete_threads else None
    await submit(api, DeleteAssistant(assistant_id=assistant_id))
    reason = f"assistant {assistant_id} was deleted"
    rows = await runs.in_flight_of_assistant(api.pool, assistant_id)
    cancellations = [
        CancelRun(thread_id=str(row["thread_id"]), run_id=str(row["run_id"]), reason=reason) for row in rows
    ]
    await submit_many(api, cancellations)
    thread_ids: list[str] = []
    if delete_threads:
        thread_ids = await threads.ids_of_assistant(api.pool, assistant_id, threads_only)
        await submit_many(api, [DeleteThread(thread_id=thread_id) for thread_id in thread_ids])
    await delete_crons_of(api, thread_ids=thread_ids, assistant_id=assistant_id)
    return no_content()


@requires("assistants.search")
@sends("X-Pagination-Total", "X-Pagination-Next")
async def search(request: web.Request) -> web.Response:
    """Return a page of the assistants that match.

    POST /assistants/search (contract 1.1).
    """
    api = api_of(request)
    params = await body(request, AssistantSearch)
    select = select_of(params.select, _SELECTABLE)
    only, metadata = await _search_allowed(request, params, params.limit, params.offset)
    rows = await queries.search(
        api.pool,
        metadata=metadata,
        graph_id=params.graph_id,
        name=params.name,
        sort_by=params.sort_by or "created_at",
        descending=params.sort_order != "asc",
        limit=params.limit + 1,
        offset=params.offset,
        only=only,
    )
    items = [select_fields(assistant_to_json(row), select) for row in rows[: params.limit]]
    return page(items, params.limit, params.offset, more=len(rows) > params.limit)


@requires("assistants.search")
async def count(request: web.Request) -> web.Response:
    """Return the number of assistants that match.

    POST /assistants/count (contract 1.1).
    """
    params = await body(request, AssistantFilter)
    only, metadata = await _search_allowed(request, params, 0, 0)
    found = await queries.count(
        api_of(request).pool, metadata=metadata, graph_id=params.graph_id, name=params.name, only=only
    )
    return reply(found)


async def _search_allowed(
    request: web.Request, params: AssistantFilter, limit: int, offset: int
) -> tuple[MetadataFilter | None, JsonObject]:
    """Ask for `assistants.search`; returns the filter, and the metadata to search for."""
    value = {"graph_id": params.graph_id, "metadata": params.metadata or {}, "limit": limit, "offset": offset}
    only = await allowed(request, "assistants.search", value)
    metadata = metadata_in(value)
    require_readable(api_of(request), metadata, "metadata")
    return only, metadata


@requires("assistants.read")
async def versions(request: web.Request) -> web.Response:
    """Return the versions of an assistant, newest first.

    POST /assistants/{assistant_id}/versions (contract 1.1, 5).
    """
    api = api_of(request)
    assistant_id = path_uuid(request, "assistant_id", "assistant")
    params = await body(request, AssistantVersions) if request.can_read_body else AssistantVersions()
    only = await allowed(request, "assistants.read", {"assistant_id": assistant_id})
    await _require_allowed(api, assistant_id, only)
    require_readable(api, params.metadata, "metadata")
    rows = await queries.versions(
        api.pool, assistant_id, metadata=params.metadata, limit=params.limit, offset=params.offset
    )
    if not rows and await queries.get(api.pool, assistant_id) is None:
        raise _missing(assistant_id)
    return reply([assistant_to_json(row, with_updated_at=False) for row in rows])


@requires("assistants.update")
async def set_latest(request: web.Request) -> web.Response:
    """Make an existing version the current one.

    POST /assistants/{assistant_id}/latest, the version in the body or the query (contract 1.1, 5).
    """
    api = api_of(request)
    assistant_id = path_uuid(request, "assistant_id", "assistant")
    if "version" in request.query:
        version = query_int(request, "version", 0, 1, 2**31 - 1)
    else:
        version = (await body(request, AssistantLatest)).version
    value = {"assistant_id": assistant_id, "version": version}
    await _require_allowed(api, assistant_id, await allowed(request, "assistants.update", value))
    await submit(api, SetLatestAssistant(assistant_id=assistant_id, version=version))
    return await _assistant_response(api, assistant_id)


async def _require_graph(api: Api, graph_id: str) -> None:
    names = await api.assistant_cache.graph_names(api.pool)
    if graph_id not in names:
        raise ApiError(404, f"Graph {shown(graph_id)} not found. Expected one of: {names}", code="graph_not_found")


async def _require_allowed(api: Api, assistant_id: str, only: MetadataFilter | None) -> None:
    """Raises `ApiError` 404 unless the assistant passes the filter."""
    if only is not None and await queries.get(api.pool, assistant_id, only) is None:
        raise _missing(assistant_id)


async def _assistant_response(api: Api, assistant_id: str, only: MetadataFilter | None = None) -> web.Response:
    row = await queries.get(api.pool, assistant_id, only)
    if row is None:
        raise _missing(assistant_id)
    return reply(assistant_to_json(row))


def _missing(assistant_id: str) -> ApiError:
    return ApiError(404, f"Assistant with ID {assistant_id} not found", code="assistant_not_found")


_ID = "/assistants/{assistant_id}"

routes = [
    Route(
        "POST", "/assistants", create, "Create an assistant", AssistantCreate, returns=AssistantResponse,
        errors=(400, 404, 409),
    ),
    Route("POST", "/assistants/search", search, "Search assistants", AssistantSearch,
          returns=list_of_selected(AssistantResponse)),
    Route("POST", "/assistants/count", count, "Count assistants", AssistantFilter, returns=Count),
    Route("GET", _ID, get, "Get an assistant", returns=AssistantResponse, errors=(404,)),
    Route("PATCH", _ID, patch, "Make a new version", AssistantPatch, returns=AssistantResponse, errors=(400, 404)),
    Route(
        "DELETE", _ID, delete, "Delete an assistant and stop its runs", status=204, errors=(404,),
        query=(Query("delete_threads", "boolean", "also delete the threads of its runs"),),
    ),
    Route(
        "POST", f"{_ID}/versions", versions, "List versions, newest first", AssistantVersions, body_optional=True,
        returns=list[AssistantResponse], errors=(404,),
    ),
    Route(
        "POST", f"{_ID}/latest", set_latest, "Make a version current", AssistantLatest, body_optional=True,
        returns=AssistantResponse, query=(Query("version", "integer", "instead of the body's"),), errors=(400, 404),
    ),
]  # fmt: skip
