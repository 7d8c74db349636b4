"""Handlers of /ui: what `LoadExternalComponent` of the JavaScript client asks for (docs/generative-ui.md)."""

from __future__ import annotations

import html
import mimetypes
import re

import orjson
from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api, api_of
from threadlog.api.http.bodies import Body, Name
from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import body, path_text
from threadlog.api.http.routes import Route, public, requires, sends
from threadlog.api.ui.bundles import BUNDLES
from threadlog.engine.ids import as_uuid
from threadlog.projections.queries import assistants

_LOCAL = ("localhost", "127.0.0.1")


class Component(Body):
    """`name`: of one of the components that the file exports."""

    name: Name


@requires("assistants.read")
async def component(request: web.Request) -> web.Response:
    """Return HTML that loads a component of an agent: of the bundle of this name, or of this assistant's graph.

    POST /ui/{assistant_id}.
    """
    api = api_of(request)
    named = path_text(request, "assistant_id")
    only = await allowed(request, "assistants.read", {"assistant_id": named})
    wanted = await body(request, Component)
    if (assistant_id := as_uuid(named)) is not None:
        row = await assistants.get(api.pool, assistant_id, only)
        named = "" if row is None else row["graph_id"]
    files = await request.app[BUNDLES].files(named)
    if files is None:
        raise ApiError(404, "UI not found for this assistant")
    place = _place(request, api, named)
    tags = [f'<link rel="stylesheet" href="{place}/{html.escape(file)}" />' for file in files if file.endswith(".css")]
    variable = f"__LGUI_{re.sub(r'[^a-zA-Z0-9]', '_', named)}"
    call = html.escape(f'{variable}.render({orjson.dumps(wanted.name).decode()}, "{{{{shadowRootId}}}}")')
    tags += [
        f'<script src="{place}/{html.escape(file)}" onload="{call}"></script>' for file in files if file.endswith(".js")
    ]
    return web.Response(text="\n".join(tags), content_type="text/html", headers={"X-Content-Type-Options": "nosniff"})


@public
@sends("Cache-Control")
async def file(request: web.Request) -> web.Response:
    """Return a file of a bundle: code of the page, which browsers ask for without credentials.

    GET /ui/{assistant_id}/{file}.
    """
    files = await request.app[BUNDLES].files(path_text(request, "assistant_id"))
    name = path_text(request, "file")
    if files is None or name not in files:
        raise ApiError(404, "There is no such file of a component")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {"Content-Type": kind, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=files[name], headers=headers)


def _place(request: web.Request, api: Api, name: str) -> str:
    """Where the files are, by the protocol of the page that asks, except on the page's own machine."""
    protocol = "http:" if request.host.partition(":")[0] in _LOCAL else ""
    return html.escape(f"{protocol}//{request.host}{api.settings.mount_prefix}/ui/{name}")


_FILES = ("text/javascript", "application/javascript", "text/css", "application/octet-stream")

routes = [
    Route(
        "POST", "/ui/{assistant_id}", component, "Load a component of an agent", Component, text=("text/html",),
        errors=(404,),
    ),
    Route("GET", "/ui/{assistant_id}/{file}", file, "Get a file of a component", text=_FILES, errors=(404,)),
]  # fmt: skip
