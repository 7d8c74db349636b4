"""Regression test out of production history, `threadlog rerun`: past runs with today's code, step by step."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import click
import orjson

from threadlog.deploy.compose.encryption import keyring_of
from threadlog.deploy.compose.storage import database_ready
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.encryption.connection import opening
from threadlog.engine.executor.graphs.application import load_application
from threadlog.engine.executor.graphs.loader import Graphs
from threadlog.engine.executor.rerun.compare import Verdict
from threadlog.engine.executor.rerun.record import NoSuchRun, runs_since
from threadlog.engine.executor.rerun.rerun import RunComparison, rerun
from threadlog.engine.user_code import loopback
from threadlog.engine.user_code.langgraph_json import load

# Where the clients of nodes that name no server are sent: what runs again must not start runs.
_NOWHERE = "http://a-rerun-reaches-no-server.invalid"
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> float:
    """`7d`, `36h`, `30m`, `2w`. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if found is None:
        raise ValueError(f"{text} is no time span: write 30m, 36h, 7d or 2w")
    return float(found[1]) * _SECONDS[found[2]]


def run_again(
    settings: Settings,
    config: Path,
    *,
    run_ids: Sequence[str],
    since_seconds: float | None,
    graph_ids: Sequence[str],
    limit: int,
    ignored: Sequence[str],
    strict: bool,
    as_json: bool,
    report: Path | None = None,
) -> int:
    """Print the comparisons; 1 if a run differs (`strict`: or could not be compared), else 0. Loads the graphs, so
    without a running loop. `report`: the file that gets them for the Studio."""
    if report is not None:
        try:
            report.open("ab").close()
        except OSError as error:
            raise CannotRun(f"the report can't be written: {error}") from None
    application = load(config)
    if unknown := [name for name in graph_ids if name not in application.graphs]:
        raise CannotRun(f"{application.path} has no graph {unknown[0]}")
    loopback.install(_NOWHERE)
    graphs, loop = load_application(config)
    logging.getLogger("langgraph").setLevel(logging.ERROR)  # it warns of what the comparison tells
    assert settings.database_uri is not None
    try:
        comparisons = loop.run_until_complete(
            _compare(settings, graphs, run_ids, since_seconds, graph_ids, limit, ignored)
        )
    finally:
        loop.close()
    counts = Counter(comparison.verdict for comparison in comparisons)
    if as_json or report is not None:
        runs = [{**asdict(comparison), "verdict": comparison.verdict} for comparison in comparisons]
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        text = orjson.dumps({"made_at": made_at, "runs": runs, "counts": counts})
    if report is not None:
        report.write_bytes(text)
        click.echo(f"the server's page /studio/#/reruns opens {report}", err=True)
    if as_json:
        click.echo(text)
    else:
        for comparison in comparisons:
            _show(comparison)
        if len(comparisons) != 1:
            click.echo(
                f"{len(comparisons)} runs: {counts['same']} same, {counts['different']} different, "
                f"{counts['unanswered']} that can't be compared"
            )
    return 1 if counts["different"] or (strict and counts["unanswered"]) else 0


async def _compare(
    settings: Settings,
    graphs: Graphs,
    run_ids: Sequence[str],
    since_seconds: float | None,
    graph_ids: Sequence[str],
    limit: int,
    ignored: Sequence[str],
) -> list[RunComparison]:
    uri = settings.database_uri
    assert uri is not None
    await database_ready(uri, patience_seconds=2)
    # It could not write if it wanted to.
    read_only = {"default_transaction_read_only": "on", "application_name": "threadlog-rerun"}
    async with (
        keyring_of(settings, uri, name="rerun") as keyring,
        asyncpg.create_pool(
            uri, min_size=1, max_size=2, server_settings=read_only, connection_class=opening(keyring)
        ) as pool,
    ):
        if await pool.fetchval("SELECT to_regclass('checkpoints')") is None:
            raise CannotRun("this database was not used by threadlog yet: start a server on it first")
        chosen = list(run_ids)
        if since_seconds is not None:
            chosen += await runs_since(pool, since_seconds, graph_ids, limit)
        many = len(chosen) > 1 and sys.stderr.isatty()
        shown = click.progressbar(length=len(chosen), label="runs", file=sys.stderr) if many else None
        comparisons = []
        with shown or nullcontext():
            for run_id in chosen:
                try:
                    comparisons.append(
                        await rerun(pool, graphs, run_id, api_url=settings.url_of_the_api, ignored=ignored)
                    )
                except NoSuchRun as error:
                    raise CannotRun(str(error)) from None
                if shown is not None:
                    shown.update(1)
    return comparisons


def _show(comparison: RunComparison) -> None:
    tasks = comparison.tasks
    counts = Counter(task.verdict for task in tasks)
    words: dict[Verdict, str] = {"same": "same", "different": "different", "unanswered": "can't be compared"}
    told = ", ".join(f"{counts[verdict]} {words[verdict]}" for verdict in words if counts[verdict])
    click.echo(f"run {comparison.run_id}  {comparison.graph_id}  {comparison.why or told}")
    for task in tasks:
        if task.verdict != "same":
            click.echo(f"  step {task.step} {task.node}: {words[task.verdict]}")
            for detail in task.details:
                click.echo(f"    {detail}")
