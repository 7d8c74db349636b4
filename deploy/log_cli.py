"""Commands that read the log: `events`, `explain`, `export`, `fork`, `import`, `lag`, `rebuild`, `verify`."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from threadlog.deploy.command_options import (
    config_option,
    data_dir_option,
    environment_of_application,
    reachable,
    run_to_end,
    settings_of,
)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Time(click.ParamType):
    """A time: ISO-8601, in UTC unless it says another zone, or how long ago, such as `7d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if ago := re.fullmatch(r"(\d+)([smhdw])", value):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            time = datetime.fromisoformat(value)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a time, such as 2026-01-31T12:00, nor how long ago, such as 7d, 12h, 30m")


class Id(click.ParamType):
    """A UUID, in its canonical form."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from threadlog.engine.ids import as_uuid

        return as_uuid(str(value)) or self.fail(f"{value!r} is not a UUID")


json_option = click.option("--json", "as_json", is_flag=True, help="JSON, complete, a line for each.")
since_option = click.option("--since", type=Time(), help="From this time on: ISO-8601, or how long ago (7d, 12h, 30m).")
until_option = click.option("--until", type=Time(), help="Before this time.")


@click.command()
@click.option("--thread", "thread_id", type=Id(), help="Only the events of this thread.")
@click.option("--run", "run_id", type=Id(), help="Only what is about this run.")
@click.option(
    "--type", "types", multiple=True, help="Only events of this type; `run.*` is all that begin so. Repeatable."
)
@click.option("--actor", help="Only what this actor wanted, `*` for anything: user:ada, 'user:*', engine, server.")
@since_option
@until_option
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@json_option
@click.option("--verify", "verifies", is_flag=True, help="The same as `threadlog verify`.")
@config_option
@data_dir_option
def events(follow: bool, as_json: bool, verifies: bool, **given: Any) -> None:
    """List what happened, from the log."""
    from threadlog.deploy.commands import events as listing

    names = ("thread_id", "run_id", "types", "actor", "since", "until")
    selection = listing.EventSelection(**{name: given.pop(name) for name in names})
    if verifies:
        _verify(as_json, given)
    settings = _settings(given)
    sys.exit(run_to_end(lambda: listing.show(settings, selection, follow=follow, as_json=as_json)))


@click.command()
@json_option
@config_option
@data_dir_option
def verify(as_json: bool, **given: Any) -> None:
    """Rebuild the read models from the log, and compare with the live ones; exit code 1 tells of a difference."""
    _verify(as_json, given)


def _verify(as_json: bool, given: dict[str, Any]) -> None:
    from threadlog.deploy.commands.verify import verify as compare

    settings = _settings(given)
    sys.exit(run_to_end(lambda: compare(settings, as_json=as_json)))


@click.command()
@click.option("--table", "tables", multiple=True, help="Only this table of the read models. Repeatable.")
@click.option("--swap", "swaps", is_flag=True, help="Replace the live rows that differ, while the server goes on.")
@json_option
@config_option
@data_dir_option
def rebuild(tables: tuple[str, ...], swaps: bool, as_json: bool, **given: Any) -> None:
    """Rebuild read models from the log beside the live ones, and show what differs, or replace it."""
    from threadlog.deploy.commands import verify as rebuilding
    from threadlog.projections.rebuild.swap import SWAPPED

    if unknown := [table for table in tables if table not in SWAPPED]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(SWAPPED)}", param_hint="--table")
    settings = _settings(given)
    work = rebuilding.swap if swaps else rebuilding.verify
    sys.exit(run_to_end(lambda: work(settings, tables=tables, as_json=as_json)))


@click.command()
@click.argument("run_id", metavar="RUN", type=Id())
@json_option
@config_option
@data_dir_option
def explain(run_id: str, as_json: bool, **given: Any) -> None:
    """Tell the story of a run: who asked, what was decided and why, attempts, steps, tokens, durations."""
    from threadlog.deploy.commands import explain as explaining

    settings = _settings(given)
    sys.exit(run_to_end(lambda: explaining.explain(settings, run_id, as_json=as_json)))


@click.command()
@click.argument("path", metavar="[FILE]", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--thread", "thread_id", type=Id(), help="Only the events of this thread.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "parquet"]),
    help="JSON lines, or Parquet with a row per event.  [default: parquet if FILE ends so, else jsonl]",
)
@since_option
@until_option
@config_option
@data_dir_option
def export(path: Path | None, thread_id: str | None, format_: str | None, since: Any, until: Any, **given: Any) -> None:
    """Write event records to FILE, or to the output: a JSON line each, with the large values that they refer to.

    A FILE that ends in .gz is compressed.
    """
    as_parquet = format_ == "parquet" or (format_ is None and path is not None and path.suffix == ".parquet")
    if as_parquet and path is None:
        raise click.BadParameter("Parquet is written to a file: name one", param_hint="FILE")
    from threadlog.deploy.commands import export as exporting
    from threadlog.deploy.commands.events import EventSelection

    settings = _settings(given)
    selection = EventSelection(thread_id=thread_id, since=since, until=until)
    sys.exit(run_to_end(lambda: exporting.export(settings, selection, path, as_parquet=as_parquet)))


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--by", metavar="NAME", help="Who imports, for the log.  [default: user@host]")
@click.option("--dry-run", is_flag=True, help="Read all of FILE and tell what would be imported.")
@click.option("--more-follows", is_flag=True, help="What is imported takes no commands yet: a later export follows.")
@json_option
@config_option
@data_dir_option
def import_(path: Path, by: str | None, dry_run: bool, more_follows: bool, as_json: bool, **given: Any) -> None:
    """Take over the history that FILE holds, an export of another installation: ids, events, times and state.

    Nothing follows from it: no run is executed again, no webhook is sent, no cron fires for times that are past. Begun
    anew, an import goes on where it was.
    """
    from threadlog.deploy.commands.import_ import import_file

    settings = _settings(given)
    sys.exit(
        run_to_end(
            lambda: import_file(
                settings, path, by=by, dry_run=dry_run, more_follows=more_follows, as_json=as_json
            )
        )
    )  # fmt: skip


class LogPosition(click.ParamType):
    """A place in the log: `partition@offset`, or the offset alone."""

    name = "position"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"([0-9]{1,9}@)?[0-9]{1,18}", value):
            self.fail(f"{value!r} is not a position, such as 3@17 or 17")
        return str(value)


@click.command()
@click.argument("thread_id", metavar="THREAD", type=Id())
@click.option("--at", type=LogPosition(), required=True, help="Position in the log, as `threadlog events` shows it.")
@json_option
@config_option
@data_dir_option
def fork(thread_id: str, at: str, as_json: bool, **given: Any) -> None:
    """Make a new thread with the state and history that THREAD had at a position of the log; prints its id."""
    from threadlog.deploy.commands.fork import fork as make

    settings = _settings(given)
    sys.exit(run_to_end(lambda: make(settings, thread_id, at, as_json=as_json)))


@click.command()
@json_option
@config_option
@data_dir_option
def lag(as_json: bool, **given: Any) -> None:
    """Show how far engines and read models are behind the log; exit code 1 tells of a partition without an engine."""
    from threadlog.deploy.commands import lag as lagging

    settings = _settings(given)
    sys.exit(run_to_end(lambda: lagging.show(settings, as_json=as_json)))


def _settings(given: dict[str, Any]) -> Any:
    environment_of_application(given)
    return reachable(settings_of(given))


LOG_COMMANDS = (events, explain, export, fork, import_, lag, rebuild, verify)
