"""Supervisor, `threadlog up`: starts, watches, restarts and stops the processes of a whole server on this machine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from threadlog.deploy import extras
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.logs import colored, log_line_of
from threadlog.deploy.parent import MORE_EXECUTORS
from threadlog.deploy.postgres import EmbeddedPostgres, PostgresFailed
from threadlog.deploy.settings import Settings
from threadlog.deploy.supervise import announce
from threadlog.deploy.supervise.children import FORK_SERVER, Child, ChildProcesses
from threadlog.deploy.supervise.endings import ended
from threadlog.deploy.supervise.fork_server import ForkedHere
from threadlog.deploy.supervise.leases import LeaseKeeper
from threadlog.deploy.supervise.leftovers import end_descendants
from threadlog.deploy.supervise.reachable import (
    check_port,
    free_port,
    get,
    is_listening,
    listens,
    what_is_missing,
)
from threadlog.engine.user_code.langgraph_json import LanggraphJson
from threadlog.engine.user_code.langgraph_json import load as load_langgraph_json

log = logging.getLogger("threadlog.up")

STOP_SECONDS = 5.0  # for runs to reach a superstep where they are handed over, unless BG_JOB_SHUTDOWN_… is set
_SERVER_STOP_SECONDS = 8.0
_SERVICE_SECONDS = 5.0  # how long a given Postgres or Kafka may take to answer
_CONNECTIONS = 60  # to Postgres: 30 of the server at most, those of other commands, of people and their tools
_CONNECTIONS_OF_EXECUTOR = 20  # at most; each one allowed costs 40 kB, used or not
_TRIES = 5  # of a process that ends before the server was ready
_SLOW_SECONDS = 3.0  # from then on a start is reported on


class Supervisor:
    """One `threadlog up`. `run` returns the exit code, after a signal to stop."""

    def __init__(
        self,
        settings: Settings,
        app: LanggraphJson,
        *,
        fork_server: ForkedHere | None = None,
        out: Callable[[str], None] = print,
    ) -> None:
        self._out = out
        self._fork_server = fork_server
        self._began = psutil.Process().create_time()  # what a user waits for includes our own imports
        self._stop = asyncio.Event()
        self._impatient = asyncio.Event()
        self._failed: str | None = None
        self._ready = False
        self._app, self._given = app, settings
        port = settings.port or free_port(settings.host)
        self._data_dir = settings.data_dir.absolute()
        self._postgres = None
        if not settings.database_uri:
            connections = str(_CONNECTIONS + _CONNECTIONS_OF_EXECUTOR * settings.most_executors)
            self._postgres = EmbeddedPostgres(self._data_dir / "postgres", settings={"max_connections": connections})
        self._settings = settings.model_copy(
            update={
                "database_uri": self._postgres.uri if self._postgres else settings.database_uri,
                "config": app.path,
                "data_dir": self._data_dir,
                "port": port,
                "health_port": None,  # for processes started one by one: here the api reports on all
                "log_color": colored(settings, sys.stdout),  # where their lines go in the end
                "link": _link_in(self._data_dir) if self._postgres and not settings.kafka_bootstrap_servers else None,
            }
        )
        self._drain_seconds = (
            settings.bg_job_shutdown_grace_period_secs
            if "bg_job_shutdown_grace_period_secs" in settings.model_fields_set
            else STOP_SECONDS
        )
        self._children = ChildProcesses(
            {
                **self._settings.to_env(),
                "THREADLOG_HEALTH_PORT": "",
                "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": str(self._drain_seconds),
            },
            say=self._say,
            died=self._on_death,
            hopeless=self._on_hopeless,
            failing=self._on_failing,
            changed=self._write_status,
            others=lambda: {pid} if self._postgres and (pid := self._postgres.pid) else set(),
        )
        assert self._settings.database_uri is not None
        self._leases = LeaseKeeper(
            self._settings.database_uri,
            lambda: [child for child in self._children.all if child.role == "executor"],
            hang_seconds=settings.hang_seconds,
            say=self._say,
            busy=self._on_work_for_more,
        )
        self._executors = [f"executor-{number}" for number in range(1, settings.most_executors + 1)]
        # How many there are to be: as many as asked for, else one until there is work for more.
        self._staff = len(self._executors) if settings.executors is not None else 1
        self._started: set[str] = set()
        self._pending: set[asyncio.Task[None]] = set()
        self._watchers: list[asyncio.Task[None]] = []
        self._keeping: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._settings.host, self._settings.host)
        return f"http://{host}:{self._settings.port}"

    async def run(self) -> int:
        """Start everything, report when it is ready, wait for SIGINT or SIGTERM, stop everything.

        Raises:
            CannotRun, DatabaseAway, PostgresFailed: before anything was served.
        """
        extras.require(self._given)
        check_port(self._settings.host, self._settings.port)
        await self._check_services()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(MORE_EXECUTORS, self._on_work_for_more)
        try:
            await self._start()
            await self._stop.wait()
        finally:
            for watcher in self._watchers:
                watcher.cancel()
            await asyncio.gather(*self._watchers, return_exceptions=True)
            await self._shut_down()
        if self._failed:
            raise CannotRun(self._failed)
        return 0

    # Start

    async def _start(self) -> None:
        for line in announce.lines(self._settings, self._app, data_dir=str(self._data_dir) if self._postgres else None):
            self._out(line)
        # The processes start while the database does: they need a second for their imports, and wait for it.
        if self._fork_server:
            await self._children.start_forking(self._fork_server, *forked_roles(self._settings))
        if self._settings.kafka_bootstrap_servers:
            await self._children.start("api", "api")
            await self._children.start("engine", "engine")
        else:
            await self._children.start("server", "api-and-engine", *(["--alone"] if self._postgres else []))
        if self._executors:
            await self._start_executor(self._executors[0])
            self._keeping = asyncio.create_task(self._leases.run(), name="leases")
        if self._settings.reload:
            self._watchers.append(asyncio.create_task(self._watch_files()))
        if self._postgres:
            self._postgres.start(say=lambda step: self._out(f"database    {step}"))
            self._watchers.append(asyncio.create_task(self._watch_postgres()))
        # One executor is enough to be ready: the others would only take the processor from it meanwhile.
        await self._until_ready()
        await self._start_executors()
        if self._settings.derive and self._ready:
            await self._children.start("derive", "derive")

    async def _start_executors(self) -> None:
        """Those that are to be there and are not (those that died are started again by themselves)."""
        for name in self._executors[: self._staff]:
            if self._ready and not self._stop.is_set() and name not in self._started:
                await self._start_executor(name)

    async def _start_executor(self, name: str) -> None:
        self._started.add(name)
        await self._children.start(name, "executor")

    async def _check_services(self) -> None:
        """What is not ours to start has to be there: better to say so now than after a minute of waiting."""
        settings = self._settings
        if self._postgres is None:
            from threadlog.deploy.compose.storage import database_ready  # 9 MB that nothing else here needs

            assert settings.database_uri is not None
            await database_ready(settings.database_uri, patience_seconds=_SERVICE_SECONDS)
        if settings.kafka_bootstrap_servers:
            addresses = settings.kafka_bootstrap_servers.split(",")
            if not any(
                await asyncio.gather(*(is_listening(address.strip(), _SERVICE_SECONDS) for address in addresses))
            ):
                raise CannotRun(
                    f"no Kafka broker answers at {settings.kafka_bootstrap_servers}: start it, or correct "
                    "KAFKA_BOOTSTRAP_SERVERS"
                )

    async def _until_ready(self) -> None:
        reported = time.monotonic()
        while not self._stop.is_set():
            status, body = await get(self._settings.host, self._settings.port, "/ok")
            if status == 200 and self._is_ours():
                self._ready = True
                self._out(announce.ready(self.url, self._app, time.time() - self._began))
                if warning := announce.warning_of_openness(self._settings):
                    self._out(f"WARNING     {warning}")
                return
            if time.monotonic() - reported > _SLOW_SECONDS:
                reported = time.monotonic()
                waited = time.time() - self._began
                self._out(f"starting    {what_is_missing(status, body)} ({waited:.0f} s)")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.05)

    def _is_ours(self) -> bool:
        """Whether what answers at the port is a child of this process: another server may have taken the port since
        it was found free."""
        pids = [child.pid for child in self._children.all if child.role in ("api", "api-and-engine")]
        return any(listens(pid, self._settings.port) for pid in pids)

    # While it runs

    def _say(self, name: str, line: str) -> None:
        if self._settings.log_json:
            log_line_of(name, line)
        else:
            self._out(f"{name:<11} {line}")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._impatient.set()
        self._stop.set()

    def _on_death(self, child: Child) -> None:
        if self._stop.is_set() or child.role != "executor":
            return
        lease = child.pulse.executor_id if child.pulse else None
        self._later(self._leases.end(lease or child.owner))
        self._on_work_for_more()  # its runs need an executor, and may end its successor, too

    def _on_work_for_more(self) -> None:
        """An executor has more to do than it should do alone: all that there may be are started."""
        if self._staff < len(self._executors):
            self._staff = len(self._executors)
            self._later(self._start_executors())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def _on_hopeless(self, child: Child) -> bool:
        """A process says that it cannot work as it is set up. With --reload the next change may mend it."""
        if self._settings.reload and child.role == "executor":
            self._say(child.name, "waits for a change of the application's files")
            return True
        if not self._stop.is_set():
            self._failed = f"{child.name} cannot run; its last lines say why"
            self._stop.set()
        return True

    def _on_failing(self, child: Child, how: str, failures: int) -> bool:
        """A process that ends again and again while the server starts will not get it to start."""
        if self._ready or failures < _TRIES or child.role == FORK_SERVER or self._stop.is_set():
            return False
        if self._settings.reload and child.role == "executor":
            return False  # the next change of a file may mend it
        self._failed = (
            f"{child.name} {how}, {failures} times in a row, before the server was ready. Its last lines say why; "
            "without any, something the application imports ends the process. `threadlog doctor` looks at each part."
        )
        self._stop.set()
        return True

    async def _watch_postgres(self) -> None:
        postgres = self._postgres
        assert postgres is not None
        while True:
            if (pid := postgres.pid) is not None:
                await ended(pid, lambda: postgres.pid is not None)
            self._say("database", "the embedded Postgres died; starting it again")
            try:
                postgres.start(say=lambda step: self._say("database", step))
            except PostgresFailed as error:
                self._failed = str(error)
                self._stop.set()
                return

    async def _watch_files(self) -> None:
        from watchfiles import Change, DefaultFilter, awatch

        usual = DefaultFilter(ignore_paths=[self._data_dir])

        def is_source(change: Change, path: str) -> bool:
            return usual(change, path) and Path(path).suffix in {".py", ".json", ".env", ".toml"}

        async for changes in awatch(self._app.folder, *self._app.dependency_dirs, watch_filter=is_source, step=100):
            names = sorted({Path(path).name for _, path in changes})
            self._say("threadlog", f"changed: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}; loading it")
            await self._reload()

    async def _reload(self) -> None:
        try:
            self._app = load_langgraph_json(self._app.path)
        except Exception as error:
            self._say("threadlog", f"{error} The graphs loaded before stay.")
            return
        for notice in self._app.notices:
            self._say("notice", notice)
        for name in self._executors[: self._staff]:
            old = self._children.named(name)
            await self._start_executor(name)
            if old is not None:
                self._children.stop(old)  # finishes the step it is in, then hands its runs to the new one

    def _write_status(self) -> None:
        """Write what runs here, for `threadlog doctor` and for tools that watch or kill processes."""
        path = self._data_dir / "processes.json"
        processes = {c.name: c.process.pid for c in self._children.all if c.running and not c.stopping}
        status = {"supervisor": os.getpid(), "url": self.url, "processes": processes}
        fresh = path.with_suffix(".new")
        with suppress(FileNotFoundError):  # the folder has been deleted, which must not keep it from stopping
            fresh.write_text(json.dumps(status, indent=1))
            fresh.replace(path)

    # Stop

    async def _shut_down(self) -> None:
        self._stop.set()
        self._children.close()
        if self._ready:
            self._out("stopping    handing over the runs in flight")
        executors = [c for c in self._children.all if c.role == "executor"]
        servers = [c for c in self._children.all if c.role != "executor"]
        for child in executors:
            self._children.stop(child)
        # Beyond the grace period an executor stops its runs where they are and hands them back: some seconds more.
        late = await self._patiently(executors, self._drain_seconds + 8)
        await self._children.kill(late)
        if self._keeping is not None:
            self._keeping.cancel()
        for child in servers:
            self._children.stop(child)
        await self._children.kill(await self._patiently(servers, _SERVER_STOP_SECONDS))
        await self._children.kill(list(self._children.all))
        for task in self._pending:
            task.cancel()
        await self._children.groups_ended()
        await end_descendants({self._postgres.pid} if self._postgres and self._postgres.pid else set())
        if self._postgres:
            self._postgres.stop()
        with suppress(FileNotFoundError):
            (self._data_dir / "processes.json").unlink()
        if self._ready:
            self._out("stopped")

    async def _patiently(self, children: list[Child], seconds: float) -> list[Child]:
        """Wait for these to end; a second Ctrl-C ends the waiting."""
        waiting = asyncio.create_task(self._children.stopped(children, seconds))
        hurry = asyncio.create_task(self._impatient.wait())
        await asyncio.wait([waiting, hurry], return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not waiting.done():
            waiting.cancel()
        return [c for c in children if c.running]


def _link_in(data_dir: Path) -> Path:
    """Where executors find the engine. The path of a socket has 107 bytes at most."""
    path = data_dir / "link.sock"
    if len(os.fsencode(path)) <= 100:
        return path
    name = hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"threadlog-{name}.sock"


def forked_roles(settings: Settings) -> tuple[str, ...]:
    """The roles of the processes that a fork server makes under these settings, in the order of their start."""
    return (*(("api", "engine") if settings.kafka_bootstrap_servers else ("api-and-engine",)), "executor")


async def up(settings: Settings, app: LanggraphJson, fork_server: ForkedHere | None = None) -> int:
    """Run a supervisor until a signal stops it; returns the exit code."""
    out = _log_line if settings.log_json else _print_line
    return await Supervisor(settings, app, fork_server=fork_server, out=out).run()


def _log_line(line: str) -> None:
    level = logging.WARNING if line.startswith("WARNING") else logging.INFO
    log.log(level, " ".join(line.split()))


def _print_line(line: str) -> None:
    with suppress(BrokenPipeError):  # the reader of the output has gone; the server goes on
        print(line, flush=True)
