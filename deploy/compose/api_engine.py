"""Composition root of api and engine: which objects they consist of, how these start and stop together.

That of the executor is `deploy.compose.executor`: neither needs what the other imports.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import asyncpg
from aiohttp import web

from threadlog.api.app import make_app
from threadlog.api.context import ApiDeps
from threadlog.api.custom_app.lifespan import StartFailed
from threadlog.api.custom_app.mount import CustomApp, CustomAppError
from threadlog.api.custom_app.mount import load as load_custom_app
from threadlog.api.priority import Assign, PriorityError
from threadlog.api.priority import load as load_priority
from threadlog.api.settings import ApiSettings, Cors, LangSmith
from threadlog.api.streaming.hub import StreamHub
from threadlog.deploy.compose.auth import gate_of
from threadlog.deploy.compose.encryption import keeping_the_topic, keyring_of, readable_log, sealing
from threadlog.deploy.compose.engine import engine_of
from threadlog.deploy.compose.environment import api_url
from threadlog.deploy.compose.retention import retain_for_ever
from threadlog.deploy.compose.storage import embedder_of, opened_log, pool_of, prepared_database, prepared_store
from threadlog.deploy.compose.webhooks import delivering_webhooks, rules_of
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.health import probed
from threadlog.deploy.metrics import exposed_metrics
from threadlog.deploy.settings import Settings
from threadlog.deploy.tracing import traced
from threadlog.engine.allocator import return_large_blocks
from threadlog.engine.crons.service import CronService
from threadlog.engine.domain.expiry import Ttl
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.gateway.event_tail import EventTail
from threadlog.engine.gateway.gateway import GatewayOnDemand, LocalGateway, LogGateway
from threadlog.engine.link.server import ExecutorChannelServer
from threadlog.engine.log.port import Log
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.metrics import METRICS
from threadlog.engine.processor.expiry import SweepOptions
from threadlog.engine.processor.meter import EventMeter
from threadlog.engine.processor.ports import EventListener, Executors, Gateway
from threadlog.engine.processor.processor import QUIET_RENEW_SECONDS, Processor
from threadlog.engine.store.embedding import Embedder
from threadlog.engine.tracing import active as tracing
from threadlog.engine.user_code.importing import extend_sys_path
from threadlog.engine.user_code.langgraph_json import LanggraphJson, ThreadTtl
from threadlog.engine.user_code.langgraph_json import load as load_langgraph_json
from threadlog.engine.user_code.store_config import StoreConfig
from threadlog.projections.commit.applied import PostgresApplied
from threadlog.projections.commit.crons import PostgresCronStore
from threadlog.projections.derived.prices import BadPrices, PriceTable

log = logging.getLogger("threadlog")

_API_STOP_SECONDS = 3.0  # for responses under way; streams end at once, their clients reconnect elsewhere
# The committer keeps one, coordination uses up to three, retention one, webhooks two, crons one.
_ENGINE_CONNECTIONS = 9
# Those that only the start or a burst needed are closed: 4 MB each. Longer than it takes from one look for crons and
# webhooks to the next, which now and then need one more, and would open it anew each time.
_ENGINE_IDLE_SECONDS = 15.0
_API_CONNECTIONS = 16
_READING_CONNECTIONS = 3


async def run_api_and_engine(settings: Settings, *, alone: bool = False) -> None:
    """Serve requests and decide commands until SIGTERM or SIGINT, in one process: the log is in Postgres.

    `alone`: no other engine works on this database, so nothing has to be heard of other processes.
    """
    return_large_blocks()
    async with AsyncExitStack() as parts:
        uri = await prepared_database(settings)
        application = load_langgraph_json(settings.config)
        await prepared_store(uri, application.store)
        options, custom = api_settings(settings, application), await custom_app_of(settings, application)
        parts.enter_context(traced("server"))
        deps = await parts.enter_async_context(
            api_and_engine(settings, uri, options, alone=alone, embedder=embedder_of(application))
        )
        deps = replace(deps, priority=await priority_of(settings, application))
        await _serve(parts, settings, uri, deps, custom)
        await _until_told_to_stop()


async def run_engine(settings: Settings) -> None:
    """Decide commands until SIGTERM or SIGINT."""
    return_large_blocks()
    rules = rules_of(settings)
    async with AsyncExitStack() as parts:
        parts.enter_context(traced("engine"))
        uri = await prepared_database(settings)
        source = await parts.enter_async_context(opened_log(settings))
        keyring = await parts.enter_async_context(keyring_of(settings, uri, name="engine"))
        pool = await parts.enter_async_context(_engine_pool(settings, uri))
        await parts.enter_async_context(keeping_the_topic(settings, pool, keyring))
        processor = await _processor(parts, settings, pool, source, store=_store(settings))
        reading = await _reading_pool(parts, settings, uri, pool, keyring)
        await parts.enter_async_context(
            delivering_webhooks(settings, reading, rules, processor, own_url=settings.url_of_the_api)
        )

        async def through_log() -> Gateway:
            gateway = LogGateway(source)
            await _follow_events(parts, settings, uri, source, gateway)
            return gateway

        gateway = sealing(GatewayOnDemand(through_log), keyring)
        await _fire_crons(parts, settings, reading, source, processor, gateway)
        await parts.enter_async_context(probed(settings, uri, source, trouble=lambda: processor.trouble))
        parts.enter_context(exposed_metrics(settings))
        log.info("engine %s owns partitions %s", processor.owner, processor.owned)
        await _until_told_to_stop()


async def run_api(settings: Settings) -> None:
    """Serve requests until SIGTERM or SIGINT; engines in other processes decide."""
    return_large_blocks()
    async with AsyncExitStack() as parts:
        uri = await prepared_database(settings)
        application = load_langgraph_json(settings.config)
        await prepared_store(uri, application.store)
        options, custom = api_settings(settings, application), await custom_app_of(settings, application)
        parts.enter_context(traced("api"))
        source = await parts.enter_async_context(opened_log(settings))
        keyring = await parts.enter_async_context(keyring_of(settings, uri, name="api"))
        readable = readable_log(source, keyring)
        hub, gateway = StreamHub(readable, keyring), LogGateway(source)
        await _follow_events(parts, settings, uri, source, hub, gateway)
        pool = await parts.enter_async_context(_pool(settings, uri, "api", _API_CONNECTIONS, keyring))
        priority = await priority_of(settings, application)
        deps = ApiDeps(
            pool=pool, gateway=sealing(gateway, keyring), log=readable, hub=hub, settings=options, priority=priority,
            embedder=embedder_of(application), encryption=None if keyring is None else keyring.handlers,
            encrypts=keyring is not None,
            encrypted_names=frozenset() if keyring is None else keyring.field_names,
        )  # fmt: skip
        await _serve(parts, settings, uri, deps, custom)
        await _until_told_to_stop()


@asynccontextmanager
async def api_and_engine(
    settings: Settings, uri: str, options: ApiSettings, *, alone: bool, embedder: Embedder | None = None
) -> AsyncIterator[ApiDeps]:
    """What an api needs, with an engine at work in this process. `uri`: of a migrated database; `alone`: see above;
    `embedder`: of `store.index`."""
    async with AsyncExitStack() as parts:
        source = await parts.enter_async_context(opened_log(settings, quiet=alone))
        keyring = await parts.enter_async_context(keyring_of(settings, uri, name="api"))
        link = None
        if alone and settings.link is not None and isinstance(source, PostgresLog):
            link = ExecutorChannelServer(source, settings.link)
        of_engine = await parts.enter_async_context(_engine_pool(settings, uri))
        await parts.enter_async_context(keeping_the_topic(settings, of_engine, keyring))
        processor = await _processor(
            parts, settings, of_engine, source, store=options.store, alone=alone, executors=link
        )
        reading = await _reading_pool(parts, settings, uri, of_engine, keyring)
        await parts.enter_async_context(
            delivering_webhooks(settings, reading, options.webhooks, processor, own_url=options.own_url)
        )
        readable = readable_log(source, keyring)
        hub = StreamHub(readable, keyring)
        if alone:
            processor.add_listener(hub)
            gateway: Gateway = LocalGateway(processor)
            if link is not None:
                await link.start(processor)
                parts.push_async_callback(link.aclose)
        else:
            through_log = LogGateway(source)
            await _follow_events(parts, settings, uri, source, hub, through_log)
            gateway = LocalGateway(processor, through_log)
        gateway = sealing(gateway, keyring)
        await _fire_crons(parts, settings, reading, source, processor, gateway)
        pool = await parts.enter_async_context(_pool(settings, uri, "api", _API_CONNECTIONS, keyring))
        yield ApiDeps(
            pool=pool, gateway=gateway, log=readable, hub=hub, settings=options, single_process=alone,
            trouble=lambda: processor.trouble, embedder=embedder,
            encryption=None if keyring is None else keyring.handlers,
            encrypts=keyring is not None,
            encrypted_names=frozenset() if keyring is None else keyring.field_names,
        )  # fmt: skip


async def _processor(
    parts: AsyncExitStack,
    settings: Settings,
    pool: asyncpg.Pool,
    source: Log,
    *,
    store: StoreConfig,
    alone: bool = False,
    executors: Executors | None = None,
) -> Processor:
    """A processor that has its share of the partitions."""
    engine = engine_of(
        settings, source, pool, notify_applied=not alone, executors=executors,
        quiet_renew_seconds=QUIET_RENEW_SECONDS if alone else None,
        store_sweep_seconds=store.sweep_interval_minutes * 60, sweep=sweep_options(settings),
    )  # fmt: skip
    if isinstance(source, PostgresLog):
        trimming = asyncio.create_task(retain_for_ever(source, pool, settings), name="retention")
        parts.push_async_callback(_end, trimming)
    parts.push_async_callback(engine.stop)
    engine.processor.add_listener(EventMeter())
    if (spans := tracing.active()) is not None:
        from threadlog.engine.processor.command_spans import CommandSpans

        engine.processor.add_listener(CommandSpans(spans))
    await engine.processor.start()
    await engine.processor.ready()
    return engine.processor


def _store(settings: Settings) -> StoreConfig:
    """As the application's file says; an engine on a machine of its own need not have the file."""
    return load_langgraph_json(settings.config).store if settings.config.exists() else StoreConfig()


