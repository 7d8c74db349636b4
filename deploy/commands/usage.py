"""Usage report, `threadlog usage`: runs, tokens and cost from the derived tables, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
import click
import orjson

from threadlog.deploy.commands import terminal
from threadlog.deploy.compose.storage import database_ready
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.projections.derived import queries


async def show(
    settings: Settings, *, by: str, window: str, since: datetime, until: datetime, as_json: bool, metrics: bool = False
) -> int:
    """Print runs, tokens and cost per value of a dimension, and per window; `metrics`: instead, how the runs ended and
    how long they took. Returns the exit code."""
    connection = await _connected(settings)
    try:
        rows = await queries.usage(connection, by=by, window=window, since=_floor(since), until=until)
    finally:
        await connection.close()
    if as_json:
        terminal.write(map(_json, rows))
        return 0
    windows = window != "all"
    head = [*(["from"] if windows else []), by, *(_METRICS if metrics else _USAGE)]
    columns = _durations if metrics else _tokens
    lines = [[*([_time(row["start"])] if windows else []), row["value"] or "-", *columns(row)] for row in rows]
    terminal.write(terminal.table(head, lines))
    if metrics:
        return 0
    if unpriced := sum(row["unpriced_calls"] for row in rows):
        click.echo(f"\n{unpriced} calls of models that THREADLOG_PRICES has no price for", err=True)
    return 0


async def export(settings: Settings, *, since: datetime, until: datetime) -> int:
    """Print the runs that ended in this time, a JSON object per line."""
    connection = await _connected(settings)
    try:
        async for row in queries.ended_runs(connection, since=since, until=until):
            terminal.write([_json(row)])
    finally:
        await connection.close()
    return 0


async def _connected(settings: Settings) -> asyncpg.Connection:
    assert settings.database_uri is not None
    await database_ready(settings.database_uri, patience_seconds=2)
    connection = await asyncpg.connect(settings.database_uri)
    try:
        await queries.progress(connection)
    except queries.NotCounted as error:
        await connection.close()
        raise CannotRun(str(error)) from None
    return connection


def _floor(time: datetime) -> datetime:
    """The window that a time is in counts."""
    return time.replace(minute=0, second=0, microsecond=0)


def _json(row: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(row), option=orjson.OPT_UTC_Z).decode()


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


_USAGE = ("runs", "failed", "calls", "input", "output", "cost")
_METRICS = ("runs", "failed", "errors", "cancelled", "wait p50", "wait p95", "run p50", "run p95", "longest")


def _tokens(row: Mapping[str, Any]) -> list[str]:
    counts = [row[name] for name in ("runs", "failed", "calls", "input_tokens", "output_tokens")]
    return [*(f"{count:,}" for count in counts), f"{row['cost']:,.2f}"]


def _durations(row: Mapping[str, Any]) -> list[str]:
    share = f"{100 * row['failed'] / row['runs']:.1f} %" if row["runs"] else "-"
    times = [row[name] for name in ("wait_median", "wait_p95", "run_median", "run_p95", "run_max")]
    counts = (f"{row['runs']:,}", f"{row['failed']:,}", share, f"{row['interrupted']:,}")
    return [*counts, *("-" if time is None else f"{time:,.2f} s" for time in times)]
