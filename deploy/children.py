"""The processes of a supervisor: started with its settings, their output prefixed, restarted when they die."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.logs import PROCESS_NAME
from deploy.owner import OWNER
from deploy.parent import PARENT_PID

CANNOT_RUN = 78  # EX_CONFIG: the exit code of a process whose settings can't work, so that a restart won't help

_BACKOFF_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
_STABLE_SECONDS = 10.0  # who lived this long starts with the shortest back-off again


@dataclass
class Child:
    """One process and its successors. `owner` is the present one's name on its leases."""

    name: str
    role: str
    arguments: tuple[str, ...]
    process: asyncio.subprocess.Process
    owner: str
    started: float
    failures: int = 0
    stopping: bool = False
    watcher: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Children:
    """Starts and restarts processes `threadlog <role>`.

    Args:
        env: the settings they read, beside this process's own environment.
        say: prints a line; the first argument is the process's name.
        died: called with the dead child before it is restarted (not when it was told to stop).
        hopeless: called when a process says that it cannot run as it is set up; True: it is not restarted.
        changed: called when a process was started or has ended.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        say: Callable[[str, str], None],
        died: Callable[[Child], None],
        hopeless: Callable[[Child], bool],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._env = env
        self._say, self._died, self._hopeless, self._changed = say, died, hopeless, changed
        self._closed = False
        self._life = uuid.uuid4().hex[:8]
        self.all: list[Child] = []

    def close(self) -> None:
        """From now on nobody is started again."""
        self._closed = True

    def named(self, name: str) -> Child | None:
        """The present process of that name."""
        return next((c for c in self.all if c.name == name and c.running and not c.stopping), None)

    async def start(self, name: str, role: str, *arguments: str, failures: int = 0) -> Child:
        """Start a process; from then on it is restarted, with growing pauses, until it is told to stop."""
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
        # -P: a folder of the user's called `deploy` or `api` must not be taken for ours.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "deploy.cli", role, *arguments,
            env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor, who stops them in order
        )  # fmt: skip
        child = Child(name, role, arguments, process, owner, time.monotonic(), failures)
        child.watcher = asyncio.create_task(self._watch(child), name=f"watch {name}")
        self.all.append(child)
        self._changed()
        return child

    def stop(self, child: Child) -> None:
        """Ask a process to end; it is not restarted."""
        child.stopping = True
        child.signal(signal.SIGTERM)

    async def stopped(self, children: list[Child], seconds: float) -> list[Child]:
        """Wait until these have ended; answers those still running after `seconds`."""
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
        await self._forward(child)
        code = await child.process.wait()
        self.all.remove(child)
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
