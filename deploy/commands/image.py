"""Images: `threadlog dockerfile` and `threadlog build` make one with the server and an application in it.

The Dockerfile stands on its own: on a Python image it installs threadlog, one that has threadlog (the project's own) is
taken as it is. Keys of `langgraph.json` for building are those of LangGraph's command line.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from threadlog.engine.user_code.langgraph_json import ConfigError, LanggraphJson

PYTHON = "3.12"
_PYTHONS = ("3.11", "3.12", "3.13")
_DISTROS = {"debian": "slim-bookworm", "bookworm": "slim-bookworm", "bullseye": "slim-bullseye"}
_INSTALLERS = {"auto": "pip install", "pip": "pip install", "uv": 'uv pip install --python "$(command -v python)"'}
_HOME = PurePosixPath("/srv/app")  # not where a base image may have an application of its own
_NEVER = (".git", ".venv", ".threadlog", "__pycache__")
_SECTIONS_UNSUPPORTED = ("node_version", "api_version", "source")


@dataclass(frozen=True, slots=True)
class Image:
    """What is built: the text of its Dockerfile, the folder that is its context, and what a user should know."""

    dockerfile: str
    context: Path
    notices: tuple[str, ...] = ()


def image_of(app: LanggraphJson, *, base_image: str | None = None, requirement: str | None = None) -> Image:
    """The image of an application.

    Args:
        base_image: instead of the file's `base_image` and of a Python image.
        requirement: what pip installs where the base image has no threadlog; default: this version.

    Raises:
        ConfigError: a key can't be used for building.
    """
    if app.raw.get("source") and not app.raw.get("dependencies"):
        raise ConfigError(
            app.path,
            "source",
            'there is no installing from it here. Name what to install in dependencies, such as ["."].',
        )
    context = _context(app)
    place = _HOME / app.folder.relative_to(context).as_posix()
    install = _installer(app)
    requirement = requirement or f"threadlog[embedded,kafka,streams,tracing,encryption]=={version('threadlog')}"
    lines = [
        f"FROM {base_image or _base_image(app)}",
        "USER root",
        *_lines(app, "dockerfile_lines"),
        "ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore",
        *_pip(app, context),
        "RUN id threadlog >/dev/null 2>&1 || useradd --system --create-home --home-dir /home/threadlog threadlog",
        f"RUN command -v threadlog >/dev/null || {install} {shlex.quote(requirement)}",
        *_installed_first(app, context, install),
        f"COPY --chown=threadlog . {_HOME}",
        *_installed_from_folders(app, context, install),
        f"ENV THREADLOG_HOST=0.0.0.0 THREADLOG_PORT=8000 THREADLOG_CONFIG={shlex.quote(str(place / app.path.name))}",
        f"WORKDIR {place}",
        "RUN chown threadlog .",
        "USER threadlog",
        "EXPOSE 8000",
        "STOPSIGNAL SIGTERM",
        'HEALTHCHECK --interval=10s --timeout=15s --start-period=60s --retries=6 CMD ["threadlog", "health"]',
        'CMD ["threadlog", "up"]',
    ]  # fmt: skip
    return Image("\n".join(lines) + "\n", context, tuple(_notices(app, context)))


def build(image: Image, tag: str, arguments: Sequence[str] = (), *, run: Any = subprocess.run) -> int:
    """Build it with Docker; returns Docker's exit code.

    Raises:
        ConfigError: there is no `docker`.
    """
    if shutil.which("docker") is None:
        raise ConfigError(image.context, None, "`docker` is not installed, or not on the PATH.")
    command = ["docker", "build", "-t", tag, "-f", "-", *arguments, str(image.context)]
    return int(run(command, input=image.dockerfile.encode(), check=False).returncode)


def secrets_in_context(app: LanggraphJson) -> Path | None:
    """The `.env` file that the application names, if it would become part of the image."""
    named = app.raw.get("env")
    if not isinstance(named, str) or not named:
        return None
    file = (app.folder / named).resolve()
    context = _context(app)
    if not file.is_file() or not file.is_relative_to(context):
        return None
    return None if _ignored(file.relative_to(context).as_posix(), context) else file


def _notices(app: LanggraphJson, context: Path) -> Iterator[str]:
    for key in _SECTIONS_UNSUPPORTED:
        if app.raw.get(key):
            yield f"{key} is not acted on"
    if app.raw.get("pip_config_file") and app.raw.get("pip_installer") == "uv":
        yield "uv does not read the pip_config_file: choose the pip_installer pip, or name its index in UV_INDEX_URL"
    if not (context / ".dockerignore").is_file():
        yield f"{context} has no .dockerignore: all of it becomes part of the image, such as {', '.join(_NEVER)}"
    if (file := secrets_in_context(app)) is not None:
        yield f"{file} becomes part of the image, with the secrets in it: name it in {context / '.dockerignore'}"


def _context(app: LanggraphJson) -> Path:
    """The folder that holds the file and the local folders it names."""
    return Path(os.path.commonpath([app.folder, *app.dependency_dirs]))


def _base_image(app: LanggraphJson) -> str:
    given = app.raw.get("base_image")
    python = app.raw.get("python_version") or PYTHON
    if given:
        if not isinstance(given, str):
            raise ConfigError(app.path, "base_image", "expected the name of an image.")
        return given
    if python not in _PYTHONS:
        raise ConfigError(app.path, "python_version", f"expected one of {', '.join(_PYTHONS)}.")
    distro = app.raw.get("image_distro") or "debian"
    if distro not in _DISTROS:
        raise ConfigError(
            app.path, "image_distro", f"there are {', '.join(_DISTROS)}. Name another image with Python in base_image."
        )
    return f"python:{python}-{_DISTROS[distro]}"


def _installer(app: LanggraphJson) -> str:
    chosen = app.raw.get("pip_installer") or "auto"
    if chosen not in _INSTALLERS:
        raise ConfigError(app.path, "pip_installer", f"expected one of {', '.join(_INSTALLERS)}.")
    return _INSTALLERS[chosen]


def _pip(app: LanggraphJson, context: Path) -> Iterator[str]:
    named = app.raw.get("pip_config_file")
    if named:
        file = (app.folder / str(named)).resolve()
        if not file.is_file() or not file.is_relative_to(context):
            raise ConfigError(app.path, "pip_config_file", f"{file} is no file below {context}.")
        yield f"COPY {_copied(file.relative_to(context).as_posix(), '/etc/pip.conf')}"
    if app.raw.get("pip_installer") == "uv":
        yield "RUN pip install uv"


def _lines(app: LanggraphJson, key: str) -> list[str]:
    lines = app.raw.get(key) or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ConfigError(app.path, key, 'expected a list of lines such as ["RUN apt-get update"].')
    return lines


def _installed_first(app: LanggraphJson, context: Path, install: str) -> Iterator[str]:
    """Packages and requirements, before the application's code: these layers stay when that changes."""
    packages = [name for name in app.raw.get("dependencies", []) if not re.match(r"\.{0,2}[/\\]|\.$", name)]
    if packages:
        yield f"RUN {install} {shlex.join(packages)}"
    for folder in app.dependency_dirs:
        if (folder / "requirements.txt").is_file() and not _is_package(folder):
            file = (folder / "requirements.txt").relative_to(context).as_posix()
            target = f"/tmp/requirements/{file}"
            yield f"COPY {_copied(file, target)}"
            yield f"RUN {install} -r {shlex.quote(target)}"