def default_ttl(ttl: ThreadTtl) -> Ttl | None:
    return None if ttl.default_minutes is None else Ttl(ttl.strategy, ttl.default_minutes)


def sweep_options(settings: Settings) -> SweepOptions:
    """As the application's file says; an engine on a machine of its own need not have the file."""
    ttl = load_langgraph_json(settings.config).thread_ttl if settings.config.exists() else ThreadTtl()
    return SweepOptions(ttl.sweep_interval_minutes * 60, ttl.sweep_limit)


async def _fire_crons(
    parts: AsyncExitStack, settings: Settings, pool: asyncpg.Pool, source: Log, processor: Processor, gateway: Gateway
) -> None:
    """Fire the crons of the partitions that this processor owns."""
    ttl = default_ttl(load_langgraph_json(settings.config).thread_ttl) if settings.config.exists() else None
    crons = CronService(
        PostgresCronStore(pool), gateway, source, lambda: processor.owned, thread_ttl=None if ttl is None else ttl.wire
    )
    processor.add_listener(crons)
    processor.when_owned(crons.look)
    await crons.start()
    parts.push_async_callback(crons.stop)


def _pool(
    settings: Settings, uri: str, name: str, size: int, keyring: Keyring | None = None
) -> AbstractAsyncContextManager[asyncpg.Pool]:
    return pool_of(uri, name=name, size=size, seconds=settings.database_timeout_seconds, keyring=keyring)


