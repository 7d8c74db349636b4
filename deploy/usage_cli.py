"""Commands of what is counted from the log: `derive`, `usage`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from threadlog.deploy.command_options import (
    Readable,
    cannot_run,
    config_option,
    data_dir_option,
    environment_of_application,
    on_asyncio,
    reachable,
    run_to_end,
    settings_of,
)
from threadlog.deploy.log_cli import Time

DAYS = 30
"""What `usage` shows unless it is told from when on."""


@click.command()
@click.option("--anew", is_flag=True, help="Drop what was counted, and count from the beginning of the log.")
@config_option
@data_dir_option
def derive(anew: bool, **given: Any) -> None:
    """Count usage and runs from the log, for `threadlog usage`."""
    from threadlog.deploy.extras import STREAMS
    from threadlog.deploy.parent import end_with_parent

    end_with_parent()
    environment_of_application(given)
    settings = reachable(settings_of(given))
    if not STREAMS.installed:
        raise Readable(STREAMS.missing, exit_code=cannot_run())
    from threadlog.deploy.commands import derive as deriving
    from threadlog.deploy.logs import configure_logging

    configure_logging(settings)
    run_to_end(lambda: deriving.derive(settings, anew=anew), on_asyncio)


@click.command()
@click.option(
    "--by", type=click.Choice(["all", "assistant", "graph", "user", "tag"]), default="graph", show_default=True
)
@click.option(
    "--window", type=click.Choice(["all", "hour", "day", "month"]), default="all", show_default=True,
    help="A line per window; they begin at full hours, days and months in UTC.",
)  # fmt: skip
@click.option("--since", type=Time(), help=f"From this time on: ISO-8601, or how long ago.  [default: {DAYS}d]")
@click.option("--until", type=Time(), help="Before this time.  [default: now]")
@click.option("--metrics", is_flag=True, help="How runs ended, waited and executed, instead of tokens and cost.")
@click.option("--runs", is_flag=True, help="The runs that ended, a JSON object per line, instead of sums.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with the tokens of each model.")
@config_option
@data_dir_option
def usage(
    by: str,
    window: str,
    since: datetime | None,
    until: datetime | None,
    metrics: bool,
    runs: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Show runs, tokens and cost, as `threadlog derive` has counted them."""
    from threadlog.deploy.commands import usage as report

    end = until or datetime.now(UTC)
    start = since or end - timedelta(days=DAYS)
    environment_of_application(given)
    settings = reachable(settings_of(given))
    if runs:
        sys.exit(run_to_end(lambda: report.export(settings, since=start, until=end)))
    asked: dict[str, Any] = {"by": by, "window": window, "since": start, "until": end}
    sys.exit(run_to_end(lambda: report.show(settings, **asked, as_json=as_json, metrics=metrics)))


USAGE_COMMANDS = (derive, usage)
