"""Composition root of a test server: api, engine and executor in one loop, over a log in memory."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import asyncpg
from aiohttp import web

from threadlog.api.app import make_app
from threadlog.api.context import ApiDeps
from threadlog.api.streaming.hub import StreamHub
from threadlog.deploy.compose.api_engine import api_settings, custom_app_of, default_ttl, priority_of
from threadlog.deploy.compose.auth import gate_of
from threadlog.deploy.compose.engine import engine_of
from threadlog.deploy.compose.environment import api_url
from threadlog.deploy.compose.storage import embedder_of, pool_of, prepared_store
from threadlog.deploy.compose.webhooks import delivering_webhooks
from threadlog.deploy.settings import Settings
from threadlog.engine.crons.service import CronService
from threadlog.engine.executor.graphs.loader import Graphs
from threadlog.engine.executor.options import ExecutorOptions, new_executor_id
from threadlog.engine.executor.worker import Executor
from threadlog.engine.gateway.gateway import LogGateway
from threadlog.engine.ids import default_assistant_id
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.processor.expiry import SweepOptions
from threadlog.engine.processor.processor import Processor
from threadlog.engine.user_code import loopback
from threadlog.engine.user_code.langgraph_json import LanggraphJson
from threadlog.engine.webhooks.dispatcher import WebhookDispatcher
from threadlog.projections.commit.crons import PostgresCronStore
from threadlog.testing.database import PARTITIONS

# Longer than anybody moves a test's clock: nobody else is there to take over.
_LEASE_SECONDS = 100 * 365 * 86_400.0
# What is due is looked for this often: in production it is a matter of load, here of a test's time.
_RENEW_SECONDS = 0.25
_LOOK_SECONDS = 0.05
_SWEEP_SECONDS = 0.25
_CONNECTIONS = 8
_ANNOUNCED_SECONDS = 30.0
_REGISTERED = "SELECT count(*) FROM assistants WHERE assistant_id = ANY ($1::uuid[])"


@dataclass(frozen=True, slots=True, eq=False)
class ServerParts:
    """What a running test server consists of, as far as the harness needs it."""

    log: MemoryLog
    pool: asyncpg.Pool
    processor: Processor
    crons: CronService
    webhooks: WebhookDispatcher
    executor: ExecutorOfTest
    database_uri: str

    def look(self) -> None:
        """Look now at what is due: the clock has been moved."""
        self.processor.look()
        self.crons.look()
        self.webhooks.look()


def bound_socket() -> socket.socket:
    """A socket on a free port of this machine: its URL is known before anything listens."""
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    return bound


def settings_of(application: LanggraphJson, uri: str, port: int) -> Settings:
    return Settings.load(database_uri=uri, port=port, host="127.0.0.1", config=application.path, partitions=PARTITIONS)


def prepare_imports(settings: Settings, application: LanggraphJson) -> dict[str, str | None]:
    """Before the application is imported: its environment, and its clients without a url. Returns the variables as
    they were. What a test has put into the environment wins over the file."""
    before = {name: os.environ.get(name) for name in (*application.env, "LANGGRAPH_API_URL")}
    application.apply_env(keep=set(os.environ))
    loopback.install(api_url(settings, application))
    return before


@asynccontextmanager
async def running(
    settings: Settings, application: LanggraphJson, graphs: Graphs, listening: socket.socket
) -> AsyncIterator[ServerParts]:
    """A server at work. What is entered stops in reverse."""
    uri = settings.database_uri
    assert uri is not None
    collector = gc.get_threshold()
    async with AsyncExitStack() as parts:
        parts.callback(_thaw, collector)
        await prepared_store(uri, application.store)
        log = MemoryLog(PARTITIONS)
        pool = await parts.enter_async_context(
            pool_of(uri, name="testing", size=_CONNECTIONS, seconds=settings.database_timeout_seconds)
        )
        ttl = application.thread_ttl
        engine = engine_of(
            settings, log, pool, lease_seconds=_LEASE_SECONDS, renew_seconds=_RENEW_SECONDS,
            store_sweep_seconds=_SWEEP_SECONDS, sweep=SweepOptions(_SWEEP_SECONDS, ttl.sweep_limit),
        )  # fmt: skip
        parts.push_async_callback(engine.stop)
        hub, gateway = StreamHub(log), LogGateway(log)
        engine.processor.add_listener(hub)  # before the gateway: no reply is ahead of what the hub knows
        engine.processor.add_listener(gateway)
        await engine.processor.start()
        await engine.processor.ready()
        options = api_settings(settings, application)
        webhooks = await parts.enter_async_context(
            delivering_webhooks(settings, pool, options.webhooks, engine.processor, own_url=options.own_url)
        )
        thread_ttl = default_ttl(ttl)
        crons = CronService(
            PostgresCronStore(pool), gateway, log, lambda: engine.processor.owned,
            thread_ttl=None if thread_ttl is None else thread_ttl.wire, look_seconds=_LOOK_SECONDS,
        )  # fmt: skip
        engine.processor.add_listener(crons)
        await crons.start()
        parts.push_async_callback(crons.stop)
        deps = ApiDeps(
            pool=pool, gateway=gateway, log=log, hub=hub, settings=options, single_process=True,
            trouble=lambda: engine.processor.trouble, embedder=embedder_of(application),
            priority=await priority_of(settings, application),
        )  # fmt: skip
        custom = await custom_app_of(settings, application)
        gate = await gate_of(settings, application, pool)
        runner = web.AppRunner(
            make_app(replace(deps, gate=gate), custom), access_log=None, handle_signals=False, shutdown_timeout=0.5
        )
        await runner.setup()
        parts.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listening).start()
        executor = ExecutorOfTest(settings, application, log, pool)
        parts.push_async_callback(executor.aclose)
        await executor.start(graphs)
        yield ServerParts(log, pool, engine.processor, crons, webhooks, executor, uri)


class ExecutorOfTest:
    """The server's executor, which may be replaced by one with other graphs, as a deployment does. Close it."""

    def __init__(self, settings: Settings, application: LanggraphJson, log: MemoryLog, pool: asyncpg.Pool) -> None:
        assert settings.database_uri is not None
        self._log, self._pool = log, pool
        self._options = ExecutorOptions(
            database_uri=settings.database_uri,
            slots=settings.n_jobs_per_worker,
            timeout_seconds=settings.bg_job_timeout_secs,
            grace_seconds=0,
            thread_stop_seconds=0.5,
            cancel_again_seconds=0.5,
            loop_yield=False,
            api_url=api_url(settings, application),
            hide_errors=settings.hide_errors,
            lease_seconds=_LEASE_SECONDS,
            store=application.store,
            embedder=embedder_of(application),
        )
        self._executor: Executor | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, graphs: Graphs) -> None:
        """Begin to execute runs of these graphs, whose assistants are there when this returns; an executor before it
        hands on what it has in hand."""
        await self.aclose()
        self._executor = Executor(replace(self._options, executor_id=new_executor_id()), self._log, graphs)
        await self._executor.start()
        self._serving = asyncio.create_task(self._executor.serve(), name="executor")
        assistants = [default_assistant_id(graph_id) for graph_id in graphs.by_id]
        async with asyncio.timeout(_ANNOUNCED_SECONDS):
            while await self._pool.fetchval(_REGISTERED, assistants) < len(assistants):
                await asyncio.sleep(0.005)

    async def aclose(self) -> None:
        executor, serving = self._executor, self._serving
        self._executor = self._serving = None
        if executor is not None and serving is not None:
            await executor.drain()
            await asyncio.gather(serving, return_exceptions=True)
            await executor.aclose()


def _thaw(threshold: tuple[int, int, int]) -> None:
    """An executor process never ends before its objects do; a test session goes on."""
    gc.unfreeze()
    gc.set_threshold(*threshold)


def restore(variables: dict[str, str | None]) -> None:
    """Put these variables back as they were."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
