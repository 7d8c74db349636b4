"""Application factory: routes, middleware, and the parts that start and stop with the application."""

from __future__ import annotations

import logging
from dataclasses import fields

from aiohttp import web

from threadlog.api import encryption_context
from threadlog.api.assistants import graphs
from threadlog.api.assistants import routes as assistants
from threadlog.api.auth.gate import GATE
from threadlog.api.caches.assistants import AssistantCache
from threadlog.api.caches.thread_defaults import ThreadDefaultsCache
from threadlog.api.context import API, Api, ApiDeps
from threadlog.api.crons import routes as crons
from threadlog.api.custom_app.mount import CustomApp, merged_openapi, mount
from threadlog.api.events import routes as events
from threadlog.api.feedback import FeedbackLinks
from threadlog.api.http import openapi, slashes
from threadlog.api.http.connections import handler_args
from threadlog.api.http.cors import CorsPolicy
from threadlog.api.http.disconnects import Disconnects
from threadlog.api.http.metrics import HttpMetrics
from threadlog.api.http.middleware import make_middleware, make_response_hook, respond
from threadlog.api.http.routes import Route
from threadlog.api.idempotency.door import guarded
from threadlog.api.protocols import mcp
from threadlog.api.protocols.a2a import routes as a2a
from threadlog.api.runs import routes as runs
from threadlog.api.runs import search as run_search
from threadlog.api.runs import thread_stream, webhooks
from threadlog.api.settings import SETTINGS
from threadlog.api.store import routes as store
from threadlog.api.studio import routes as studio
from threadlog.api.system import asyncapi, overview, prices, usage
from threadlog.api.system import routes as system
from threadlog.api.threads import copy, event_log, search
from threadlog.api.threads import routes as threads
from threadlog.api.threads import state as thread_state
from threadlog.api.ui import routes as ui
from threadlog.api.ui.bundles import BUNDLES, UiBundles
from threadlog.engine.user_code.http_section import FLAGS
from threadlog.engine.webhooks.guard import Resolver, UrlGuard
from threadlog.projections.health import WritePath

logger = logging.getLogger(__name__)

_RESOLVER: web.AppKey[Resolver] = web.AppKey("resolver", Resolver)

# The order matters where a fixed path and one with a parameter both match: the fixed one comes first.
ROUTES: tuple[Route, ...] = (
    *crons.routes,
    *run_search.routes,
    *webhooks.routes,
    *runs.routes,
    *search.routes,
    *threads.routes,
    *thread_state.routes,
    *copy.routes,
    *event_log.routes,
    *thread_stream.routes,
    *events.routes,
    *assistants.routes,
    *graphs.routes,
    *store.routes,
    *system.routes,
    *prices.routes,
    *asyncapi.routes,
    *usage.routes,
    *overview.routes,
    *mcp.routes,
    *a2a.routes,
    *studio.routes,
    *ui.routes,
    *openapi.routes,
)

_YIELDING = frozenset({"/", "/usage", "/system"})
"""Paths that an application may well have, which then has them: its home page, and what is threadlog's own."""