def _engine_pool(settings: Settings, uri: str) -> AbstractAsyncContextManager[asyncpg.Pool]:
    """For what engines do every second, which keeps one connection in use; others are soon closed again."""
    return pool_of(
        uri,
        name="engine",
        size=_ENGINE_CONNECTIONS,
        seconds=settings.database_timeout_seconds,
        idle_seconds=_ENGINE_IDLE_SECONDS,
    )


async def _reading_pool(
    parts: AsyncExitStack, settings: Settings, uri: str, pool: asyncpg.Pool, keyring: Keyring | None
) -> asyncpg.Pool:
    """Where an engine reads what webhooks tell of runs, and what crons ask of theirs: its own connections, or others
    that decrypt what they read."""
    if keyring is None:
        return pool
    return await parts.enter_async_context(_pool(settings, uri, "decrypting", _READING_CONNECTIONS, keyring))


async def _follow_events(
    parts: AsyncExitStack, settings: Settings, uri: str, source: Log, *listeners: EventListener
) -> None:
    """Tell the listeners what all engines have projected."""
    pool = await parts.enter_async_context(_pool(settings, uri, "applied", 2))
    tail = EventTail(source, PostgresApplied(pool))
    for listener in listeners:
        tail.add_listener(listener)
    await tail.start()
    parts.push_async_callback(tail.stop)


