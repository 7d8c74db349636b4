"""Backup and restore, `threadlog backup` and `threadlog restore`: a dump of the database, by Postgres' own tools."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import click

from threadlog.deploy.failures import CannotRun
from threadlog.deploy.postgres import EmbeddedPostgres, PostgresFailed, binaries, running_uri
from threadlog.deploy.settings import Settings

_MAGIC = b"PGDMP"  # how a dump of pg_dump's own format begins


def backup(settings: Settings, path: Path) -> None:
    """Dump the database of a running server to a new file: everything as it was at one moment.

    Raises:
        CannotRun: there is such a file, or pg_dump is missing or fails.
    """
    if path.exists():
        raise CannotRun(f"{path} exists: name a new file, so that no backup takes the place of another")
    assert settings.database_uri is not None
    part = path.with_name(f"{path.name}.part")
    begun = time.monotonic()
    try:
        part.touch(mode=0o600)  # all that threads hold is in it: for its owner alone
        embedded = settings.database_uri == running_uri(settings.data_dir / "postgres")
        _run("pg_dump", "--format=custom", f"--file={part}", f"--dbname={settings.database_uri}", embedded=embedded)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    size = path.stat().st_size / 1e6
    click.echo(f"threadlog: {path}, {size:,.1f} MB, after {time.monotonic() - begun:.1f} s", err=True)
    if settings.kafka_bootstrap_servers:
        click.echo(
            "threadlog: the log is in Kafka; this is a backup of the read models, which follow from it", err=True
        )


def restore(settings: Settings, path: Path) -> None:
    """Load a dump into a new data folder, or into the empty database that DATABASE_URI names.

    Raises:
        CannotRun: the file is no backup, the folder or the database has something in it, or pg_restore fails.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise CannotRun(f"{path} is not a file of `threadlog backup`")
    begun = time.monotonic()
    if settings.database_uri is not None:
        _load(path, settings.database_uri, embedded=False)
        place = "the database of DATABASE_URI"
    else:
        folder = settings.data_dir / "postgres"
        if folder.exists():
            raise CannotRun(f"{folder} has a database: choose a new folder with --data-dir, or move this one away")
        _into_new_folder(path, folder)
        place = str(settings.data_dir)
    click.echo(f"threadlog: restored into {place} after {time.monotonic() - begun:.1f} s", err=True)


def _into_new_folder(path: Path, folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    try:
        postgres.start()
        try:
            _load(path, postgres.uri, embedded=True)
        finally:
            postgres.stop()
    except PostgresFailed as error:
        raise CannotRun(str(error)) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half a database would look like a whole one
        raise


def _load(path: Path, uri: str, *, embedded: bool) -> None:
    # All or nothing; a database that has tables fails at the first of them.
    options = ("--single-transaction", "--exit-on-error", "--no-owner")
    _run("pg_restore", *options, f"--dbname={uri}", str(path), embedded=embedded)


def _run(tool: str, *arguments: str, embedded: bool) -> None:
    done = subprocess.run(
        [_tool(tool, embedded), *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        raise CannotRun(f"{tool} failed: {done.stderr.strip()[-2000:]}")


def _tool(name: str, embedded: bool) -> str:
    """That of the server's own version: on the path for a server of the user's, else of the embedded Postgres."""
    found = None if embedded else shutil.which(name)
    if found is None:
        try:
            found = shutil.which(binaries() / name)
        except PostgresFailed:
            found = None
    if found is None:
        raise CannotRun(f"{name} is missing: install the client of your Postgres, or threadlog[embedded], which has it")
    return found
