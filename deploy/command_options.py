"""Options that commands share, and how they run: settings, the application, failures as a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from threadlog.deploy.settings import Settings
    from threadlog.engine.user_code.langgraph_json import LanggraphJson

F = TypeVar("F", bound=Callable[..., Any])
Work = Callable[[], Any]  # a coroutine, but for executors


def option(*names: str, env: str, help: str, **options: Any) -> Callable[[F], F]:
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
data_dir_option = option(
    "--data-dir",
    env="THREADLOG_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Folder of the embedded Postgres.  [default: .threadlog]",
)
host_option = option("--host", env="THREADLOG_HOST", help="Address to listen on.  [default: 127.0.0.1]")
port_option = option(
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


def settings_of(given: dict[str, Any]) -> Settings:
    from threadlog.deploy.settings import BadSettings, Settings

    environment_of_application(given)
    try:
        return Settings.load(**given)
    except BadSettings as error:
        raise Readable(str(error), exit_code=cannot_run()) from None


def application_of(given: dict[str, Any]) -> LanggraphJson:
    from threadlog.engine.user_code.langgraph_json import ConfigError, load

    try:
        return load(given.get("config") or "langgraph.json")
    except ConfigError as error:
        raise Readable(str(error), exit_code=cannot_run()) from None


def environment_of_application(given: dict[str, Any]) -> None:
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


def reachable(settings: Settings) -> Settings:
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


def serve(role: str, given: dict[str, Any], **options: Any) -> None:
    work_as(role, settings_of_part(given), given, **options)


def settings_of_part(given: dict[str, Any]) -> Settings:
    """Of a process that is one part of a server, and ends with its parent."""
    from threadlog.deploy.parent import end_with_parent

    end_with_parent()
    settings = settings_of(given)
    if not settings.database_uri:
        raise Readable(
            "DATABASE_URI is not set: this command is one part of a server on a shared Postgres. For a server on this "
            "machine alone use `threadlog up`.",
            exit_code=cannot_run(),
        )
    return settings


def work_as(role: str, settings: Settings, given: dict[str, Any], **options: Any) -> None:
    from threadlog.deploy.logs import configure_logging

    configure_logging(settings)
    _tell_notices(given)
    if role in ("run_api", "run_api_and_engine"):
        _warn_of_openness(settings)
    executes = role == "run_executor"
    # Only what the role needs: half of the time a process takes to start are its imports.
    root = import_module("threadlog.deploy.compose.executor" if executes else "threadlog.deploy.compose.api_engine")
    run_to_end(lambda: getattr(root, role)(settings, **options), call if executes else None)


def run_to_end(work: Work, run: Callable[[Work], Any] | None = None) -> Any:
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
        raise Readable(known.sentence, exit_code=cannot_run() if known.hopeless else 1) from None


def _on_uvloop(work: Work) -> Any:
    import uvloop

    return uvloop.run(work())


def on_asyncio(work: Work) -> Any:
    import asyncio

    return asyncio.run(work())


def call(work: Work) -> Any:
    return work()  # an executor imports the application before it has a loop


def cannot_run() -> int:
    from threadlog.deploy.supervise.children import CANNOT_RUN

    return CANNOT_RUN
