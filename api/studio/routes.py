"""Handlers of the Studio: a page without secrets, whose calls go through the gate like anybody's."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from aiohttp import web

from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import header, path_text
from threadlog.api.http.routes import Route, public, sends, takes

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
# Scripts come from this server only and none are made at run time; nothing is loaded from, or sent to, elsewhere. The
# libraries that draw graphs and editors set styles.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


class _File(NamedTuple):
    body: bytes
    headers: dict[str, str]


@cache
def _bundle() -> dict[str, _File]:
    """The files of the page, by name. Parts have a name for each content; the others are asked for again."""
    found = {}
    for entry in files("threadlog.api.studio").joinpath("bundle").iterdir():
        kind = entry.name.rpartition(".")[2]
        if kind in _TYPES:
            body = entry.read_bytes()
            found[entry.name] = _File(
                body,
                {
                    "Content-Type": _TYPES[kind],
                    "ETag": f'"{sha256(body).hexdigest()[:32]}"',
                    "Cache-Control": "max-age=31536000, immutable" if entry.name.startswith("part-") else "no-cache",
                    "Content-Security-Policy": _POLICY,
                    "X-Content-Type-Options": "nosniff",
                    "Referrer-Policy": "no-referrer",
                },
            )
    return found


@public
@sends("Location")
async def _to_page(request: web.Request) -> web.Response:
    """Lead to the page: its files are beside /studio/, also below a mount prefix and behind a proxy.

    GET /studio (docs/studio.md).
    """
    return web.Response(status=307, headers={"Location": "studio/"})


@public
@takes("If-None-Match")
@sends("ETag", "Cache-Control")
async def _file(request: web.Request) -> web.Response:
    """Return a file of the page.

    GET /studio/, GET /studio/{file} (docs/studio.md).
    """
    file = _bundle().get(path_text(request, "file") or "index.html")
    if file is None:
        raise ApiError(404, "The Studio has no such file")
    if header(request, "If-None-Match") == file.headers["ETag"]:
        return web.Response(status=304, headers=file.headers)
    return web.Response(body=file.body, headers=file.headers)


_TEXT = ("text/html", "text/javascript", "text/css", "text/plain")

routes = [
    Route("GET", "/studio", _to_page, "To the Studio", status=307),
    Route("GET", "/studio/", _file, "The Studio, a page for people", text=("text/html",), also={304: None}),
    Route("GET", "/studio/{file}", _file, "A file of the Studio", text=_TEXT, also={304: None}, errors=(404,)),
]
