"""Deriving process, `threadlog derive`: counts usage and runs from the events, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from datetime import timedelta

from threadlog.deploy.compose.storage import PATIENCE_SECONDS, database_ready
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.deploy.subscriber import app_of
from threadlog.engine.log.port import LogUnavailable
from threadlog.projections.derived.app import APP, AtWork, counting, reset
from threadlog.projections.derived.export import Exporter
from threadlog.projections.derived.prices import PriceTable
from threadlog.projections.derived.tables import DerivedTables
from threadlog.projections.subscribers.app import SubscriberApp

log = logging.getLogger("threadlog.derive")

_STOP_SECONDS = 10.0


async def derive(settings: Settings, *, anew: bool = False) -> None:
    """Count until SIGINT or SIGTERM. `anew`: from the beginning of the log, after dropping what was counted.

    Raises:
        BadPrices: of THREADLOG_PRICES.
        CannotRun: `anew`, while another one runs; nothing can be written to THREADLOG_EXPORT_DIR.
        LogUnavailable, DatabaseAway: for a minute.
    """
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.WARNING)
    prices = PriceTable.load(settings.prices) if settings.prices else PriceTable()
    assert settings.database_uri is not None
    await database_ready(settings.database_uri)
    app = app_of(settings, APP)
    await _log_is_there(app)
    if anew:
        try:
            await reset(app)
        except AtWork as error:
            raise CannotRun(str(error)) from None
    folder = settings.export_dir
    tables = await DerivedTables.open(settings.database_uri, prices, anew=anew, exports=folder is not None)
    try:
        await tables.alive()
        exporter = None if folder is None else Exporter(tables.pool, folder)
        if exporter is not None:
            _prepare(exporter)
        counting(app, tables, keep_runs=timedelta(days=settings.derived_runs_days), exporter=exporter)
        await _until_told_to_stop(app)
    finally:
        await tables.aclose()


def _prepare(exporter: Exporter) -> None:
    try:
        exporter.prepare()
    except OSError as error:
        raise CannotRun(f"nothing can be written to THREADLOG_EXPORT_DIR: {error}") from None


async def _log_is_there(app: SubscriberApp) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        try:
            await (await app.open_log()).aclose()
            return
        except LogUnavailable as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            log.info("waiting for the log: %s", error)
        await asyncio.sleep(1)


async def _until_told_to_stop(app: SubscriberApp) -> None:
    """Raises what the app failed at."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    starting = asyncio.create_task(app.start())
    ended = asyncio.create_task(app.wait_for_stopped(told))
    try:
        await asyncio.wait([ended])
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await app.stop()
        for task in (starting, ended):
            task.cancel()
        await asyncio.gather(starting, ended, return_exceptions=True)
    if app.crash_reason is not None:
        raise app.crash_reason
    if starting.done() and not starting.cancelled() and (error := starting.exception()) is not None:
        raise error
