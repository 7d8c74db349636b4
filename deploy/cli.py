"""Command line: the command `threadlog`. Commands import what is heavy themselves, so that `--help` is immediate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from threadlog.deploy.backup_cli import BACKUP_COMMANDS
from threadlog.deploy.command_options import (
    Readable,
    application_of,
    call,
    config_option,
    data_dir_option,
    host_option,
    on_asyncio,
    option,
    port_option,
    reachable,
    run_to_end,
    serve,
    settings_of,
    settings_of_part,
    work_as,
)
from threadlog.deploy.log_cli import LOG_COMMANDS
from threadlog.deploy.usage_cli import USAGE_COMMANDS

if TYPE_CHECKING:
    from threadlog.deploy.commands.image import Image


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="threadlog", prog_name="threadlog", message="%(prog)s %(version)s")
def main() -> None:
    """Durable runs for LangGraph applications, from a log.

    `threadlog up` in a folder with a langgraph.json is all it takes. The other commands start the parts one by one, for
    several machines, or look into the log. Settings are environment variables; docs/settings.md lists them.
    """


for command in (*LOG_COMMANDS, *USAGE_COMMANDS, *BACKUP_COMMANDS):
    main.add_command(command)


@main.command()
@host_option
@port_option
@config_option
@data_dir_option
@option(
    "--executors", env="THREADLOG_EXECUTORS", type=click.IntRange(0),
    help="Executor processes.  [default: 1; one per core when runs overlap]",
)  # fmt: skip
@option("--reload/--no-reload", env="THREADLOG_RELOAD", help="Load the application anew when its files change.")
def up(**given: Any) -> None:
    """Start the whole server here, and keep it running."""
    from threadlog.deploy.parent import end_with_parent

    end_with_parent()
    app, settings = application_of(given), settings_of(given)
    from threadlog.deploy.logs import configure_logging
    from threadlog.deploy.supervise.fork_server import fork_here
    from threadlog.deploy.supervise.supervisor import forked_roles
    from threadlog.deploy.supervise.supervisor import up as run

    server = fork_here(forked_roles(settings)) if settings.fork_server and settings.most_executors else None
    if isinstance(server, list):  # this is a process that it forked
        main(server, prog_name="threadlog")
        return
    configure_logging(settings)
    sys.exit(run_to_end(lambda: run(settings, app, server), on_asyncio))


@main.command()
@host_option
@port_option
@config_option
def api(**given: Any) -> None:
    """Start one api process (needs DATABASE_URI)."""
    serve("run_api", given)


@main.command()
def engine(**given: Any) -> None:
    """Start one engine process (needs DATABASE_URI)."""
    serve("run_engine", given)


@main.command(name="api-and-engine", hidden=True)
@host_option
@port_option
@config_option
@click.option("--alone", is_flag=True, help="No other engine works on this database.")
def api_and_engine(alone: bool, **given: Any) -> None:
    """Start api and engine in one process, as `up` does when the log is in Postgres."""
    serve("run_api_and_engine", given, alone=alone)


@main.command()
@config_option
def executor(**given: Any) -> None:
    """Start one executor process (needs DATABASE_URI)."""
    from threadlog.deploy.supervise.pulse import PULSE

    application_of(given)
    settings = settings_of_part(given)
    if PULSE not in os.environ:  # this process has no parent that watches it
        from threadlog.deploy.logs import configure_logging
        from threadlog.deploy.supervise.watched import fork_executor

        configure_logging(settings)
        assert settings.database_uri is not None
        code = fork_executor(settings.database_uri, hang_seconds=settings.hang_seconds)
        if code is not None:
            sys.exit(code)
    work_as("run_executor", settings, given)


@main.command(name="fork-server", hidden=True)
@click.argument("control", type=int)
@click.argument("roles", nargs=-1)
def fork_server(control: int, roles: tuple[str, ...]) -> None:
    """Become the processes of a supervisor, which asks through its socket."""
    from threadlog.deploy.supervise.fork_server import serve

    main(serve(control, roles), prog_name="threadlog")


@main.command()
@click.option("--check", is_flag=True, help="Try the migrations of `langgraph.json` on every thread; write nothing.")
@click.option("--graph", "graph_ids", multiple=True, help="Only threads of this graph. May be given several times.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object, with every problem.")
@config_option
@data_dir_option
def migrate(check: bool, graph_ids: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Check whether the states of all threads can be brought to the present version of their graphs."""
    if not check:
        raise Readable("states are migrated when a run reads them: there is only `threadlog migrate --check`")
    application = application_of(given)
    settings = reachable(settings_of(given))
    from threadlog.deploy.commands import migrate as checking

    sys.exit(run_to_end(lambda: checking.check(settings, application.path, graph_ids=graph_ids, as_json=as_json), call))


