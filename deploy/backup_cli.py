"""Commands that keep data safe: `backup`, `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from threadlog.deploy.command_options import (
    call,
    config_option,
    data_dir_option,
    environment_of_application,
    reachable,
    run_to_end,
    settings_of,
)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@config_option
@data_dir_option
def backup(file: Path, **given: Any) -> None:
    """Back the database of a running server up to a new FILE: in embedded mode the log and all that follows from it."""
    environment_of_application(given)
    settings = reachable(settings_of(given))
    from threadlog.deploy.commands.backup import backup as dump

    run_to_end(lambda: dump(settings, file), call)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
@data_dir_option
def restore(file: Path, **given: Any) -> None:
    """Load a FILE of `threadlog backup` into a new data folder, or into the empty database of DATABASE_URI."""
    environment_of_application(given)
    settings = settings_of(given)
    from threadlog.deploy.commands.backup import restore as load

    run_to_end(lambda: load(settings, file), call)


BACKUP_COMMANDS = (backup, restore)
