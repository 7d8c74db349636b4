"""The servers under test as processes: threadlog on either log, and the peers where they are installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

APP = Path(__file__).parent / "app"
START_SECONDS = 90.0
_TOPICS = {"THREADLOG_TOPIC_PREFIX": "bench.{port}."}  # each start has a log of its own


@dataclass(frozen=True)
class Kind:
    """How a server is started: `{port}`, `{app}` and `{data}` are filled in, `{port}` in the environment, too."""

    label: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    label: str
    url: str
    pid: int
    cold_start_s: float
    data: Path

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU seconds (user and system) of the whole process tree so far, ended children included."""
        total = 0.0
        for process in self.tree():
            try:
                t = process.cpu_times()
            except psutil.Error:
                continue
            total += max(t.user + t.system, _scheduled_s(process.pid)) + t.children_user + t.children_system
        return total

    def memory_mb(self) -> float:
        """Proportional set size of the whole tree in MB: pages that processes share count once."""
        total = 0
        for process in self.tree():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total / 1e6


def _scheduled_s(pid: int) -> float:
    """What the threads of a living process have had of the processors, where the kernel says so (Linux). Its CPU times
    are rounded down to 10 ms each, and would seem to grow by what was lost when its parent takes them over."""
    total = 0
    with suppress(OSError, ValueError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def kinds(*, kafka: str | None) -> list[Kind]:
    """The servers that can be started here.

    Peers are found by environment variables that hold the path of their command: `BENCH_LANGGRAPH` (`langgraph` of
    `pip install "langgraph-cli[inmem]"`) and `BENCH_AEGRA` (`aegra`, with `BENCH_AEGRA_DATABASE_URL`).
    """
    up = [str(Path(sys.executable).with_name("threadlog")), "up", "--port", "{port}", "--data-dir", "{data}"]
    found = [Kind("threadlog", up)]
    if kafka:
        found.append(Kind("threadlog on Kafka", up, {"KAFKA_BOOTSTRAP_SERVERS": kafka, **_TOPICS}))
    if command := os.environ.get("BENCH_LANGGRAPH"):
        quiet = {"LOG_LEVEL": "warning", "LANGSMITH_TRACING": "false"}
        for jobs in os.environ.get("BENCH_LANGGRAPH_JOBS", "10,100,1000").split(","):
            dev = [command, "dev", "--no-browser", "--no-reload", "--allow-blocking", "--port", "{port}"]
            found.append(Kind(f"langgraph dev, {jobs} workers", [*dev, "--n-jobs-per-worker", jobs], quiet))
    if command := os.environ.get("BENCH_AEGRA"):
        database = os.environ.get("BENCH_AEGRA_DATABASE_URL", "")
        serve = [command, "serve", "--host", "127.0.0.1", "--port", "{port}"]
        found.append(Kind("aegra", serve, {"DATABASE_URL": database, "AUTH_TYPE": "noop", "LOG_LEVEL": "WARNING"}))
    return found


@contextmanager
def broker(folder: Path, *, wanted: bool) -> Iterator[str | None]:
    """The bootstrap address of a Kafka of one node with its data below the folder; None if none is wanted."""
    if not wanted:
        yield None
        return
    from threadlog.deploy.kafka import KafkaCluster

    with KafkaCluster(nodes=1, directory=folder / "kafka") as cluster:
        yield cluster.bootstrap


@contextmanager
def running(kind: Kind, log: Path, app: Path = APP) -> Iterator[Running]:
    """Start a server in a copy of the app with fresh data, wait until it answers, and stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    copy = folder / "app"
    shutil.copytree(app, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if kind.label == "aegra":
        shutil.copy(copy / "langgraph.json", copy / "aegra.json")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [part.format(port=port, app=copy, data=folder / "data") for part in kind.command]
    environment = {name: value.replace("{port}", str(port)) for name, value in kind.environment.items()}
    started = time.perf_counter()
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=copy, env={**os.environ, **environment}, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield Running(kind.label, url, process.pid, time.perf_counter() - started, folder / "data")
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for child in children:
            if child.is_running():
                child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode} before it answered")
        for path in ("/ok", "/health"):
            try:
                with urllib.request.urlopen(url + path, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                continue
        time.sleep(0.05)
    raise RuntimeError(f"no answer from {url} within {START_SECONDS:.0f} s")
