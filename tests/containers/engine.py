"""A Docker Engine for tests: one that scripts start for them alone, or the one that answers here already."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 1800  # the first time, base images are made from packages


class NoEngine(Exception):
    """No Docker Engine can be had here; the message says why."""


class Engine:
    """Runs `docker` and Compose against one engine, in the environment `env`.

    `scripts`: the folder of those that started it, in a network of its own.
    """

    def __init__(self, env: Mapping[str, str], scripts: Path | None = None) -> None:
        self.env, self._scripts = {**os.environ, **env}, scripts

    def docker(self, *arguments: str, seconds: float = 120) -> str:
        """What a `docker` command prints. Raises `AssertionError` with its complaint if it fails."""
        return self._run(["docker", *arguments], seconds)

    def compose(self, *arguments: str, seconds: float = 600) -> str:
        """Like `docker`, for Docker Compose."""
        return self._run([*self.compose_client(), *arguments], seconds)

    def reach(self, port: int) -> str:
        """The base URL of a port that a container publishes."""
        if self._scripts is not None:
            self._run(["bash", str(self._scripts / "forward.sh"), "docker", str(port)], 60)
        return f"http://127.0.0.1:{port}"

    def compose_client(self) -> list[str]:
        """Raises `NoEngine` where there is no Compose."""
        for command in (["docker", "compose"], ["docker-compose"]):
            if (
                shutil.which(command[0])
                and not subprocess.run([*command, "version"], capture_output=True, env=self.env, check=False).returncode
            ):
                return command
        raise NoEngine("no Docker Compose here: neither `docker compose` nor docker-compose")

    def _run(self, command: list[str], seconds: float) -> str:
        done = subprocess.run(
            command,
            env=self.env, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout


@contextmanager
def docker_engine() -> Iterator[Engine]:
    """An engine of these tests' own, if the variable CONTAINERS names the folder of scripts that start one; else the
    one that answers.

    Raises:
        NoEngine: there is neither.
    """
    scripts = Path(os.environ.get("CONTAINERS") or "/nonexistent")
    if not (scripts / "docker-up.sh").is_file():
        yield _answering(scripts)
        return
    if os.geteuid() != 0:
        raise NoEngine(f"{scripts} starts a Docker Engine for root only")
    state = tempfile.mkdtemp(prefix="threadlog-containers-")
    env = {**os.environ, "CONTAINERS_STATE": state}
    try:
        for script in ("base-image.sh", "docker-up.sh"):
            done = subprocess.run(
                ["bash", str(scripts / script)],
                env=env, capture_output=True, text=True, timeout=START_SECONDS, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            assert done.returncode == 0, f"{script}: {done.stderr[-4000:]}"
        exported = (line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        engine = Engine({"CONTAINERS_STATE": state, **dict(exported)}, scripts)
        engine.compose_client()
        yield engine
    finally:
        subprocess.run(["bash", str(scripts / "docker-down.sh")], env=env, capture_output=True, timeout=60, check=False)
        shutil.rmtree(state, ignore_errors=True)


def _answering(scripts: Path) -> Engine:
    if shutil.which("docker") is None:
        raise NoEngine(f"no Docker here, and no scripts that start one at {scripts} (the variable CONTAINERS)")
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode:
        why = answer.stderr.strip().splitlines()[-1:] or ["docker info failed"]
        raise NoEngine(f"no Docker Engine answers ({why[0]}), and no scripts that start one at {scripts} (CONTAINERS)")
    engine = Engine({})
    engine.compose_client()
    return engine
