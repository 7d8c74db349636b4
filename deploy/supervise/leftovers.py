"""Clean-up of processes that user code left running: they end with the executor, at the latest with `threadlog up`.

An executor leads a process group, which is ended with it. What has left the group (`setsid`, as daemons do) stays a
descendant of the supervisor, which adopts orphans, and is ended with that. Out of reach is what another program started
on behalf of user code (a container, a unit of the service manager) and, when the supervisor itself is killed, what has
left the session of the fork server (`deploy.supervise.fork_server`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

_TERM_SECONDS = 2.0  # between SIGTERM and SIGKILL


async def end_group(leader: int) -> None:
    """End what is left of the process group that `leader`, which has just ended, has led."""
    await _end(lambda number: _signal_group(leader, number))


async def end_descendants(spare: set[int]) -> None:
    """End every descendant of this process but these, their descendants, and what shares our session.

    What shares it was not started by us: a script may have started others before it became `threadlog up`.
    """
    await _end(lambda number: _signal_descendants(spare, number))


def end_session() -> None:
    """Kill every other process of this process' session."""
    me, session = os.getpid(), os.getsid(0)
    for pid in psutil.pids():
        with suppress(OSError):
            if pid != me and os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


async def _end(send: Callable[[int], bool]) -> None:
    """`send(number)` returns whether there is anything left to end."""
    if not send(signal.SIGTERM):
        return
    deadline = time.monotonic() + _TERM_SECONDS
    while send(0):
        if time.monotonic() > deadline:
            send(signal.SIGKILL)
            return
        await asyncio.sleep(0.02)


def _signal_group(leader: int, number: int) -> bool:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _signal_descendants(spare: set[int], number: int) -> bool:
    left, session, me = False, os.getsid(0), psutil.Process()
    spared = set(spare)
    for child in me.children():
        if child.pid in spare:
            with suppress(psutil.Error):
                spared.update(descendant.pid for descendant in child.children(recursive=True))
    for process in me.children(recursive=True):
        with suppress(psutil.Error, OSError):
            if process.pid in spared or os.getsid(process.pid) == session:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                left = True
                process.send_signal(number)
    return left
