"""OpenAPI generator: /openapi.json from the routes and their models, and /docs, a page without a CDN."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal

import orjson
from aiohttp import web
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from threadlog.api.http import headers
from threadlog.api.http.examples import example_of
from threadlog.api.http.models import AnyObject, ErrorResponse, StreamEvent
from threadlog.api.http.responses import raw_reply
from threadlog.api.http.routes import Query, Route, public

_REF = "#/components/schemas/{model}"
_DESCRIPTIONS = {
    201: "Created, but not all of it: what is missing, and why",
    204: "Done; there is nothing to return",
    304: "What the caller has is what is here",
    307: "It is elsewhere",
    400: "The request contradicts itself or can't be applied",
    403: "This origin may not",
    404: "Not found",
    408: "The request did not arrive in time",
    409: "Conflict with what is there",
    413: "The request body is too large",
    415: "The request body is compressed",
    422: "A field or an id is wrong",
    426: "A WebSocket is to be opened here",
    500: "The server can't do its work: what is in the way",
    503: "The log or the database can't be reached; try again",
}
Mode = Literal["validation", "serialization"]


class _Generator(GenerateJsonSchema):
    """Names schemas after their models, without what only tells a response from other classes."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name.removesuffix("Response"))


class Schemas:
    """The JSON Schemas of the models of all routes, which refer to each other by name."""

    def __init__(self, routes: Sequence[Route]) -> None:
        models: dict[tuple[Mode, str], Any] = {}
        for route in routes:
            for mode, model in _models(route):
                if isinstance(model, str):
                    raise TypeError(f"{route.method} {route.path}: {model!r} has to be a type, see api.http.models")
                models[mode, repr(model)] = model
        by_key, definitions = TypeAdapter.json_schemas(
            [(key, key[0], TypeAdapter(model)) for key, model in models.items()],
            ref_template=_REF,
            schema_generator=_Generator,
        )
        self._by_key: Any = by_key
        self.components: dict[str, Any] = definitions.get("$defs", {})

    def of(self, mode: Mode, model: Any) -> dict[str, Any]:
        """The schema of this type."""
        schema: dict[str, Any] = self._by_key[(mode, repr(model)), mode]
        return schema


def _models(route: Route) -> Iterable[tuple[Mode, Any]]:
    if route.body is not None:
        yield "validation", route.body
    for model in (route.returns, *route.also.values(), ErrorResponse, StreamEvent):
        if model is not None:
            yield "serialization", model


def describe(
    routes: Sequence[Route],
    version: str,
    security: Mapping[str, Any] | None = None,
    *,
    prefix: str = "",
    encryption: bool = False,
) -> dict[str, Any]:
    """The OpenAPI 3.1 description of these routes. `security`: as in `ApiSettings`. `prefix`: of all paths.
    `encryption`: the application has handlers, which are told of requests."""
    schemas = Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(plain_path(route.path), {})[route.method.lower()] = _operation(route, schemas, encryption)
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "threadlog",
            "version": version,
            "description": "Durable agent runs on a log, behind the LangGraph Server API.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": schemas.components, "headers": headers.components()},
    }
    if security is not None:
        error = _json(schemas.of("serialization", ErrorResponse))
        _secure(described, security, routes, error)
    return described


def _secure(
    described: dict[str, Any], security: Mapping[str, Any], routes: Sequence[Route], error: dict[str, Any]
) -> None:
    """Describe how callers authenticate, as the application's `auth.openapi` has it, and how they are refused; and
    which operations are open to everybody."""
    for route in routes:
        operation = described["paths"][plain_path(route.path)][route.method.lower()]
        if route.access == ():
            operation["security"] = []
            continue
        for status, why in (("401", "The request is not authenticated"), ("403", "The caller may not")):
            operation["responses"][status] = _response(why, error, ("X-Request-Id",))
    if schemes := security.get("securitySchemes"):
        described["components"]["securitySchemes"] = schemes
    if required := security.get("security"):
        described["security"] = required
    for path, methods in (security.get("paths") or {}).items():
        for method, requirements in methods.items():
            operation = described["paths"].get(path, {}).get(method.lower())
            if operation is not None:
                operation["security"] = requirements


def plain_path(path: str) -> str:
    """The path without the patterns of its parameters."""
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\}|\{\})*\}(?=/|$)", r"{\1}", path.replace("[^{}/]+", "[^/]+"))


