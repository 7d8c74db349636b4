"""Health, features and metrics of the server as clients receive them."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from threadlog.api.http.models import AnyObject


class ServiceResponse(TypedDict):
    """Whether one of the things the server needs works."""

    ok: bool
    error: NotRequired[str]


class HealthResponse(TypedDict):
    """Whether the server works. `services`: what was looked at; `detail`: what does not work."""

    ok: bool
    services: dict[str, ServiceResponse]
    detail: NotRequired[str]


class InfoResponse(TypedDict):
    """The server's version, and what it can do."""

    version: str
    langgraph_py_version: str | None
    flags: dict[str, bool]
    host: AnyObject


class QueueResponse(TypedDict):
    """Runs that wait, and for how long."""

    n_pending: int
    n_running: int
    pending_runs_wait_time_max_secs: float | None
    pending_runs_wait_time_med_secs: float | None
    pending_unblocked_runs_wait_time_max_secs: float | None


class WorkersResponse(TypedDict):
    """Slots for runs."""

    max: int
    active: int
    available: int


class RequestCountResponse(TypedDict):
    """How often a method and path were answered with a status."""

    method: str
    path: str
    status: int
    count: int


class RequestsResponse(TypedDict):
    """The requests so far."""

    http_requests_total: list[RequestCountResponse]


class MetricsResponse(TypedDict):
    """The metrics as JSON."""

    queue: QueueResponse
    api: RequestsResponse
    workers: WorkersResponse
