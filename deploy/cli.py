"""Command line: the command `threadlog`. Commands import what is heavy themselves, so that `--help` is immediate."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from threadlog.deploy.commands.image import Image
    from threadlog.deploy.settings import Settings
    from threadlog.engine.user_code.langgraph_json import LanggraphJson

F = TypeVar("F", bound=Callable[..., Any])
Work = Callable[[], Any]  # a coroutine, but for executors


def _option(*names: str, env: str, help: str, **options: Any) -> Callable[[F], F]:
    """An option that wins over its variable. `Settings` reads that, after the application's `env` was put over it."""
    return click.option(*names, default=None, help=f"{help}  [env var: {env}]", **options)


config_option = click.option(
    "--config",
    envvar="THREADLOG_CONFIG",
    show_envvar=True,
    default=None,
    type=click.Path(path_type=Path),
    help="The application.  [default: langgraph.json]",
)
data_dir_option = _option(
    "--data-dir",
    env="THREADLOG_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Folder of the embedded Postgres.  [default: .threadlog]",
)
host_option = _option("--host", env="THREADLOG_HOST", help="Address to listen on.  [default: 127.0.0.1]")
port_option = _option(
    "--port", env="THREADLOG_PORT", type=click.IntRange(0, 65_535), help="Port to listen on.  [default: 2024]"
)


