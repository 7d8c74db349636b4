"""Loads `http.app` and puts it into the api's application."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from threadlog.api.custom_app.asgi import AsgiApp, AsgiServer, RouteOfOurs
from threadlog.api.custom_app.inner import Responder, route_to_ours
from threadlog.api.custom_app.lifespan import Lifespan
from threadlog.api.http import slashes
from threadlog.api.http.disconnects import Disconnects
from threadlog.engine.user_code.http_section import CodePlace
from threadlog.engine.user_code.importing import describe_error, import_source

logger = logging.getLogger(__name__)

_REF = "#/components/schemas/"
_PARAMETER = re.compile(r"\{[^{}]*\}")
_OF_BOTH = frozenset({"/docs", "/openapi.json", "/docs/oauth2-redirect", "/redoc"})
"""Paths that FastAPI has unasked; its description is part of ours."""
_BACKGROUND_SECONDS = 10.0
"""What background tasks get as the server stops."""


class CustomAppError(Exception):
    """`http.app` can't be loaded; the message says why."""


@dataclass(frozen=True, slots=True)
class CustomApp:
    """The application's own: `asgi` or `aiohttp`, one of them."""

    asgi: AsgiApp | None = None
    aiohttp: web.Application | None = None

    @property
    def wraps(self) -> bool:
        """Whether its middleware can be around our routes: aiohttp's, Starlette's and FastAPI's can."""
        return self.aiohttp is not None or _is_starlette(self.asgi)

    def serves(self, path: str) -> bool:
        """Whether it has a route of exactly this path; ASGI applications that are no Starlette do not tell."""
        return any(own == path for _, own in self._routes())

    def hidden_behind(self, served: Iterable[tuple[str, str]]) -> list[str]:
        """Its routes that get no requests, because one of these (method and path) takes them."""
        ours = [(method, re.compile(_pattern(path))) for method, path in served if path not in _OF_BOTH]
        return [
            f"{method} {path}"
            for method, path in self._routes()
            if method is not None and path not in _OF_BOTH
            and any(method == other and taken.fullmatch(_PARAMETER.sub("x", path)) for other, taken in ours)
        ]  # fmt: skip

    def _routes(self) -> Iterator[tuple[str | None, str]]:
        """Method and path of each; the method is None of what takes any, as folders of files do. ASGI applications that
        are no Starlette do not tell."""
        if self.aiohttp is not None:
            for resource in self.aiohttp.router.resources():
                methods: list[str | None] = [route.method for route in resource]
                for method in methods or [None]:
                    yield method, resource.canonical or "/"
        elif _is_starlette(self.asgi):
            for route in self.asgi.router.routes:  # type: ignore[union-attr]
                path = getattr(route, "path", None)
                if path is not None:
                    for method in sorted(getattr(route, "methods", None) or [""]):
                        yield method or None, path or "/"


def load(place: CodePlace) -> CustomApp:
    """Import the application. To be called in a thread without an event loop: modules may run one when imported.

    Raises:
        CustomAppError: there is no such object, it is no application, or its module raises.
    """
    try:
        module = import_source(place.source, is_file=place.is_file)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise CustomAppError(f"http.app cannot be imported: {describe_error(error, place.folder)}") from error
    found = getattr(module, place.attribute, None)
    if found is None:
        raise CustomAppError(f'http.app: {place.source} has no "{place.attribute}".')
    if isinstance(found, web.Application):
        return CustomApp(aiohttp=found)
    if not _is_asgi(found):
        raise CustomAppError(
            f"http.app: {place.attribute} in {place.source} is a {type(found).__name__}. Expected an ASGI application "
            "(Starlette, FastAPI, …) or an aiohttp web.Application."
        )
    return CustomApp(asgi=found)


def _is_asgi(found: Any) -> bool:
    call = found if inspect.isfunction(found) else getattr(found, "__call__", None)  # noqa: B004
    if isinstance(found, type) or not callable(found):
        return False
    try:
        inspect.signature(call or found).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


def _is_starlette(app: Any) -> bool:
    router = getattr(app, "router", None)
    return isinstance(getattr(router, "routes", None), list) and hasattr(app, "build_middleware_stack")


