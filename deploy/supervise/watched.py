"""Parent of `threadlog executor`: forks it, and keeps its lease while the executor cannot do so itself.

Under `threadlog up` the supervisor is that parent. Here the parent does nothing else: it hands on signals, ends with
the executor and with its exit code, and the executor ends with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass

from threadlog.deploy.parent import PARENT_PID, end_with_parent
from threadlog.deploy.supervise.leases import LeaseKeeper
from threadlog.deploy.supervise.pulse import PULSE, Pulse

logger = logging.getLogger(__name__)


@dataclass
class _Executor:
    pid: int
    pulse: Pulse
    name: str = "executor"
    running: bool = True

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def fork_executor(dsn: str, *, hang_seconds: float) -> int | None:
    """Fork from this process, which must have neither threads nor an event loop.

    Returns None in the child, which has to become the executor, and the executor's exit code in the parent (128 + N if
    signal N killed it), when it has ended.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pulse, parent = Pulse(), os.getpid()
    pid = os.fork()
    if pid == 0:
        os.setsid()  # a Ctrl-C in the terminal reaches the parent, which hands it on
        os.environ[PARENT_PID] = str(parent)
        end_with_parent()
        os.set_inheritable(pulse.to, True)
        os.environ[PULSE] = str(pulse.to)
        return None
    return asyncio.run(_watch(_Executor(pid, pulse), dsn, hang_seconds))


async def _watch(executor: _Executor, dsn: str, hang_seconds: float) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    status = 0

    def collect() -> None:
        nonlocal status
        if executor.running:
            pid, found = os.waitpid(executor.pid, os.WNOHANG)
            if pid:
                executor.running, status = False, found
                ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, executor.signal, number)
    loop.add_signal_handler(signal.SIGCHLD, collect)
    executor.pulse.read_on(loop)
    collect()  # it may have ended before anybody listened
    leases = LeaseKeeper(dsn, lambda: [executor], hang_seconds=hang_seconds, say=_say)
    keeping = asyncio.create_task(leases.run())
    await ended.wait()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    code = os.waitstatus_to_exitcode(status)
    if code < 0 and executor.pulse.executor_id is not None:
        await leases.end(executor.pulse.executor_id)
    executor.pulse.close()
    return code if code >= 0 else 128 - code


def _say(name: str, line: str) -> None:
    logger.warning("%s %s", name, line)
