"""Handlers of /, /ok, /info and /metrics."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.metrics import HttpMetrics, Scrape
from threadlog.api.http.models import ErrorResponse
from threadlog.api.http.requests import query_flag, query_text
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Query, Route, public
from threadlog.api.system.json import (
    HealthResponse,
    InfoResponse,
    MetricsResponse,
    RequestCountResponse,
    ServiceResponse,
)
from threadlog.api.system.lag import lag_of
from threadlog.engine.ids import default_assistant_id
from threadlog.engine.log.unreadable import UNREADABLE, UNREADABLE_FRAMES
from threadlog.engine.postgres.listener import deaf_listeners
from threadlog.projections.health import Services
from threadlog.projections.queries import system as queries


@public
async def ok(request: web.Request) -> web.Response:
    """Return 200 once the graphs are registered; `check_db` also checks the database, the log and the engine.

    GET /, GET /ok (contract 10.3; docs/operations.md).
    """
    if missing := await _graphs_missing(api_of(request)):
        detail = f"Waiting for an executor to register: {', '.join(missing)}"
        waiting = HealthResponse(ok=False, services={}, detail=detail)
        return reply(waiting, 503, {"Retry-After": "1"})
    if not query_flag(request, "check_db"):
        return reply(HealthResponse(ok=True, services={}))
    return health(await api_of(request).write_path.check())


def health(problems: Services) -> web.Response:
    """The response to a probe: 200, or 500 with the failing services and their problems."""
    services: dict[str, ServiceResponse] = {
        name: {"ok": True} if problem is None else {"ok": False, "error": problem} for name, problem in problems.items()
    }
    wrong = "; ".join(f"{name}: {problem}" for name, problem in problems.items() if problem is not None)
    if wrong:
        return reply(HealthResponse(ok=False, services=services, detail=wrong), 500)
    return reply(HealthResponse(ok=True, services=services))


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


@public
async def info(request: web.Request) -> web.Response:
    """Return the version and what clients look up: features and host.

    GET /info (contract 10.3).
    """
    facts: InfoResponse = {
        "version": api_of(request).settings.version,
        "langgraph_py_version": _installed("langgraph"),
        "flags": {
            "assistants": True,
            "crons": True,
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
    return reply(facts)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _counts(metrics: HttpMetrics) -> list[RequestCountResponse]:
    return [
        {"method": method, "path": path, "status": status, "count": count}
        for (method, path, status), count in sorted(metrics.requests.items())
    ]


@public
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
        numbers: MetricsResponse = {
            "queue": {
                "n_pending": queue.pending,
                "n_running": queue.running,
                "pending_runs_wait_time_max_secs": queue.pending_runs_wait_max_seconds,
                "pending_runs_wait_time_med_secs": queue.pending_runs_wait_median_seconds,
                "pending_unblocked_runs_wait_time_max_secs": queue.unblocked_runs_wait_max_seconds,
            },
            "api": {"http_requests_total": _counts(api.metrics)},
            "workers": {"max": queue.slots, "active": queue.active, "available": available},
        }
        return reply(numbers)
    gauges: dict[str, float] = {
        "num_pending_runs": queue.pending,
        "num_running_runs": queue.running,
        "pending_runs_wait_time_max_secs": queue.pending_runs_wait_max_seconds,
        "pending_unblocked_runs_wait_time_max_secs": queue.unblocked_runs_wait_max_seconds,
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
    labelled: dict[str, dict[str, float]] = {"stream_clients": {"": api.hub.subscriber_count}}
    if lag := await lag_of(api, {one.partition: one.decided for one in await queries.positions(api.pool)}):
        labelled["partition_lag"] = {str(partition): behind for partition, behind in lag.items()}
    prefix = api.settings.metric_prefix
    registry = CollectorRegistry(target_info={"service_name": "threadlog", "version": api.settings.version})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(Scrape(api.metrics, prefix, gauges, labelled, internal=api.settings.internal_metrics))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


_CHECK = (Query("check_db", "boolean", "also ask the database, the log and the engine"),)
_UNHEALTHY = {500: HealthResponse, 503: HealthResponse | ErrorResponse}

routes = [
    Route("GET", "/", ok, "Is the server up", returns=HealthResponse, query=_CHECK, also=_UNHEALTHY),
    Route("GET", "/ok", ok, "Is the server up", returns=HealthResponse, query=_CHECK, also=_UNHEALTHY),
    Route("GET", "/info", info, "Version and features", returns=InfoResponse),
    Route(
        "GET", "/metrics", metrics, "Metrics", returns=MetricsResponse, text=("text/plain",),
        query=(Query("format", "string", "prometheus or json"),),
    ),
]  # fmt: skip