@main.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@click.option("--since", metavar="TIME", help="All runs created in this time that have ended: 30m, 36h, 7d.")
@click.option("--graph", "graph_ids", multiple=True, help="With --since: only of this graph; may be repeated.")
@click.option("--limit", default=1000, show_default=True, help="With --since: so many runs at most, the newest ones.")
@click.option("--ignore", "ignored", multiple=True, metavar="CHANNEL", help="A channel that need not be the same.")
@click.option("--strict", is_flag=True, help="Exit code 1 also for runs that can't be compared.")
@click.option("--json", "as_json", is_flag=True, help="The comparisons as one JSON object.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="The same in a file, which the page /studio/#/reruns shows.",
)
@config_option
@data_dir_option
def rerun(
    run_ids: tuple[str, ...], since: str | None, graph_ids: tuple[str, ...], limit: int, ignored: tuple[str, ...],
    strict: bool, as_json: bool, report: Path | None, **given: Any,
) -> None:  # fmt: skip
    """Execute past runs with today's code, step by step from their checkpoints, and tell where it does otherwise.

    Models and tools are not called: the record answers for them. The code of nodes runs for real. Nothing is written.
    """
    if not run_ids and since is None:
        raise Readable("name runs, or a time: `threadlog rerun RUN`, `threadlog rerun --since 7d`")
    application = application_of(given)
    settings = reachable(settings_of(given))
    from threadlog.deploy.commands import rerun as comparing

    try:
        seconds = None if since is None else comparing.seconds_of(since)
    except ValueError as error:
        raise Readable(str(error)) from None
    sys.exit(
        run_to_end(
            lambda: comparing.run_again(
                settings, application.path, run_ids=run_ids, since_seconds=seconds, graph_ids=graph_ids, limit=limit,
                ignored=ignored, strict=strict, as_json=as_json, report=report,
            ),
            call,
        )
    )  # fmt: skip


@main.command()
@host_option
@port_option
@option("--health-port", env="THREADLOG_HEALTH_PORT", type=click.IntRange(1, 65_535), help="Ask this port instead.")
def health(**given: Any) -> None:
    """Ask a process on this machine whether it can do its work; the exit code says it."""
    from threadlog.deploy.health import ask

    ready, words = ask(settings_of(given))
    click.echo(words, err=not ready)
    sys.exit(0 if ready else 1)


@main.command()
@host_option
@port_option
@config_option
@data_dir_option
def doctor(**given: Any) -> None:
    """Check what `threadlog up` needs here, and say what to do about what is missing."""
    from threadlog.deploy.commands.doctor import examine

    sys.exit(run_to_end(lambda: examine(given)))


_base_image_option = click.option(
    "--base-image", help="What to start from.  [default: the file's, else a Python image]"
)
_requirement_option = click.option(
    "--threadlog",
    "requirement",
    help="What pip installs where the base image has no threadlog.  [default: this version]",
)


@main.command()
@click.argument("save_path", type=click.Path(dir_okay=False, path_type=Path), required=False)
@config_option
@_base_image_option
@_requirement_option
def dockerfile(save_path: Path | None, base_image: str | None, requirement: str | None, **given: Any) -> None:
    """Write the Dockerfile of an image with the server and the application, to SAVE_PATH or to the terminal (`-`)."""
    image = _image(given, base_image, requirement)
    if save_path is None or str(save_path) == "-":
        click.echo(image.dockerfile, nl=False)
        return
    save_path.write_text(image.dockerfile)
    click.echo(f"{save_path}: docker build -t NAME -f {save_path} {image.context}", err=True)


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--tag", "-t", required=True, help="Name of the image.")
@config_option
@_base_image_option
@_requirement_option
@click.option("--with-env-file", is_flag=True, help="The `.env` that the file names may be in the image.")
@click.argument("docker_arguments", nargs=-1, type=click.UNPROCESSED)
def build(
    tag: str, base_image: str | None, requirement: str | None, with_env_file: bool,
    docker_arguments: tuple[str, ...], **given: Any,
) -> None:  # fmt: skip
    """Build an image with the server and the application in it; DOCKER_ARGUMENTS go to `docker build`."""
    from threadlog.deploy.commands.image import build as build_image
    from threadlog.deploy.commands.image import secrets_in_context
    from threadlog.engine.user_code.langgraph_json import ConfigError

    image = _image(given, base_image, requirement)
    if not with_env_file and (file := secrets_in_context(application_of(given))) is not None:
        raise Readable(
            f"{file} would become part of the image, with the secrets in it. Name it in "
            f"{image.context / '.dockerignore'}, and give the variables to `docker run --env-file`; or build "
            "--with-env-file."
        )
    try:
        sys.exit(build_image(image, tag, docker_arguments))
    except ConfigError as error:
        raise Readable(str(error)) from None


def _image(given: dict[str, Any], base_image: str | None, requirement: str | None) -> Image:
    from threadlog.deploy.commands.image import image_of
    from threadlog.engine.user_code.langgraph_json import ConfigError

    try:
        image = image_of(application_of(given), base_image=base_image, requirement=requirement)
    except ConfigError as error:
        raise Readable(str(error)) from None
    for notice in image.notices:
        click.echo(f"threadlog: {notice}", err=True)
    return image


if __name__ == "__main__":
    main()
