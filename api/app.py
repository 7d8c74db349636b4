"""Application factory: routes, middleware, and the parts that start and stop with the application."""

from __future__ import annotations

from dataclasses import fields

from aiohttp import web

from threadlog.api.assistants import graphs
from threadlog.api.assistants import routes as assistants
from threadlog.api.caches.assistants import AssistantCache
from threadlog.api.caches.thread_defaults import ThreadDefaultsCache
from threadlog.api.context import API, Api, ApiDeps
from threadlog.api.events import routes as events
from threadlog.api.http import openapi
from threadlog.api.http.connections import handler_args
from threadlog.api.http.cors import CorsPolicy
from threadlog.api.http.disconnects import Disconnects
from threadlog.api.http.metrics import HttpMetrics
from threadlog.api.http.middleware import make_middleware, make_response_hook
from threadlog.api.http.routes import Route
from threadlog.api.runs import routes as runs
from threadlog.api.runs import thread_stream
from threadlog.api.settings import SETTINGS
from threadlog.api.store import routes as store
from threadlog.api.system import routes as system
from threadlog.api.threads import copy, search
from threadlog.api.threads import routes as threads
from threadlog.api.threads import state as thread_state
from threadlog.projections.health import WritePath

# The order matters where a fixed path and one with a parameter both match: the fixed one comes first.
ROUTES: tuple[Route, ...] = (
    *runs.routes,
    *search.routes,
    *threads.routes,
    *thread_state.routes,
    *copy.routes,
    *thread_stream.routes,
    *events.routes,
    *assistants.routes,
    *graphs.routes,
    *store.routes,
    *system.routes,
    *openapi.routes,
)


def make_app(deps: ApiDeps) -> web.Application:
    """The api over these parts. Starts `deps.hub` with it and ends every stream when it shuts down."""
    parts = {f.name: getattr(deps, f.name) for f in fields(ApiDeps)}
    api = Api(
        **parts,
        assistant_cache=AssistantCache(),
        thread_defaults=ThreadDefaultsCache(deps.pool),
        disconnects=Disconnects(),
        metrics=HttpMetrics(),
        write_path=WritePath(deps.pool, deps.log, trouble=deps.trouble),
    )
    cors = CorsPolicy(api.settings.cors)
    app = web.Application(
        middlewares=[make_middleware(cors, api.metrics)],
        client_max_size=max(1, api.settings.max_body_bytes),
        handler_args=handler_args(api.settings.read_timeout_seconds),
    )
    app[API] = api
    app[SETTINGS] = api.settings
    openapi.describe_application(app, ROUTES, api.settings.version)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler)
        if route.method == "GET" and not route.stream:
            app.router.add_route("HEAD", route.path, route.handler)
    app.on_response_prepare.append(make_response_hook(cors))
    api.hub.on_shared(api.assistant_cache.changed)
    if api.single_process:
        api.hub.on_thread(api.thread_defaults.changed)
    app.on_startup.append(_start)
    app.on_shutdown.append(_shutdown)
    app.on_cleanup.append(_cleanup)
    return app


async def _start(app: web.Application) -> None:
    await app[API].hub.start()


async def _shutdown(app: web.Application) -> None:
    app[API].hub.shutdown()


async def _cleanup(app: web.Application) -> None:
    app[API].disconnects.close()
    await app[API].thread_defaults.aclose()
    await app[API].hub.aclose()