def make_app(deps: ApiDeps, custom: CustomApp | None = None) -> web.Application:
    """The api over these parts, with the application's own routes and middleware. Starts `deps.hub` with it, and ends
    every stream when it shuts down."""
    parts = {f.name: getattr(deps, f.name) for f in fields(ApiDeps)}
    resolver = Resolver()
    api = Api(
        **parts,
        assistant_cache=AssistantCache(),
        thread_defaults=ThreadDefaultsCache(
            deps.pool, with_priority=deps.priority is not None, with_encrypted=deps.encrypts
        ),
        disconnects=Disconnects(),
        metrics=HttpMetrics(),
        webhooks=UrlGuard(deps.settings.webhooks, resolver, own_url=deps.settings.own_url),
        feedback=FeedbackLinks(deps.settings.langsmith),
        write_path=WritePath(deps.pool, deps.log, trouble=deps.trouble),
    )
    cors = CorsPolicy(api.settings.cors)
    app = web.Application(
        middlewares=[
            make_middleware(cors, api.metrics, around_others=custom is not None and custom.aiohttp is not None)
        ],
        client_max_size=max(1, api.settings.max_body_bytes),
        handler_args=handler_args(api.settings.read_timeout_seconds),
    )
    app[API] = api
    app[SETTINGS] = api.settings
    if (gate := deps.gate) is not None:
        app[GATE] = gate
        app.on_response_prepare.append(gate.before_response)
        if gate.comes_first:
            app.middlewares.append(gate.middleware())
    served = [route for route in ROUTES if not groups_of(route.path) & api.settings.disabled]
    if custom is not None:
        served = [route for route in served if not (route.path in _YIELDING and custom.serves(route.path))]
        if hidden := custom.hidden_behind((route.method, route.path) for route in served):
            logger.warning("http.app: the server's own routes come before these: %s", ", ".join(hidden))
    prefix = api.settings.mount_prefix
    described = openapi.describe(
        served, api.settings.version, api.settings.security, prefix=prefix, encryption=deps.encryption is not None
    )
    if custom is not None:
        described = merged_openapi(described, custom, guarded=gate is not None and gate.custom_routes)
    openapi.serve(app, described)
    paths: set[str] = set()
    for route in served:
        for path in {f"{prefix}{route.path}", "/ok"} if route.path == "/ok" else {f"{prefix}{route.path}"}:
            paths.add(path)
            handler = guarded(route.handler, joins=route.joins) if route.writes else route.handler
            added = [app.router.add_route(route.method, path, handler)]
            if route.method == "GET" and not route.stream:
                added.append(app.router.add_route("HEAD", path, route.handler))
            if gate is not None:
                gate.guards(added, route.access)
    if custom is not None:
        through = mount(
            app, custom, respond, api.disconnects, root_path=prefix,
            read_timeout_seconds=api.settings.read_timeout_seconds,
        )  # fmt: skip
        if through is not None:
            app.middlewares.append(through)
    slashes.redirect(app, paths, prefix)
    if gate is not None and not gate.comes_first:
        app.middlewares.append(gate.middleware())
    if deps.encryption is not None:
        app.middlewares.append(encryption_context.middleware(deps.encryption))
    app.on_response_prepare.append(make_response_hook(cors))
    api.hub.on_shared(api.assistant_cache.changed)
    if api.single_process:
        api.hub.on_thread(api.thread_defaults.changed)
    app[_RESOLVER] = resolver
    app[BUNDLES] = UiBundles(api.settings.ui)
    app.on_startup.append(_start)
    app.on_shutdown.append(_shutdown)
    app.on_cleanup.append(_cleanup)
    return app


def groups_of(path: str) -> frozenset[str]:
    """What `disable_…` calls the groups a route belongs to; none: it can't be left out."""
    if path in ("/info", "/metrics", "/docs", "/openapi.json", "/asyncapi.json"):
        return frozenset(("meta",))
    parts = path.split("/")[1:]
    if parts[0] == "studio":
        return frozenset(("ui",))
    if parts[0] == ".well-known":
        return frozenset(("a2a",))
    groups = {parts[0]} if parts[0] != "threads" or "runs" not in parts else {"runs"}
    if "crons" in parts:  # which are runs, too
        groups.add("crons")
    return frozenset(groups & set(FLAGS))


async def _start(app: web.Application) -> None:
    await app[API].hub.start()
    await app[BUNDLES].start()


async def _shutdown(app: web.Application) -> None:
    app[API].hub.shutdown()


async def _cleanup(app: web.Application) -> None:
    app[_RESOLVER].close()
    await app[BUNDLES].close()
    app[API].disconnects.close()
    await app[API].thread_defaults.aclose()
    await app[API].feedback.aclose()
    await app[API].hub.aclose()
