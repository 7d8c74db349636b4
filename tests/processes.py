"""Processes under a test's control."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil

from tests.waiting import eventually_blocking


def suspend(pid: int) -> None:
    """Sends SIGSTOP and returns once every thread of the process has stopped.

    The signal alone is only a request: on a busy machine threads go on for tens of milliseconds, and serve meanwhile.
    """
    os.kill(pid, signal.SIGSTOP)
    eventually_blocking(lambda: _states(pid), lambda states: states <= {"T", "t", "Z", "X"}, says="it has stopped")


def _states(pid: int) -> set[str]:
    """The states of its threads, as Linux names them (T: stopped by a signal)."""
    if sys.platform != "linux":
        return {"T" if psutil.Process(pid).status() == psutil.STATUS_STOPPED else "R"}
    states = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            stat = (thread / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # the thread has ended
            continue
        states.add(stat.rpartition(")")[2].split()[0])
    return states
