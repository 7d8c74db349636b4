"""The composition root of the executor."""

from __future__ import annotations

from deploy.owner import owner_name
from deploy.settings import Settings
from deploy.storage import opened_log, prepared_database
from engine.executor.process import ExecutorOptions
from engine.executor.process import run_executor as run_until_told_to_stop


async def run_executor(settings: Settings) -> None:
    """Execute runs until SIGTERM or SIGINT, then hand back what is in flight."""
    uri = await prepared_database(settings)
    async with opened_log(settings) as source:
        options = ExecutorOptions(
            database_uri=uri,
            config_path=settings.config,
            executor_id=owner_name("executor"),
            slots=settings.n_jobs_per_worker,
            timeout_seconds=settings.bg_job_timeout_secs,
            grace_seconds=settings.bg_job_shutdown_grace_period_secs,
            api_url=f"http://{settings.host}:{settings.port}",
            log_in_database=not settings.kafka_bootstrap_servers,
            link=settings.link,
        )
        await run_until_told_to_stop(options, source)