async def _serve(parts: AsyncExitStack, settings: Settings, uri: str, deps: ApiDeps, custom: CustomApp | None) -> None:
    """Listen. What is entered into `parts` stops in reverse: no new requests, then the streams, then the rest."""
    await parts.enter_async_context(probed(settings, uri, deps.log, trouble=deps.trouble))
    gate = await gate_of(settings, load_langgraph_json(settings.config), deps.pool)
    app = make_app(replace(deps, gate=gate), custom)
    parts.enter_context(exposed_metrics(settings))
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_API_STOP_SECONDS)
    try:
        await runner.setup()
    except StartFailed as error:
        raise CannotRun(f"http.app can't start: {error}") from error
    parts.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, settings.host, settings.port, backlog=1024, reuse_address=True).start()
    # What lives now lives as long as the process: the garbage collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def custom_app_of(settings: Settings, application: LanggraphJson) -> CustomApp | None:
    """The application's own routes and middleware, imported as an executor imports its graphs: without a running loop.

    Raises:
        CannotRun: they can't be loaded.
    """
    place = application.http.app
    if place is None:
        return None
    _prepare_imports(settings, application)
    try:
        return await asyncio.to_thread(load_custom_app, place)
    except CustomAppError as error:
        raise CannotRun(f"{application.path}: {error}") from error


async def priority_of(settings: Settings, application: LanggraphJson) -> Assign | None:
    """The application's function that says how urgent runs are, imported as its graphs are: without a running loop.

    Raises:
        CannotRun: it can't be loaded.
    """
    if application.priority is None:
        return None
    _prepare_imports(settings, application)
    try:
        return await asyncio.to_thread(load_priority, application.priority)
    except PriorityError as error:
        raise CannotRun(f"{application.path}: {error}") from error


def api_settings(settings: Settings, app: LanggraphJson) -> ApiSettings:
    """What the environment and the application's file choose for the api."""
    return ApiSettings(
        cors=_cors(settings, app.http.cors),
        configurable_headers=app.http.configurable_headers,
        logging_headers=app.http.logging_headers,
        mount_prefix=app.http.mount_prefix,
        disabled=app.http.disabled,
        ui=app.ui,
        max_body_bytes=settings.http_max_request_body_bytes,
        read_timeout_seconds=settings.http_read_timeout_seconds,
        idempotency_ttl_seconds=settings.idempotency_hours * 3600,
        resumable_seconds=settings.resumable_stream_ttl_seconds,
        graphs=tuple(app.graphs),
        store=app.store,
        thread_ttl=default_ttl(app.thread_ttl),
        webhooks=app.webhooks,
        metric_prefix=settings.metric_prefix,
        internal_metrics=settings.expose_internal_metrics_prometheus,
        langsmith=_langsmith(settings),
        own_url=api_url(settings, app),
        prices=_prices(settings),
        security=None if app.auth is None else app.auth.openapi,
    )


def _prices(settings: Settings) -> PriceTable:
    """The table of THREADLOG_PRICES. A wrong one costs the sums that people see, not the service."""
    if settings.prices is None:
        return PriceTable()
    try:
        return PriceTable.load(settings.prices)
    except BadPrices as error:
        log.warning("THREADLOG_PRICES: %s; no costs are shown", error)
        return PriceTable()


def _langsmith(settings: Settings) -> LangSmith | None:
    if settings.langsmith_api_key is None:
        return None
    langsmith = LangSmith(settings.langsmith_api_key, workspace_id=settings.langsmith_workspace_id)
    return replace(langsmith, endpoint=settings.langsmith_endpoint) if settings.langsmith_endpoint else langsmith


def _cors(settings: Settings, given: Mapping[str, Any]) -> Cors:
    """`http.cors` stands instead of CORS_ALLOW_ORIGINS, as on LangGraph's own server: an origin it lacks is refused."""
    if not given:
        return Cors(allow_origins=tuple(settings.cors_allow_origins))
    chosen: dict[str, Any] = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    if "allow_origin_regex" in given:
        chosen["allow_origin_regex"] = re.compile(given["allow_origin_regex"])
    if "max_age" in given:
        chosen["max_age_seconds"] = given["max_age"]
    return Cors(**{"allow_origins": (), **chosen, "allow_credentials": given.get("allow_credentials", False)})


def _prepare_imports(settings: Settings, application: LanggraphJson) -> None:
    """Modules of the application find each other, and their clients without a url find this api."""
    from threadlog.engine.user_code import loopback  # takes time to import, and is not needed otherwise

    loopback.install(api_url(settings, application))
    extend_sys_path(application)


async def _until_told_to_stop() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    METRICS.count("server_requested_to_stop_counter")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
