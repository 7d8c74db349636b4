"""Real servers for tests: `threadlog up` in a process of its own, with everything needed to break it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests import warm
from tests.data_folders import initialise
from tests.processes import suspend
from tests.waiting import eventually_blocking
from tests.warm import WarmProcess
from threadlog.deploy.parent import PARENT_PID
from threadlog.deploy.postgres import running_uri
from threadlog.deploy.settings import Settings, env_name

START_SECONDS = 90
STOP_SECONDS = 45


class ServerFailed(Exception):
    """The server did not start or stop; the message holds what it said."""


@dataclass
class Server:
    """A running `threadlog up`. All methods block: call them through `asyncio.to_thread` where that matters."""

    url: str
    mode: str
    data_dir: Path
    process: subprocess.Popen[str] | WarmProcess
    env: Mapping[str, str]
    lines: list[str] = field(default_factory=list)
    _new_lines: queue.Queue[str] = field(default_factory=queue.Queue)

    @property
    def database_uri(self) -> str:
        """DSN of the read models (and in embedded mode of the log)."""
        uri = running_uri(self.data_dir / "postgres")
        assert uri is not None, "the embedded Postgres does not run"
        return uri

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name: `server` (api and engine in one) or `api` and `engine`, `executor-1`, …, `postgres`."""
        status = json.loads((self.data_dir / "processes.json").read_text())
        pids = dict(status["processes"])
        with suppress(FileNotFoundError, ValueError):  # it is empty for a moment
            pids["postgres"] = int((self.data_dir / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        return pids

    @property
    def executors(self) -> dict[str, int]:
        return {name: pid for name, pid in self.pids.items() if name.startswith("executor")}

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a process by its name; answers its pid. The supervisor starts it again.

        After SIGSTOP the process has stopped when this returns.
        """
        pid = self.pids[name]
        if number == signal.SIGSTOP:
            suspend(pid)
        else:
            os.kill(pid, number)
        return pid

    def wait_replaced(self, name: str, pid: int, seconds: float = 30) -> int:
        """Wait until another process than `pid` has that name; answers its pid."""

        def started() -> int | None:
            found = self.pids.get(name)
            return found if found is not None and found != pid and psutil.pid_exists(found) else None

        replaced = eventually_blocking(started, within=seconds, says=lambda: f"{name} is started again:\n{self.output}")
        assert replaced is not None
        return replaced

    def restart_postgres(self, number: signal.Signals = signal.SIGINT) -> None:
        """Let the embedded Postgres end (SIGINT: disconnects everybody; SIGKILL: crashes) and come back."""
        self.wait_replaced("postgres", self.kill("postgres", number))
        eventually_blocking(
            lambda: running_uri(self.data_dir / "postgres"), says=lambda: f"Postgres comes back:\n{self.output}"
        )

    def is_ok(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ok", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait_ok(self, seconds: float = 30) -> None:
        """Wait until requests are answered."""
        eventually_blocking(self.is_ok, within=seconds, says=lambda: f"/ok is answered:\n{self.output}")

    def wait_line(self, wanted: Callable[[str], bool], seconds: float = 30) -> str:
        """Wait until the server prints such a line (from now on, or one not waited for before)."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._new_lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise ServerFailed(f"the server did not say what was waited for:\n{self.output}") from None
            if wanted(line):
                return line

    def threadlog(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another `threadlog` command against this server."""
        env, timeout = {**clean_environment(), **self._environment()}, 120
        if sys.platform == "linux":
            return warm.run(arguments, env, timeout)
        command = [sys.executable, "-P", "-m", "threadlog.deploy.cli", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=timeout)

    def _environment(self) -> dict[str, str]:
        names = [env_name(field) for field in Settings.model_fields]
        return {name: self.env[name] for name in names if name in self.env}

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop everything and remove the data folder; answers the exit code."""
        try:
            return self.end(number)
        finally:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop everything, leaving the data folder as it is; answers the exit code."""
        family = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServerFailed(f"the server did not stop in {STOP_SECONDS} s:\n{self.output}") from None
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            process.kill()
        if alive:
            raise ServerFailed(f"the server left processes behind: {alive}\n{self.output}")
        return code


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def clean_environment() -> dict[str, str]:
    """This process's environment without any of our settings."""
    ours = {env_name(field) for field in Settings.model_fields} | {"POSTGRES_URI"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def start(
    config: Path,
    *,
    mode: str = "embedded",
    env: Mapping[str, str] | None = None,
    executors: int | None = 2,
    data_dir: Path | None = None,
    arguments: tuple[str, ...] = (),
    first_start: bool = False,
    fresh: bool = False,
) -> Server:
    """Start `threadlog up` on a free port and return when it is ready.

    Args:
        env: settings, as environment variables.
        executors: None leaves it to the server.
        data_dir: an existing data folder to go on with; otherwise a new one that `Server.stop` removes.
        first_start: the server makes the database in its new folder itself; otherwise it finds an empty one.
        fresh: it is a new interpreter; otherwise, on Linux, a fork of one that has imported everything (tests/warm.py).
    """
    folder = data_dir or Path(tempfile.mkdtemp(prefix="tl-up-"))
    if data_dir is None and not first_start and "DATABASE_URI" not in (env or {}):
        initialise(folder)
    settings = {
        **clean_environment(),
        "THREADLOG_PORT": "0",
        **({} if executors is None else {"THREADLOG_EXECUTORS": str(executors)}),
        "THREADLOG_DATA_DIR": str(folder),
        PARENT_PID: str(os.getpid()),  # a killed test run leaves no server behind
        **(env or {}),
    }
    command = ["up", "--config", str(config), *arguments]
    process = _new(command, settings) if fresh or sys.platform != "linux" else warm.start(command, settings)
    server = Server(url="", mode=mode, data_dir=folder, process=process, env=settings)
    threading.Thread(target=_read, args=(server,), daemon=True).start()
    try:
        ready = server.wait_line(lambda line: line.startswith(("ready ", "\0")), START_SECONDS)
        if ready == "\0":
            raise ServerFailed(f"the server ended with exit code {process.wait()}:\n{server.output}")
        server.url = next(word for word in ready.split() if word.startswith("http"))
    except BaseException:
        with suppress(ServerFailed):
            server.end()
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return server


def _new(arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "threadlog.deploy.cli", *arguments],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _read(server: Server) -> None:
    assert server.process.stdout is not None
    with server.process.stdout as output:
        for line in output:
            server.lines.append(line.rstrip("\n"))
            server._new_lines.put(line.rstrip("\n"))
    server._new_lines.put("\0")  # no more
