"""MCP, the Model Context Protocol: every assistant is a tool (contract 10.1).

Streamable HTTP without sessions: a POST is one message and its response one JSON object. The specification:
https://modelcontextprotocol.io/specification/2025-06-18/basic/transports.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import all_needless, allowed, metadata_in, needless
from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import ErrorResponse
from threadlog.api.http.requests import header, json_body
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Route, joins, requires
from threadlog.api.protocols.json_rpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    RpcCall,
    RpcError,
    RpcMessage,
    RpcResponse,
    call_of,
    failed,
    succeeded,
)
from threadlog.api.protocols.mcp_tools import NAME_CHARACTERS, add_tools, tool_input, tool_name, tool_schema
from threadlog.api.protocols.running import run_to_end
from threadlog.api.protocols.slow_reply import aborted_on_failure, respond
from threadlog.api.runs.bodies import RunCreate
from threadlog.engine.ids import default_assistant_id
from threadlog.projections.queries import assistants

_PAGE = 1000  # tools in one response
_ROWS = 1000  # assistants read at a time
_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Of the protocol, with `initialize`; later ones begin otherwise, and their clients fall back to it."""
_HINTS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": True}


class RefusedMessageResponse(TypedDict):
    """A body that is no message."""

    error: str
    detail: str


@joins
@requires("assistants.search", "assistants.read", "threads.create_run")
async def message(request: web.Request) -> web.StreamResponse:
    """Answer one message of an MCP client.

    POST /mcp[/] (contract 10.1).
    """
    accept = header(request, "Accept").lower()
    if accept and not any(kind in accept for kind in ("application/json", "text/event-stream", "*/*")):
        return _bad("Accept header must include application/json or text/event-stream")
    try:
        body = await json_body(request)
    except ApiError as error:
        if error.status != 422:
            raise
        return _bad("Invalid JSON")
    call = call_of(body)
    if call is None:
        return _bad("Invalid message format.")
    if call.method is None or call.id is None:  # a response, or a notification
        all_needless(request)
        return web.Response(status=202)
    with aborted_on_failure(request):
        try:
            return await respond(request, succeeded(call.id, await _answer(request, call)))
        except RpcError as error:
            all_needless(request)
            return await respond(request, failed(call.id, error))


def _bad(why: str) -> web.Response:
    return reply({"error": why, "detail": why}, 400)


async def _answer(request: web.Request, call: RpcCall) -> Any:
    api = api_of(request)
    match call.method:
        case "initialize":
            all_needless(request)
            asked = call.params.get("protocolVersion")
            return {
                "protocolVersion": asked if asked in _VERSIONS else _VERSIONS[-1],
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": "LangGraph", "version": api.settings.version},
            }
        case "ping":
            all_needless(request)
            return {}
        case "tools/list":
            return await _list(request, api, call.params.get("cursor"))
        case "tools/call":
            return await _call(request, api, call.params)
    raise RpcError(METHOD_NOT_FOUND, f"Method not found: {call.method}")


async def _list(request: web.Request, api: Api, cursor: Any) -> dict[str, Any]:
    offset = _offset(cursor)
    named = await _named(request, api, most=offset + _PAGE + 1)
    needless(request, "assistants.read")
    needless(request, "threads.create_run")
    tools = []
    for name, row in list(named.items())[offset : offset + _PAGE]:
        info = await api.assistant_cache.graph(api.pool, row["graph_id"]) or {}
        described = row["description"] or info.get("description") or f"Tool based on the {row['name']} assistant"
        tools.append({
            "name": name,
            "title": row["name"],
            "description": described,
            "inputSchema": tool_schema((info.get("schemas") or {}).get("input") or {}),
            "annotations": _HINTS,
        })  # fmt: skip
    more = {"nextCursor": str(offset + _PAGE)} if len(named) > offset + _PAGE else {}
    return {"tools": tools, **more}


def _offset(cursor: Any) -> int:
    """How many tools were in the pages before. Raises `RpcError`: it is no `nextCursor`."""
    if cursor is None:
        return 0
    if not (isinstance(cursor, str) and cursor.isascii() and cursor.isdigit() and len(cursor) < 9):
        raise RpcError(INVALID_PARAMS, "cursor: must be the nextCursor of an earlier page")
    return int(cursor)


async def _named(
    request: web.Request, api: Api, *, wanted: str | None = None, most: int | None = None
) -> dict[str, Any]:
    """The assistants that the caller finds by their tools' names, the oldest first; up to the one that is `wanted`, or
    so many at least."""
    named: dict[str, Any] = {}
    read = 0
    while True:
        rows = await _assistants(request, api, read, _ROWS)
        add_tools(named, rows)
        read += len(rows)
        if len(rows) < _ROWS or wanted in named or (most is not None and len(named) >= most):
            return named


async def _assistants(request: web.Request, api: Api, offset: int, limit: int) -> list[Any]:
    value: dict[str, Any] = {"graph_id": None, "metadata": {}, "limit": limit, "offset": offset}
    only = await allowed(request, "assistants.search", value)
    return list(
        await assistants.search(
            api.pool, metadata=metadata_in(value), graph_id=None, name=None, sort_by="created_at", descending=False,
            limit=limit, offset=offset, only=only,
        )
    )  # fmt: skip


async def _call(request: web.Request, api: Api, params: dict[str, Any]) -> dict[str, Any]:
    name, arguments = params.get("name"), params.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "arguments: must be an object")
    row = await _assistant_named(request, api, name)
    if row is None:
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {str(name)[:NAME_CHARACTERS]}")
    info = await api.assistant_cache.graph(api.pool, row["graph_id"]) or {}
    schema = (info.get("schemas") or {}).get("input") or {}
    run = RunCreate(assistant_id=str(row["assistant_id"]), input=tool_input(arguments or {}, schema))
    try:
        _, error, values = await run_to_end(request, api, run, None, cancels=True)
    except ApiError as error:
        if error.status >= 500:
            raise
        raise RpcError(INVALID_PARAMS, error.detail) from None
    if error is not None:
        said = ": ".join(str(part) for part in (error.get("error"), error.get("message")) if part)
        return {"isError": True, "content": [{"type": "text", "text": said}]}
    text = values if isinstance(values, str) else orjson.dumps(values).decode()
    return {"content": [{"type": "text", "text": text}]}


async def _assistant_named(request: web.Request, api: Api, name: Any) -> Any | None:
    """The assistant whose tool has this name. A graph's own is everybody's to run, also of those who do not find it."""
    if not isinstance(name, str):
        return None
    if (row := (await _named(request, api, wanted=name)).get(name)) is not None:
        return row
    for graph_id in await api.assistant_cache.graph_names(api.pool):
        if tool_name(graph_id) == name:
            return await assistants.get(api.pool, default_assistant_id(graph_id))
    return None


@requires("assistants.search")
async def no_session(request: web.Request) -> web.Response:
    """Say that there is no session to end.

    DELETE /mcp[/] (contract 10.1).
    """
    all_needless(request)
    raise ApiError(404, "There are no sessions here: nothing has to be ended")


routes = [
    route
    for path in ("/mcp", "/mcp/")
    for route in (
        Route(
            "POST",
            path,
            message,
            "Answer one message of an MCP client",
            RpcMessage,
            returns=RpcResponse,
            also={202: None, 400: RefusedMessageResponse},
        ),
        Route("DELETE", path, no_session, "There is no session to end", returns=ErrorResponse, status=404),
    )
]
