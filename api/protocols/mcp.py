"""MCP, the Model Context Protocol: every assistant is a tool (contract 10.1).

Streamable HTTP without sessions: a POST is one message and its response one JSON object. The specification:
https://modelcontextprotocol.io/specification/2025-06-18/basic/transports.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import all_needless, allowed, metadata_in, needless
from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
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
from threadlog.api.protocols.running import run_to_end
from threadlog.api.runs.bodies import RunCreate
from threadlog.engine.ids import default_assistant_id
from threadlog.projections.queries import assistants

_PAGE = 1000  # tools in one response
_NAME_CHARACTERS = 128
_VERSION = "2025-06-18"
_HINTS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": True}


class RefusedMessageResponse(TypedDict):
    """A body that is no message."""

    error: str
    detail: str


@joins
@requires("assistants.search", "assistants.read", "threads.create_run")
async def message(request: web.Request) -> web.Response:
    """Answer one message of an MCP client.

    POST /mcp (contract 10.1).
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
    try:
        return reply(succeeded(call.id, await _answer(request, call)))
    except RpcError as error:
        all_needless(request)
        return reply(failed(call.id, error))


def _bad(why: str) -> web.Response:
    return reply({"error": why, "detail": why}, 400)


async def _answer(request: web.Request, call: RpcCall) -> Any:
    api = api_of(request)
    match call.method:
        case "initialize":
            all_needless(request)
            return {
                "protocolVersion": call.params.get("protocolVersion") or _VERSION,
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
    offset = int(cursor) if isinstance(cursor, str) and cursor.isascii() and cursor.isdigit() and len(cursor) < 9 else 0
    rows = await _assistants(request, api, offset, _PAGE + 1)
    needless(request, "assistants.read")
    needless(request, "threads.create_run")
    tools = []
    for row in rows[:_PAGE]:
        info = await api.assistant_cache.graph(api.pool, row["graph_id"]) or {}
        schema = (info.get("schemas") or {}).get("input") or {}
        described = row["description"] or info.get("description") or f"Tool based on the {row['name']} assistant"
        tools.append({
            "name": _tool_name(row["name"]),
            "title": row["name"],
            "description": described,
            "inputSchema": schema if schema.get("type") == "object" else {"type": "object", **_wrapped(schema)},
            "annotations": _HINTS,
        })  # fmt: skip
    more = {"nextCursor": str(offset + _PAGE)} if len(rows) > _PAGE else {}
    return {"tools": tools, **more}


def _wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    """MCP's arguments are an object; the input of a graph that takes something else is in its `input`."""
    return {"properties": {"input": schema}, "required": ["input"]} if schema else {}


async def _assistants(request: web.Request, api: Api, offset: int, limit: int) -> list[Any]:
    """Those that the caller finds, the oldest first."""
    value: dict[str, Any] = {"graph_id": None, "metadata": {}, "limit": limit, "offset": offset}
    only = await allowed(request, "assistants.search", value)
    return list(
        await assistants.search(
            api.pool, metadata=metadata_in(value), graph_id=None, name=None, sort_by="created_at", descending=False,
            limit=limit, offset=offset, only=only,
        )
    )  # fmt: skip


def _tool_name(name: str) -> str:
    """The name of an assistant as a tool's: letters, digits, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:_NAME_CHARACTERS] or "_"


async def _call(request: web.Request, api: Api, params: dict[str, Any]) -> dict[str, Any]:
    name, arguments = params.get("name"), params.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "arguments: must be an object")
    row = await _assistant_named(request, api, name)
    if row is None:
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {str(name)[:_NAME_CHARACTERS]}")
    info = await api.assistant_cache.graph(api.pool, row["graph_id"]) or {}
    schema = (info.get("schemas") or {}).get("input") or {}
    given: Any = arguments or {}
    if schema and schema.get("type") not in (None, "object"):
        given = given.get("input")
    run = RunCreate(assistant_id=str(row["assistant_id"]), input=given)
    try:
        _, error, values = await run_to_end(request, api, run, None)
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
    """The assistant whose tool has this name, the oldest if several have. A graph's own is everybody's to run, also of
    those who do not find it."""
    if not isinstance(name, str):
        return None
    offset = 0
    while rows := await _assistants(request, api, offset, _PAGE):
        for row in rows:
            if _tool_name(row["name"]) == name:
                return row
        offset += len(rows)
    for graph_id in await api.assistant_cache.graph_names(api.pool):
        if _tool_name(graph_id) == name:
            return await assistants.get(api.pool, default_assistant_id(graph_id))
    return None


routes = [
    Route(
        "POST",
        "/mcp",
        message,
        "Answer one message of an MCP client",
        RpcMessage,
        returns=RpcResponse,
        also={202: None, 400: RefusedMessageResponse},
    )
]
