"""OpenAPI generator: /openapi.json from the routes and their models, and /docs, a page without a CDN."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import orjson
from aiohttp import web
from pydantic.json_schema import models_json_schema

from threadlog.api.http.responses import raw_reply
from threadlog.api.http.routes import Query, Route
from threadlog.api.http.schemas import SCHEMAS

_REF = "#/components/schemas/{model}"
_ERRORS = {
    201: "Created, but not all of it: what is missing, and why",
    400: "The request contradicts itself or can't be applied",
    403: "This origin may not",
    404: "Not found",
    409: "Conflict with what is there",
    408: "The request did not arrive in time",
    413: "The request body is too large",
    415: "The request body is compressed",
    422: "A field or an id is wrong",
    500: "The server can't do its work: what is in the way",
    426: "A WebSocket is to be opened here",
    503: "The log or the database can't be reached; try again",
}


def describe(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 description of these routes."""
    models = sorted({route.body for route in routes if route.body is not None}, key=lambda m: m.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(plain_path(route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "threadlog",
            "version": version,
            "description": "Durable agent runs on a log, behind the LangGraph Server API.",
        },
        "paths": paths,
        "components": {"schemas": {**definitions.get("$defs", {}), **SCHEMAS}},
    }


def plain_path(path: str) -> str:
    """The path without the patterns of its parameters."""
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\}|\{\})*\}(?=/|$)", r"{\1}", path.replace("[^{}/]+", "[^/]+"))


def _operation(route: Route) -> dict[str, Any]:
    path = plain_path(route.path)
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route.method, path),
        "tags": [path.split("/")[1] or "system"],
        "responses": _responses(route),
    }
    parameters = [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", path)]
    parameters += [_query_parameter(query) for query in route.query]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema: dict[str, Any] = {"$ref": _REF.format(model=route.body.__name__)}
        if route.list_body:
            schema = {"type": "array", "items": schema, "minItems": 1}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _operation_id(method: str, path: str) -> str:
    words = [part.strip("{}").removesuffix("_id") for part in path.split("/") if part]
    return "_".join([method.lower(), *words]) or method.lower()


def _path_parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name in ("thread_id", "run_id"):
        schema["format"] = "uuid"
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.type}
    if query.type == "array":
        schema["items"] = {"type": "string"}
    parameter = {"name": query.name, "in": "query", "required": False, "schema": schema}
    return {**parameter, "description": query.help} if query.help else parameter


def _responses(route: Route) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Done"}
    if route.stream:
        success = {
            "description": "Server-sent events",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    elif route.returns is not None:
        success = {"description": "Done", "content": {"application/json": {"schema": _schema(route.returns)}}}
    responses = {str(route.status): success}
    wrong = {*route.errors, 503}
    if route.body is not None:
        wrong |= {408, 413, 415, 422}
    elif "{" in route.path or route.query:
        wrong.add(422)
    error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    for status in sorted(wrong):
        responses[str(status)] = {"description": _ERRORS[status], "content": error}
    return responses


def _schema(returns: str) -> dict[str, Any]:
    if returns.startswith("["):
        return {"type": "array", "items": {"$ref": _REF.format(model=returns[1:-1])}}
    return {"$ref": _REF.format(model=returns)}


def routes_of(described: dict[str, Any]) -> list[Route]:
    """The two routes that serve the description."""
    document = orjson.dumps(described)
    page = files("threadlog.api.http").joinpath("docs.html").read_bytes()

    async def openapi(request: web.Request) -> web.Response:
        return raw_reply(document)

    async def docs(request: web.Request) -> web.Response:
        return web.Response(body=page, headers={"Content-Type": "text/html; charset=utf-8"})

    return [
        Route("GET", "/openapi.json", openapi, "This description"),
        Route("GET", "/docs", docs, "This description as a page"),
    ]
