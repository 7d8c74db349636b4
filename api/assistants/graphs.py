"""Handlers of /assistants/{id}/graph, /schemas, /subgraphs: read what executors registered about the graph."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from threadlog.api.assistants.json import DrawingResponse, SchemasResponse, SubgraphsResponse, schemas_to_json
from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.requests import path_text, query_flag, query_text
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Query, Route, requires
from threadlog.engine.ids import as_uuid, default_assistant_id


@requires("assistants.read")
async def graph(request: web.Request) -> web.Response:
    """Return the graph's drawing; `xray` expands subgraphs.

    GET /assistants/{assistant_id}/graph (contract 1.1).
    """
    drawings = (await _info(request))[1].get("drawings") or {}
    key = _xray(query_text(request, "xray"))
    drawing = drawings.get(key, drawings.get("true" if key != "0" else "0"))
    if drawing is None:
        raise ApiError(404, "This graph can't be drawn")
    return reply(drawing)


@requires("assistants.read")
async def schemas(request: web.Request) -> web.Response:
    """Return the graph's JSON schemas.

    GET /assistants/{assistant_id}/schemas (contract 1.1).
    """
    graph_id, info = await _info(request)
    return reply(schemas_to_json(graph_id, info.get("schemas") or {}))


@requires("assistants.read")
async def subgraphs(request: web.Request) -> web.Response:
    """Return the schemas of the graph's subgraphs, of one with `namespace`, of nested ones with `recurse`.

    GET /assistants/{assistant_id}/subgraphs[/{namespace}] (contract 1.1).
    """
    _, info = await _info(request)
    recurse = query_flag(request, "recurse")
    namespace = path_text(request, "namespace") or None
    schemas_of: SubgraphsResponse = {}
    for name, described in (info.get("subgraphs") or {}).items():
        if namespace is not None and name != namespace and not (recurse and name.startswith(f"{namespace}|")):
            continue
        if namespace is None and not recurse and "|" in name:
            continue
        schemas_of[name] = schemas_to_json(described.get("graph_id"), described.get("schemas") or described)
    return reply(schemas_of)


def _xray(raw: str | None) -> str:
    """The drawing's key: "0" without subgraphs, a depth, or "true" for all of them."""
    if raw is None or raw.lower() == "false":
        return "0"
    if raw.lower() == "true":
        return "true"
    try:
        depth = int(raw)
    except ValueError:
        depth = 0
    if depth < 1:
        raise ApiError(422, f"Invalid xray value: {shown(raw)}. Must be true, false or an integer of at least 1")
    return str(depth)


async def _info(request: web.Request) -> tuple[str, dict[str, Any]]:
    api: Api = api_of(request)
    raw = path_text(request, "assistant_id")
    assistant_id = as_uuid(raw)
    if assistant_id is None:
        if raw not in await api.assistant_cache.graph_names(api.pool):
            raise ApiError(422, "Invalid assistant ID: must be a UUID or the name of a graph")
        assistant_id = default_assistant_id(raw)
    only = await allowed(request, "assistants.read", {"assistant_id": assistant_id})
    assistant = await api.assistant_cache.assistant(api.pool, assistant_id)
    if assistant is None or (only is not None and not only.matches(assistant.metadata)):
        raise ApiError(404, f"Assistant with ID {assistant_id} not found", code="assistant_not_found")
    info = await api.assistant_cache.graph(api.pool, assistant.graph_id)
    if info is None:
        raise ApiError(
            404, f"Graph '{assistant.graph_id}' is not registered. Is an executor running?", code="graph_not_found"
        )
    return assistant.graph_id, info


_ID = "/assistants/{assistant_id}"
_RECURSE = (Query("recurse", "boolean", "include subgraphs of subgraphs, their names joined by |"),)

routes = [
    Route(
        "GET", f"{_ID}/graph", graph, "Get the graph's drawing", returns=DrawingResponse, errors=(404,),
        query=(Query("xray", "string", "true or a depth of at least 1: expand subgraphs"),),
    ),
    Route("GET", f"{_ID}/schemas", schemas, "Get the graph's JSON schemas", returns=SchemasResponse, errors=(404,)),
    Route("GET", f"{_ID}/subgraphs", subgraphs, "Get the subgraphs' schemas", returns=SubgraphsResponse,
          query=_RECURSE, errors=(404,)),
    Route(
        "GET", f"{_ID}/subgraphs/{{namespace}}", subgraphs, "Get one subgraph's schemas", returns=SubgraphsResponse,
        query=_RECURSE, errors=(404,),
    ),
]  # fmt: skip
