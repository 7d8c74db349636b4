"""Handlers of /, /ok, /info and /metrics."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.metrics import Scrape
from threadlog.api.http.requests import query_flag, query_text
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Query, Route
from threadlog.engine.ids import default_assistant_id
from threadlog.engine.log.unreadable import UNREADABLE, UNREADABLE_FRAMES
from threadlog.engine.postgres.listener import deaf_listeners
from threadlog.projections.health import Services
from threadlog.projections.queries import system as queries


async def ok(request: web.Request) -> web.Response:
    """Return 200 once the graphs are registered; `check_db` also checks the database, the log and the engine.

    GET /, GET /ok (contract 10.3; docs/operations.md).
    """
    if missing := await _graphs_missing(api_of(request)):
        detail = f"Waiting for an executor to register: {', '.join(missing)}"
        return reply({"ok": False, "services": {}, "detail": detail}, 503, {"Retry-After": "1"})
    if not query_flag(request, "check_db"):
        return reply({"ok": True, "services": {}})
    return health(await api_of(request).write_path.check())


def health(problems: Services) -> web.Response:
    """The response to a probe: 200, or 500 with the failing services and their problems."""
    services = {
        name: {"ok": True} if problem is None else {"ok": False, "error": problem} for name, problem in problems.items()
    }
    wrong = "; ".join(f"{name}: {problem}" for name, problem in problems.items() if problem is not None)
    if wrong:
        return reply({"ok": False, "services": services, "detail": wrong}, 500)
    return reply({"ok": True, "services": services})


async def _graphs_missing(api: Api) -> list[str]:
    """Graphs that can't be run yet, because this is the first start and they are still being imported.

    A graph that no executor could load, while others are there, is not waited for: it is broken, they are not.
    """
    if api.assistant_cache.complete or not api.settings.graphs:
        return []
    registered = await api.assistant_cache.graph_names(api.pool)
    missing = [
        name
        for name in api.settings.graphs
        if name not in registered or await api.assistant_cache.assistant(api.pool, default_assistant_id(name)) is None
    ]
    if missing:
        loaded = await queries.loaded_graphs(api.pool)
        missing = [name for name in missing if loaded is None or name in loaded]
    api.assistant_cache.complete = not missing
    return missing


async def info(request: web.Request) -> web.Response:
    """Return the version and what clients look up: features and host.

    GET /info (contract 10.3).
    """
    return reply(
        {
            "version": api_of(request).settings.version,
            "langgraph_py_version": _installed("langgraph"),
            "flags": {
                "assistants": True,
                "crons": False,
                "langsmith": False,
                "langsmith_tracing_replicas": False,
                "langsmith_tracing_session_on_runs": False,
                "stream_namespaces": True,
                "strict_resume": True,
            },
            "host": {
                "kind": "self-hosted",
                "project_id": None,
                "host_revision_id": None,
                "revision_id": None,
                "tenant_id": None,
            },
        }
    )


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


async def metrics(request: web.Request) -> web.Response:
    """Return the metrics for Prometheus, or as JSON with `format=json`.

    GET /metrics (contract 10.3).
    """
    api = api_of(request)
    chosen = query_text(request, "format") or "prometheus"
    if chosen not in ("prometheus", "json"):
        raise ApiError(422, f"format: must be prometheus or json, not {shown(chosen)}")
    queue = await queries.queue(api.pool)
    available = max(0, queue.slots - queue.active)
    if chosen == "json":
        return reply(
            {
                "queue": {
                    "n_pending": queue.pending,
                    "n_running": queue.running,
                    "pending_runs_wait_time_max_secs": queue.pending_runs_wait_max_seconds,
                    "pending_runs_wait_time_med_secs": queue.pending_runs_wait_median_seconds,
                    "pending_unblocked_runs_wait_time_max_secs": queue.unblocked_runs_wait_max_seconds,
                },
                "api": {"http_requests_total": api.metrics.as_json()},
                "workers": {"max": queue.slots, "active": queue.active, "available": available},
            }
        )
    gauges: dict[str, float] = {
        "num_pending_runs": queue.pending,
        "num_running_runs": queue.running,
        "workers_max": queue.slots,
        "workers_active": queue.active,
        "workers_available": available,
        "nodes_left_behind": queue.left_behind,
        "events_not_projected": queue.not_projected,
        "listeners_deaf": len(deaf_listeners()),
        "events_unreadable": len(UNREADABLE.places),
        "frames_unreadable": len(UNREADABLE_FRAMES.places),
        "pg_pool_max": api.pool.get_max_size(),
        "pg_pool_size": api.pool.get_size(),
        "pg_pool_available": api.pool.get_idle_size(),
    }
    registry = CollectorRegistry(target_info={"service_name": "threadlog", "version": api.settings.version})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(Scrape(api.metrics, api.settings.metric_prefix, gauges))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


routes = [
    Route("GET", "/", ok, "Is the server up"),
    Route(
        "GET", "/ok", ok, "Is the server up", returns="Health",
        query=(Query("check_db", "boolean", "also ask the database, the log and the engine"),),
        errors=(500,),
    ),
    Route("GET", "/info", info, "Version and features", returns="Info"),
    Route(
        "GET", "/metrics", metrics, "Metrics", query=(Query("format", "string", "prometheus or json"),),
    ),
]  # fmt: skip
