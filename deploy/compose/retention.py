"""Retention job of a log in Postgres: deletes old commands and frames, keeps events and values. Kafka has its own."""

from __future__ import annotations

import asyncio
import logging

import asyncpg

from threadlog.deploy.settings import Settings
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.postgres.errors import FAILED

log = logging.getLogger("threadlog.retention")

EVERY_SECONDS = 60.0


async def retain_for_ever(source: PostgresLog, pool: asyncpg.Pool, settings: Settings) -> None:
    """A pass per minute, for as long as this runs. Outages are waited out."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            # A command must stay until its decision is projected: a take-over reads it again.
            rows = await pool.fetch("SELECT p, cmd_off FROM partitions")
            await source.retain(
                commands_seconds=settings.commands_retention_hours * 3600,
                stream_seconds=settings.stream_retention_seconds,
                decided={row["p"]: row["cmd_off"] for row in rows},
            )
        except (*FAILED, LogUnavailable) as error:
            log.warning("nothing was trimmed this time: %s", error)