def _installed_from_folders(app: LanggraphJson, context: Path, install: str) -> Iterator[str]:
    for folder in app.dependency_dirs:
        if _is_package(folder):
            place = _HOME / folder.relative_to(context).as_posix()
            yield f"RUN {install} -e {shlex.quote(str(place))}"


def _is_package(folder: Path) -> bool:
    """Whether pip can install it. A `pyproject.toml` may hold nothing but the settings of tools."""
    if (folder / "setup.py").is_file():
        return True
    file = folder / "pyproject.toml"
    if not file.is_file():
        return False
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(file, None, f"this is not TOML ({error}).") from None
    return "project" in tables or "build-system" in tables or "poetry" in tables.get("tool", {})


def _copied(source: str, target: str) -> str:
    """What a COPY line names; as JSON, which any name can be in."""
    return json.dumps([source, target])


def _ignored(path: str, context: Path) -> bool:
    """Whether `.dockerignore` leaves a file out. Only what is usual there: names, folders, `*`, `**/`, `!`."""
    from fnmatch import fnmatchcase

    file = context / ".dockerignore"
    ignored = False
    for line in file.read_text().splitlines() if file.is_file() else ():
        pattern = line.strip().strip("/")
        if not pattern or pattern.startswith("#"):
            continue
        kept, pattern = pattern.startswith("!"), pattern.lstrip("!").strip("/")
        anywhere = pattern.removeprefix("**/")
        names = [path, *(str(parent) for parent in PurePosixPath(path).parents)]
        if any(fnmatchcase(name, pattern) for name in names) or (
            anywhere != pattern and any(fnmatchcase(PurePosixPath(name).name, anywhere) for name in names)
        ):
            ignored = not kept
    return ignored