class Readable(click.ClickException):
    """A problem the user can do something about: its sentence, and no traceback."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        from threadlog.deploy.logs import report_failure

        report_failure(self.message)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="threadlog", prog_name="threadlog", message="%(prog)s %(version)s")
def main() -> None:
    """Durable runs for LangGraph applications, from a log.

    `threadlog up` in a folder with a langgraph.json is all it takes. The other commands start the parts one by one, for
    several machines, or look into the log. Settings are environment variables; docs/settings.md lists them.
    """


@main.command()
@host_option
@port_option
@config_option
@data_dir_option
@_option(
    "--executors", env="THREADLOG_EXECUTORS", type=click.IntRange(0),
    help="Executor processes.  [default: 1; one per core when runs overlap]",
)  # fmt: skip
@_option("--reload/--no-reload", env="THREADLOG_RELOAD", help="Load the application anew when its files change.")
def up(**given: Any) -> None:
    """Start the whole server here, and keep it running."""
    from threadlog.deploy.parent import end_with_parent

    end_with_parent()
    app, settings = _application(given), _settings(given)
    from threadlog.deploy.logs import configure_logging
    from threadlog.deploy.supervise.fork_server import fork_here
    from threadlog.deploy.supervise.supervisor import forked_roles
    from threadlog.deploy.supervise.supervisor import up as run

    server = fork_here(forked_roles(settings)) if settings.fork_server and settings.most_executors else None
    if isinstance(server, list):  # this is a process that it forked
        main(server, prog_name="threadlog")
        return
    configure_logging(settings)
    sys.exit(_run(lambda: run(settings, app, server), _on_asyncio))


@main.command()
@host_option
@port_option
@config_option
def api(**given: Any) -> None:
    """Start one api process (needs DATABASE_URI)."""
    _serve("run_api", given)


@main.command()
def engine(**given: Any) -> None:
    """Start one engine process (needs DATABASE_URI)."""
    _serve("run_engine", given)


@main.command(name="api-and-engine", hidden=True)
@host_option
@port_option
@config_option
@click.option("--alone", is_flag=True, help="No other engine works on this database.")
def api_and_engine(alone: bool, **given: Any) -> None:
    """Start api and engine in one process, as `up` does when the log is in Postgres."""
    _serve("run_api_and_engine", given, alone=alone)


@main.command()
@config_option
def executor(**given: Any) -> None:
    """Start one executor process (needs DATABASE_URI)."""
    from threadlog.deploy.supervise.pulse import PULSE

    _application(given)
    settings = _settings_of_part(given)
    if PULSE not in os.environ:  # this process has no parent that watches it
        from threadlog.deploy.logs import configure_logging
        from threadlog.deploy.supervise.watched import fork_executor

        configure_logging(settings)
        assert settings.database_uri is not None
        code = fork_executor(settings.database_uri, hang_seconds=settings.hang_seconds)
        if code is not None:
            sys.exit(code)
    _work_as("run_executor", settings, given)


@main.command(name="fork-server", hidden=True)
@click.argument("control", type=int)
@click.argument("roles", nargs=-1)
def fork_server(control: int, roles: tuple[str, ...]) -> None:
    """Become the processes of a supervisor, which asks through its socket."""
    from threadlog.deploy.supervise.fork_server import serve

    main(serve(control, roles), prog_name="threadlog")


@main.command()
@click.option("--thread", "thread_id", help="Only the events of this thread.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event, complete.")
@click.option("--verify", is_flag=True, help="Rebuild the read models from the log, compare with the live ones.")
@config_option
@data_dir_option
def events(thread_id: str | None, follow: bool, as_json: bool, verify: bool, **given: Any) -> None:
    """List what happened, from the log."""
    _environment_of_application(given)
    settings = _reachable(_settings(given))
    from threadlog.deploy.commands import events as listing

    if verify:
        sys.exit(_run(lambda: listing.verify(settings, as_json=as_json)))
    sys.exit(_run(lambda: listing.show(settings, thread_id=thread_id, follow=follow, as_json=as_json)))


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
    application = _application(given)
    settings = _reachable(_settings(given))
    from threadlog.deploy.commands import migrate as checking

    sys.exit(_run(lambda: checking.check(settings, application.path, graph_ids=graph_ids, as_json=as_json), _call))


@main.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@click.option("--since", metavar="TIME", help="All runs created in this time that have ended: 30m, 36h, 7d.")
@click.option("--graph", "graph_ids", multiple=True, help="With --since: only of this graph; may be repeated.")
@click.option("--limit", default=1000, show_default=True, help="With --since: so many runs at most, the newest ones.")
@click.option("--ignore", "ignored", multiple=True, metavar="CHANNEL", help="A channel that need not be the same.")
@click.option("--strict", is_flag=True, help="Exit code 1 also for runs that can't be compared.")
@click.option("--json", "as_json", is_flag=True, help="The comparisons as one JSON object.")
@config_option
@data_dir_option
def rerun(
    run_ids: tuple[str, ...], since: str | None, graph_ids: tuple[str, ...], limit: int, ignored: tuple[str, ...],
    strict: bool, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Execute past runs with today's code, step by step from their checkpoints, and tell where it does otherwise.

    Models and tools are not called: the record answers for them. The code of nodes runs for real. Nothing is written.
    """
    if not run_ids and since is None:
        raise Readable("name runs, or a time: `threadlog rerun RUN`, `threadlog rerun --since 7d`")
    application = _application(given)
    settings = _reachable(_settings(given))
    from threadlog.deploy.commands import rerun as comparing

    try:
        seconds = None if since is None else comparing.seconds_of(since)
    except ValueError as error:
        raise Readable(str(error)) from None
    sys.exit(
        _run(
            lambda: comparing.run_again(
                settings, application.path, run_ids=run_ids, since_seconds=seconds, graph_ids=graph_ids, limit=limit,
                ignored=ignored, strict=strict, as_json=as_json,
            ),
            _call,
        )
    )  # fmt: skip


@main.command()
@host_option
@port_option
@_option("--health-port", env="THREADLOG_HEALTH_PORT", type=click.IntRange(1, 65_535), help="Ask this port instead.")
def health(**given: Any) -> None:
    """Ask a process on this machine whether it can do its work; the exit code says it."""
    from threadlog.deploy.health import ask

    ready, words = ask(_settings(given))
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

    sys.exit(_run(lambda: examine(given)))


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
    """Write the Dockerfile of an image with the server and the application, to SAVE_PATH or to the terminal."""
    image = _image(given, base_image, requirement)
    if save_path is None:
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
    if not with_env_file and (file := secrets_in_context(_application(given))) is not None:
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
        image = image_of(_application(given), base_image=base_image, requirement=requirement)
    except ConfigError as error:
        raise Readable(str(error)) from None
    for notice in image.notices:
        click.echo(f"threadlog: {notice}", err=True)
    return image