def mount(
    app: web.Application, custom: CustomApp, respond: Responder, disconnects: Disconnects, *, root_path: str,
    read_timeout_seconds: float,
) -> Middleware | None:  # fmt: skip
    """Start and stop the custom application around `app`, and give it the paths that `app` has no route for.

    Returns the middleware that sends requests through an ASGI application; aiohttp's own are added to `app`'s.
    """
    if custom.aiohttp is not None:
        _mount_aiohttp(app, custom.aiohttp, respond, root_path)
        return None
    assert custom.asgi is not None
    if _is_starlette(custom.asgi):
        own = custom.asgi.router.routes  # type: ignore[attr-defined]
        own.insert(0, route_to_ours(respond, own))
    lifespan = Lifespan(custom.asgi)
    server = AsgiServer(
        custom.asgi, disconnects, state=lifespan.state, root_path=root_path, read_timeout_seconds=read_timeout_seconds
    )

    async def start(_: web.Application) -> None:
        await lifespan.start()

    async def stop(_: web.Application) -> None:
        await server.finish(_BACKGROUND_SECONDS)
        await lifespan.stop()

    app.on_startup.insert(0, start)
    app.on_cleanup.append(stop)
    wraps = custom.wraps

    @web.middleware
    async def through(request: web.Request, handler: Handler) -> web.StreamResponse:
        missing = request.match_info.http_exception
        if missing is not None and missing.status == 404:
            if root_path and not f"{request.path}/".startswith(f"{root_path}/"):
                return await handler(request)  # all of the application's is below the prefix, too
            return await server.serve(request, None)
        # Of the paths that only redirect, the application's own come first; one that does not tell has them all.
        redirects = slashes.is_redirect(request)
        if wraps:
            return await server.serve(request, RouteOfOurs(request, handler, yields=redirects))
        return await server.serve(request, None) if redirects else await handler(request)

    return through


def _mount_aiohttp(app: web.Application, custom: web.Application, respond: Responder, prefix: str) -> None:
    """Its resources come after ours, below the prefix; its handlers see `app` as theirs, with what it keeps."""
    for key in custom:
        app[key] = custom[key]
    ours = set(app.router.routes())
    for resource in custom.router.resources():
        if prefix:
            resource.add_prefix(prefix)
        app.router.register_resource(resource)
    app.middlewares.extend(custom.middlewares)

    @web.middleware
    async def errors_are_responses(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is None and request.match_info.route not in ours:
            return await handler(request)  # its middleware sees what its handlers raise
        return await respond(request, handler)

    app.middlewares.append(errors_are_responses)
    for index, handler in enumerate(custom.on_startup):
        app.on_startup.insert(index, handler)
    app.on_shutdown.extend(custom.on_shutdown)
    app.on_cleanup.extend(custom.on_cleanup)
    app.on_response_prepare.extend(custom.on_response_prepare)


def _pattern(path: str) -> str:
    """What the router takes a path of ours for."""
    parts = re.split(r"(\{\w+(?::(?:[^{}]|\{[^{}]*\}|\{\})*)?\})", path.replace("[^{}/]+", "[^/]+"))
    return "".join(re.escape(part) if not part.startswith("{") else _part(part[1:-1]) for part in parts)


def _part(parameter: str) -> str:
    return parameter.partition(":")[2] or "[^/]+"


def merged_openapi(ours: dict[str, Any], custom: CustomApp, *, guarded: bool = False) -> dict[str, Any]:
    """Our description with what the application says of itself (FastAPI's `openapi()`); where both have a path or a
    schema of one name, ours stands, and the schema of theirs is called `App…`. `guarded`: its routes need a user."""
    describe: Callable[[], Any] | None = getattr(custom.asgi, "openapi", None)
    if describe is None:
        return ours
    try:
        theirs = describe()
    except Exception as error:
        logger.warning("http.app: its OpenAPI description can't be made: %s: %s", type(error).__name__, error)
        return ours
    if not isinstance(theirs, dict):
        return ours
    components = dict(ours.get("components", {}))
    schemas = dict(components.get("schemas", {}))
    text = orjson.dumps(theirs).decode()
    for name in theirs.get("components", {}).get("schemas", {}):
        if name in schemas:
            text = text.replace(f'"{_REF}{name}"', f'"{_REF}App{name}"')
    theirs = orjson.loads(text)
    for kind, described in theirs.get("components", {}).items():
        known = schemas if kind == "schemas" else dict(components.get(kind, {}))
        for name, value in described.items():
            known[f"App{name}" if name in known else name] = value
        components[kind] = known
    paths = dict(ours["paths"])
    for path, operations in theirs.get("paths", {}).items():
        if "security" in ours and not guarded:
            for operation in operations.values():
                if isinstance(operation, dict):
                    operation.setdefault("security", theirs.get("security", []))
        paths[path] = {**operations, **paths.get(path, {})}
    return {**ours, "paths": paths, "components": components}
