"""Composition root of the executor."""

from __future__ import annotations

from dataclasses import replace

from threadlog.deploy.compose.auth import authorize_loopback
from threadlog.deploy.compose.encryption import keyring_of
from threadlog.deploy.compose.environment import api_url
from threadlog.deploy.compose.storage import embedder_of, opened_log, prepared_database, prepared_store
from threadlog.deploy.health import probed
from threadlog.deploy.lease_owner import owner_name
from threadlog.deploy.metrics import exposed_metrics
from threadlog.deploy.parent import ask_for_more_executors
from threadlog.deploy.settings import Settings
from threadlog.deploy.supervise.pulse import sign_of_life
from threadlog.deploy.tracing import traced
from threadlog.engine.executor.graphs.loader import Graphs
from threadlog.engine.executor.process import ExecutorOptions, run
from threadlog.engine.executor.process import run_executor as run_until_told_to_stop
from threadlog.engine.user_code import loopback
from threadlog.engine.user_code.langgraph_json import LanggraphJson, load


def run_executor(settings: Settings) -> None:
    """Load the graphs, execute runs until SIGTERM or SIGINT, then hand back what is in flight."""
    reached_at = api_url(settings, load(settings.config))
    loopback.install(reached_at)  # modules may call `get_client()` at import
    run(settings.config, lambda graphs: _execute(settings, graphs, reached_at))


async def _execute(settings: Settings, graphs: Graphs, reached_at: str) -> None:
    uri = await prepared_database(settings)
    application = load(settings.config)
    await prepared_store(uri, application.store)
    with traced("executor"), exposed_metrics(settings):
        await _work(settings, graphs, reached_at, uri, application)


async def _work(settings: Settings, graphs: Graphs, reached_at: str, uri: str, application: LanggraphJson) -> None:
    async with opened_log(settings) as source, keyring_of(settings, uri, name="executor") as keyring:
        options = replace(executor_options(settings, uri, application), api_url=reached_at, keyring=keyring)
        await authorize_loopback(settings, uri)
        async with probed(settings, uri, source, executor_id=options.executor_id):
            await run_until_told_to_stop(options, source, graphs)


def executor_options(settings: Settings, database_uri: str, application: LanggraphJson) -> ExecutorOptions:
    return ExecutorOptions(
        database_uri=database_uri,
        executor_id=owner_name("executor"),
        slots=settings.n_jobs_per_worker,
        timeout_seconds=settings.bg_job_timeout_secs,
        grace_seconds=settings.bg_job_shutdown_grace_period_secs,
        thread_stop_seconds=settings.thread_stop_seconds,
        loop_yield=settings.loop_yield,
        api_url=settings.url_of_the_api,
        hide_errors=settings.hide_errors,
        log_in_database=not settings.kafka_bootstrap_servers,
        link=settings.link,
        busy=ask_for_more_executors,
        alive=sign_of_life(),
        store=application.store,
        embedder=embedder_of(application),
    )
