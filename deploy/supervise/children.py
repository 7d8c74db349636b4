"""Process manager of a supervisor: starts children with its settings, prefixes their output, restarts those that die.

Where the system can do it they are forked from one process that has imported what they need
(`deploy.supervise.fork_server`), else each is a new interpreter.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from threadlog.deploy.lease_owner import OWNER
from threadlog.deploy.logs import PROCESS_NAME
from threadlog.deploy.parent import PARENT_PID
from threadlog.deploy.supervise.fork_client import ForkClient
from threadlog.deploy.supervise.fork_server import ForkedHere
from threadlog.deploy.supervise.leftovers import end_group
from threadlog.deploy.supervise.pulse import PULSE, Pulse

CANNOT_RUN = 78  # EX_CONFIG: the exit code of a process whose settings can't work, so that a restart won't help

_BACKOFF_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
_STABLE_SECONDS = 10.0  # who lived this long starts with the shortest back-off again
_LAST_WORDS_SECONDS = 1.0  # for the output of who has ended: what it has started itself may keep the pipe for ever
FORK_SERVER = "fork-server"


class Process(Protocol):
    """What is needed of a process, however it was started."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    def send_signal(self, signal: int) -> None: ...

    async def wait(self) -> int: ...


@dataclass
class Child:
    """One process and its successors. `owner` is the present one's name on its leases, `pulse` its signs of life."""

    name: str
    role: str
    arguments: tuple[str, ...]
    process: Process
    owner: str
    started: float
    failures: int = 0
    stopping: bool = False
    pulse: Pulse | None = field(default=None, repr=False)
    watcher: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class ChildProcesses:
    """Starts and restarts processes `threadlog <role>`.

    Args:
        env: the settings they read, beside this process's own environment.
        say: prints a line; the first argument is the process's name.
        died: called with the dead child before it is restarted (not when it was stopped).
        hopeless: called when a process says that it cannot run as it is set up; True: it is not restarted.
        failing: called with how a process has ended, and how many times in a row it did so soon after its start; True:
            it is not restarted.
        changed: called when a process was started or has ended.
        others: pids of children of this process that other code waits for.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        say: Callable[[str, str], None],
        died: Callable[[Child], None],
        hopeless: Callable[[Child], bool],
        failing: Callable[[Child, str, int], bool] = lambda child, how, failures: False,
        changed: Callable[[], None] = lambda: None,
        others: Callable[[], set[int]] = set,
    ) -> None:
        self._env = env
        self._say, self._died, self._hopeless, self._changed = say, died, hopeless, changed
        self._failing = failing
        self._closed = False
        self._life = uuid.uuid4().hex[:8]
        self._forks = ForkClient(lambda: {*others(), *(child.process.pid for child in self.all)})
        self._forked_roles: tuple[str, ...] = ()
        self._forwarding: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self.all: list[Child] = []

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def groups_ended(self) -> None:
        """Return when nothing is left of the process groups of those that have ended."""
        await asyncio.gather(*self._ending)

    def close(self) -> None:
        """Restart no process from now on."""
        self._closed = True

    def named(self, name: str) -> Child | None:
        """The present process of that name."""
        return next((c for c in self.all if c.name == name and c.running and not c.stopping), None)

    async def start_forking(self, server: ForkedHere, *roles: str) -> None:
        """From now on processes of these roles are forked, first by this server, if the system can do it."""
        if self._forks.possible():
            self._forked_roles = roles
            self._watch_over(FORK_SERVER, FORK_SERVER, roles, await self._forks.use(server), owner=FORK_SERVER)
        else:
            server.control.close()
            os.close(server.output)

    async def start(self, name: str, role: str, *arguments: str, failures: int = 0) -> Child:
        """Start a process; from then on it is restarted, with growing pauses, until `stop`."""
        # An engine that starts again under its predecessor's name has its partitions back at once. An executor must
        # not: runs claimed under that name would look like its own.
        life = uuid.uuid4().hex[:8] if role == "executor" else self._life
        owner = f"{socket.gethostname()}:{name}:{life}"
        env = {
            **os.environ,
            **self._env,
            OWNER: owner,
            PROCESS_NAME: name,
            PARENT_PID: str(os.getpid()),
            "PYTHONUNBUFFERED": "1",
        }
        pulse = Pulse() if role == "executor" else None
        try:
            to = pulse.to if pulse else None
            process = await self._fork(name, role, arguments, env, to) or await self._execute(role, arguments, env, to)
        except BaseException:
            if pulse:
                pulse.close()
            raise
        if pulse:
            pulse.read_on(asyncio.get_running_loop())
        return self._watch_over(name, role, arguments, process, owner=owner, failures=failures, pulse=pulse)

    def _watch_over(
        self,
        name: str,
        role: str,
        arguments: tuple[str, ...],
        process: Process,
        *,
        owner: str,
        failures: int = 0,
        pulse: Pulse | None = None,
    ) -> Child:
        child = Child(name, role, arguments, process, owner, time.monotonic(), failures, pulse=pulse)
        child.watcher = asyncio.create_task(self._watch(child), name=f"watch {name}")
        self.all.append(child)
        self._changed()
        return child

    async def _fork(
        self, name: str, role: str, arguments: tuple[str, ...], env: dict[str, str], pulse: int | None
    ) -> Process | None:
        if role not in self._forked_roles:
            return None
        process = await self._forks.fork(name, [role, *arguments], env, pulse)
        if process is None and not self._forks.connected and (server := self.named(FORK_SERVER)):
            server.signal(signal.SIGKILL)  # it hangs, if it lives; a new one is started
        return process

    async def _execute(self, role: str, arguments: tuple[str, ...], env: dict[str, str], pulse: int | None) -> Process:
        control = self._forks.control() if role == FORK_SERVER else None
        try:
            inherited = (control.fileno(),) if control else ()
            passed = inherited if pulse is None else (*inherited, pulse)
            if pulse is not None:
                env = {**env, PULSE: str(pulse)}
            with self._forks.expecting():
                # -P: a folder of the user's called `deploy` or `api` must not be taken for ours.
                return await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "threadlog.deploy.cli", role, *map(str, inherited), *arguments,
                    env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT, pass_fds=passed,
                    start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor, who stops them in order
                )  # fmt: skip
        finally:
            if control:
                control.close()

    def stop(self, child: Child) -> None:
        """Ask a process to end; it is not restarted."""
        child.stopping = True
        child.signal(signal.SIGTERM)

    async def stopped(self, children: list[Child], seconds: float) -> list[Child]:
        """Wait until these have ended; returns those still running after `seconds`."""
        watchers = [c.watcher for c in children if c.watcher is not None]
        if watchers:
            await asyncio.wait(watchers, timeout=seconds)
        return [c for c in children if c.running]

    async def kill(self, children: list[Child]) -> None:
        for child in children:
            child.stopping = True
            child.signal(signal.SIGKILL)
        await self.stopped(children, 5)

    async def _watch(self, child: Child) -> None:
        forwarding = asyncio.create_task(self._forward(child), name=f"output of {child.name}")
        self._forwarding.add(forwarding)
        forwarding.add_done_callback(self._forwarding.discard)
        code = await child.process.wait()
        self._later(end_group(child.process.pid))
        await asyncio.wait([forwarding], timeout=_LAST_WORDS_SECONDS)
        self.all.remove(child)
        if child.pulse is not None:
            child.pulse.close()
        if child.stopping or self._closed:
            self._changed()
            return
        self._died(child)
        if code == CANNOT_RUN and self._hopeless(child):
            self._changed()
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lived = time.monotonic() - child.started
        failures = 1 if lived >= _STABLE_SECONDS else child.failures + 1
        if self._failing(child, how, failures):
            self._changed()
            return
        pause = _BACKOFF_SECONDS[min(failures - 1, len(_BACKOFF_SECONDS) - 1)]
        self._say(child.name, f"{how}; starting it again" + (f" in {pause:g} s" if pause else ""))
        await asyncio.sleep(pause)
        if not self._closed:
            await self.start(child.name, child.role, *child.arguments, failures=failures)

    async def _forward(self, child: Child) -> None:
        assert child.process.stdout is not None
        rest = b""
        while chunk := await child.process.stdout.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._say(child.name, line.decode(errors="replace"))
        if rest:
            self._say(child.name, rest.decode(errors="replace"))
