"""Trailing slashes: a path of ours with a slash behind it leads to the one without, as clients of Starlette know it."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web


async def to_path(request: web.Request) -> web.Response:
    """Lead to the path without the slash behind it: 307, so that method and body stay.

    Relative, so that it holds behind a proxy that takes a prefix off or speaks TLS, and leads to no other host, whose
    client would take credentials along.
    """
    url = request.rel_url
    last = url.raw_path.rstrip("/").rpartition("/")[2]
    query = f"?{url.raw_query_string}" if url.raw_query_string else ""
    return web.Response(status=307, headers={"Location": f"../{last}{query}"})


async def to_root(request: web.Request) -> web.Response:
    """Lead from the prefix that everything is below to the path of `GET /`."""
    url = request.rel_url
    query = f"?{url.raw_query_string}" if url.raw_query_string else ""
    return web.Response(status=307, headers={"Location": f"{url.raw_path.rpartition('/')[2]}/{query}"})


def redirect(app: web.Application, paths: Iterable[str], prefix: str) -> None:
    """Add the redirects to these paths, which are served. They come last: what is served with the slash stays so."""
    served = set(paths)
    for path in sorted(served):
        if not path.endswith("/") and f"{path}/" not in served:
            app.router.add_route("*", f"{path}/", to_path)
    if prefix and f"{prefix}/" in served:
        app.router.add_route("*", prefix, to_root)


def is_redirect(request: web.Request) -> bool:
    """Whether the request's path is only the beginning of the way to another."""
    return request.match_info.route.handler in (to_path, to_root)
