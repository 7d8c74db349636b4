"""Configuration of the api; `deploy.settings` maps environment variables and langgraph.json to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiohttp import web

from threadlog.engine.domain.expiry import Ttl
from threadlog.engine.user_code.http_section import HeaderRule
from threadlog.engine.user_code.store_config import StoreConfig
from threadlog.engine.user_code.ui_section import UiSection
from threadlog.engine.user_code.webhook_rules import WebhookRules
from threadlog.projections.derived.prices import PriceTable


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
class LangSmith:
    """Where LangSmith is, and as whom it is asked."""

    api_key: str = field(repr=False)
    endpoint: str = "https://api.smith.langchain.com"
    workspace_id: str | None = None
    timeout_seconds: float = 5.0
    """Seconds that the end of a stream or a wait is held up at most: less than clients take for silence."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Options of the api, frozen for the life of the application."""

    version: str = field(default_factory=_version)
    """Reported by `/info`, `/openapi.json` and the metrics; the installed distribution's."""
    cors: Cors = field(default_factory=Cors)
    """Cross-origin rules; the default allows any origin without credentials."""
    prices: PriceTable = field(default_factory=PriceTable)
    """What tokens of models cost; none by default."""
    max_body_bytes: int = 300 * 1024 * 1024
    """Bytes of a request body; a larger one is 413. It must arrive within `read_timeout_seconds` and
    the time its size adds; `api.http.limits` has the limits of its content."""
    read_timeout_seconds: float = 75.0
    """Seconds in which the headers and the body of a request must arrive; a body has a second more per 10 kB. Also the
    keep-alive of idle connections."""
    heartbeat_seconds: float = 5.0
    """Seconds of silence after which a stream sends a comment, and a wait a newline, so that proxies keep them open."""
    answer_wait_seconds: float = 0.05
    """Seconds a wait or join may take before its headers are sent ahead of the result. Within them, a run that ends is
    one complete response; after them the client knows from `Location` where to resume."""
    frame_wait_seconds: float = 10.0
    """Seconds after a run's end that a stream waits for the run's last frames, then it closes without them."""
    resumable_seconds: float = 120.0
    """Seconds after its end that a stateless run, deleted at its end, can still be streamed or joined; its frames must
    be kept in `stream` for at least as long."""
    state_update_timeout_seconds: float = 60.0
    """Seconds a state update waits for an executor to apply it; then 503."""
    cancel_wait_timeout_seconds: float = 120.0
    """Seconds that a cancel with `wait=true` waits for the executor to stop; then it returns all the same."""
    client_buffer_bytes: int = 4 * 1024 * 1024
    """Bytes of frames kept in memory per streaming client; one that reads slower is served from the log."""
    configurable_headers: HeaderRule = field(default_factory=HeaderRule)
    """Headers of requests that runs find in their `configurable`."""
    logging_headers: HeaderRule = field(default_factory=HeaderRule)
    """Headers of requests that lines of the log about them have, as the field `headers`."""
    mount_prefix: str = ""
    """Path below which all routes are, such as "/agents"."""
    disabled: frozenset[str] = frozenset()
    """Groups of routes that are not served (`engine.user_code.http_section.FLAGS`)."""
    ui: UiSection | None = None
    """Components that agents show in chat pages; none by default."""
    metric_prefix: str = "lg_api_"
    """Prefix of the Prometheus metric names; the default is LangGraph Server's."""
    internal_metrics: bool = False
    """Whether `/metrics` shows those that LangGraph Server calls internal."""
    store: StoreConfig = field(default_factory=StoreConfig)
    """The section `store` of `langgraph.json`: the time to live of items, and what is embedded."""
    thread_ttl: Ttl | None = None
    """Time to live of threads that are created without one; by default they do not expire."""
    webhooks: WebhookRules = field(default_factory=WebhookRules)
    """Which URLs the webhooks of runs may have; the default allows public ones."""
    langsmith: LangSmith | None = None
    """LangSmith, for the feedback links of runs; None: runs have none."""
    own_url: str = "http://127.0.0.1:2024"
    """Where this server is reached from its own machine: webhooks that are paths, when allowed, are sent there."""
    graphs: tuple[str, ...] = ()
    """Graphs that an executor must have registered before `/ok` first returns 200; none by default."""
    idempotency_ttl_seconds: float = 86_400.0
    """Seconds that a request with an `Idempotency-Key` is recognised when it is sent again."""
    idempotency_wait_seconds: float = 15.0
    """Seconds after its begin that such a request, sent again, waits for the first one's answer, before it is carried
    out to its end in the first one's place: longer than commands take."""
    idempotency_return_seconds: float = 30.0
    """Seconds that a run with `on_disconnect: cancel` goes on without the client of such a request: longer than a
    connection takes to come back, and clients wait before they try again."""
    security: Mapping[str, Any] | None = None
    """`securitySchemes`, `security` and `paths` (path, method, requirements) for `/openapi.json`; None: nobody
    has to authenticate."""


SETTINGS: web.AppKey[ApiSettings] = web.AppKey("settings", ApiSettings)