def _settings(given: dict[str, Any]) -> Settings:
    from threadlog.deploy.settings import BadSettings, Settings

    _environment_of_application(given)
    try:
        return Settings.load(**given)
    except BadSettings as error:
        raise Readable(str(error), exit_code=_cannot_run()) from None


def _application(given: dict[str, Any]) -> LanggraphJson:
    from threadlog.engine.user_code.langgraph_json import ConfigError, load

    try:
        return load(given.get("config") or "langgraph.json")
    except ConfigError as error:
        raise Readable(str(error), exit_code=_cannot_run()) from None


def _environment_of_application(given: dict[str, Any]) -> None:
    """The application's `env` wins over the real environment, for settings too. No file, no matter."""
    from threadlog.deploy.compose.environment import apply
    from threadlog.engine.user_code.langgraph_json import ConfigError, load

    with suppress(ConfigError):  # a command that needs the file reports it
        apply(load(given.get("config") or "langgraph.json"))


def _tell_notices(given: dict[str, Any]) -> None:
    """What a user should know of the application's file; under a supervisor, that has said it."""
    import logging

    from threadlog.deploy.compose.environment import supervised
    from threadlog.engine.user_code.langgraph_json import ConfigError, load

    if not supervised():
        with suppress(ConfigError):
            for notice in load(given.get("config") or "langgraph.json").notices:
                logging.getLogger("threadlog").warning("%s", notice)


def _warn_of_openness(settings: Settings) -> None:
    import logging

    from threadlog.deploy.compose.environment import supervised
    from threadlog.deploy.supervise.announce import warning_of_openness

    if not supervised() and (warning := warning_of_openness(settings)):
        logging.getLogger("threadlog").warning("%s", warning)


def _reachable(settings: Settings) -> Settings:
    """With the DSN of the embedded Postgres that runs over the data folder, when none is given."""
    if settings.database_uri:
        return settings
    from threadlog.deploy.postgres import running_uri

    uri = running_uri(settings.data_dir / "postgres")
    if uri is None:
        raise Readable(
            f"no server runs over {settings.data_dir.absolute()}: start one with `threadlog up`, name its folder with "
            "--data-dir, or set DATABASE_URI"
        )
    return settings.model_copy(update={"database_uri": uri})


def _serve(role: str, given: dict[str, Any], **options: Any) -> None:
    _work_as(role, _settings_of_part(given), given, **options)


def _settings_of_part(given: dict[str, Any]) -> Settings:
    """Of a process that is one part of a server, and ends with its parent."""
    from threadlog.deploy.parent import end_with_parent

    end_with_parent()
    settings = _settings(given)
    if not settings.database_uri:
        raise Readable(
            "DATABASE_URI is not set: this command is one part of a server on a shared Postgres. For a server on this "
            "machine alone use `threadlog up`.",
            exit_code=_cannot_run(),
        )
    return settings


def _work_as(role: str, settings: Settings, given: dict[str, Any], **options: Any) -> None:
    from threadlog.deploy.logs import configure_logging

    configure_logging(settings)
    _tell_notices(given)
    if role in ("run_api", "run_api_and_engine"):
        _warn_of_openness(settings)
    executes = role == "run_executor"
    # Only what the role needs: half of the time a process takes to start are its imports.
    root = import_module("threadlog.deploy.compose.executor" if executes else "threadlog.deploy.compose.api_engine")
    _run(lambda: getattr(root, role)(settings, **options), _call if executes else None)


def _run(work: Work, run: Callable[[Work], Any] | None = None) -> Any:
    """Run to the end, by `run` or else on uvloop; a failure that the user can mend ends in its sentence."""
    from threadlog.deploy.failures import readable

    try:
        return (run or _on_uvloop)(work)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        known = readable(error)
        if known is None:
            raise
        raise Readable(known.sentence, exit_code=_cannot_run() if known.hopeless else 1) from None


def _on_uvloop(work: Work) -> Any:
    import uvloop

    return uvloop.run(work())


def _on_asyncio(work: Work) -> Any:
    import asyncio

    return asyncio.run(work())


def _call(work: Work) -> Any:
    return work()  # an executor imports the application before it has a loop


def _cannot_run() -> int:
    from threadlog.deploy.supervise.children import CANNOT_RUN

    return CANNOT_RUN


if __name__ == "__main__":
    main()
