"""What the api lets its operator choose; `deploy.settings` maps environment variables and langgraph.json to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from aiohttp import web


def _version() -> str:
    try:
        return version("threadlog")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0.0.0"


@dataclass(frozen=True, slots=True)
class Cors:
    """Who may call from a browser. The default allows any origin, without credentials."""

    allow_origins: tuple[str, ...] = ("*",)
    allow_origin_regex: re.Pattern[str] | None = None
    allow_methods: tuple[str, ...] = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY")
    allow_headers: tuple[str, ...] = ("*",)
    allow_credentials: bool = False
    expose_headers: tuple[str, ...] = ("x-pagination-total", "x-pagination-next", "content-location", "location")
    max_age_seconds: int = 600


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """`answer_wait_seconds` is how long a wait or join may take before its headers are sent ahead of the result."""

    version: str = field(default_factory=_version)
    cors: Cors = field(default_factory=Cors)
    max_body_bytes: int = 300 * 1024 * 1024
    # How long a request may take to arrive: its headers, and its body (which may take longer the larger it is).
    read_timeout_seconds: float = 75.0
    heartbeat_seconds: float = 5.0
    answer_wait_seconds: float = 0.05
    # How long after a run's end its last frames may take to arrive before the stream is closed without them.
    frame_wait_seconds: float = 10.0
    # How long after its end a stateless run, which is deleted then, can still be streamed again or joined.
    resumable_seconds: float = 120.0
    state_update_timeout_seconds: float = 60.0
    cancel_wait_timeout_seconds: float = 120.0
    # A stream whose client reads slower than the run emits keeps at most this much in memory, then re-reads the log.
    client_buffer_bytes: int = 4 * 1024 * 1024
    metric_prefix: str = "lg_api_"
    # Graphs that an executor must have registered before `/ok` says yes for the first time.
    graphs: tuple[str, ...] = ()


SETTINGS: web.AppKey[ApiSettings] = web.AppKey("settings", ApiSettings)