def _operation(route: Route, schemas: Schemas, encryption: bool) -> dict[str, Any]:
    path = plain_path(route.path)
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": _description(route),
        "operationId": _operation_id(route.method, path),
        "tags": [path.split("/")[1] or "system"],
        "responses": _responses(route, schemas),
    }
    parameters = [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", path)]
    parameters += [_query_parameter(query) for query in route.query]
    taken = list(route.takes)
    if route.writes:
        taken.append(headers.IDEMPOTENCY_KEY)
    if encryption and route.access != ():
        taken.append(headers.ENCRYPTION_CONTEXT)
    parameters += map(headers.parameter, taken)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = schemas.of("validation", route.body)
        example = example_of(f"{route.method} {path}", route.body)
        if route.list_body:
            schema, example = {"type": "array", "items": schema, "minItems": 1}, [example]
        content = {"application/json": {"schema": schema, "example": example}}
        operation["requestBody"] = {"required": not route.body_optional, "content": content}
    return operation


def _description(route: Route) -> str:
    """The first paragraph of what the handler says of itself, and what its callers have to be allowed."""
    said = " ".join((inspect.getdoc(route.handler) or route.summary).partition("\n\n")[0].split())
    if not route.access:
        return said
    return f"{said}\n\nWith `auth`, asks for {', '.join(f'`{access}`' for access in route.access)}."


def _operation_id(method: str, path: str) -> str:
    words = [part.strip("{}").removesuffix("_id") for part in path.split("/") if part]
    if words and path.endswith("/"):  # beside the same path without it
        words.append("index")
    return "_".join([method.lower(), *words]) or method.lower()


_PATH_PARAMETERS = {
    "thread_id": "Of the thread: a UUID",
    "run_id": "Of the run: a UUID",
    "cron_id": "Of the cron: a UUID",
    "assistant_id": "Of the assistant: a UUID, or where its graph is asked for the graph's name",
    "checkpoint_id": "Of the checkpoint",
    "namespace": "Of the subgraph: the names of nodes, joined by |",
    "file": "Name of the file",
}


def _path_parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name in ("thread_id", "run_id"):
        schema["format"] = "uuid"
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": _PATH_PARAMETERS[name]}


def _query_parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.type}
    if query.type == "array":
        schema["items"] = {"type": "string"}
    return {"name": query.name, "in": "query", "required": False, "schema": schema, "description": query.help}


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    contents: dict[int, dict[str, Any] | None] = {route.status: _content(route, schemas)}
    for status, model in route.also.items():
        contents[status] = None if model is None else _json(schemas.of("serialization", model))
    wrong = {*route.errors, 503}
    if route.body is not None:
        wrong |= {408, 413, 415, 422}
    elif "{" in route.path or route.query:
        wrong.add(422)
    if route.writes:
        wrong |= {409, 422}
    error = _json(schemas.of("serialization", ErrorResponse))
    contents |= dict.fromkeys(wrong - contents.keys(), error)
    return {
        str(status): _response(_DESCRIPTIONS.get(status, "Done"), content, _sent(route, status, content))
        for status, content in sorted(contents.items())
    }


def _sent(route: Route, status: int, content: dict[str, Any] | None) -> tuple[str, ...]:
    """The headers that a response of this status may have."""
    sent = ["X-Request-Id"]
    if status < 400 and (content is not None or status >= 300):
        sent += route.sends
        if route.stream and "Cache-Control" not in sent:
            sent.append("Cache-Control")
    if status == 503 or (status == 409 and route.writes):
        sent.append("Retry-After")
    if status < 500 and route.writes:
        sent.append("Idempotent-Replayed")
    return tuple(sent)


def _response(description: str, content: dict[str, Any] | None, sent: tuple[str, ...]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "headers": headers.references(sent)}
    return response if content is None else {**response, "content": content}


def _content(route: Route, schemas: Schemas) -> dict[str, Any] | None:
    """By content type, what the route returns when it succeeds; None: nothing."""
    content: dict[str, Any] = {text: {"schema": {"type": "string"}} for text in route.text}
    if route.stream:
        content["text/event-stream"] = {"schema": schemas.of("serialization", StreamEvent)}
    if route.returns is not None:
        content |= _json(schemas.of("serialization", route.returns))
    return content or None


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


@public
async def _openapi(request: web.Request) -> web.Response:
    """Return the description of all routes.

    GET /openapi.json (contract 10.3).
    """
    return raw_reply(request.app[_DOCUMENT])


@public
async def _docs(request: web.Request) -> web.Response:
    """Return the description as a page.

    GET /docs (contract 10.3).
    """
    return web.Response(body=_PAGE, headers={"Content-Type": "text/html; charset=utf-8"})


_PAGE = files("threadlog.api.http").joinpath("docs.html").read_bytes()
_DOCUMENT: web.AppKey[bytes] = web.AppKey("openapi", bytes)

routes = [
    Route("GET", "/openapi.json", _openapi, "This description", returns=AnyObject),
    Route("GET", "/docs", _docs, "This description as a page", text=("text/html",)),
]


def serve(app: web.Application, document: dict[str, Any]) -> None:
    """Have /openapi.json of this application return this description."""
    app[_DOCUMENT] = orjson.dumps(document)
