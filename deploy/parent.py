"""Process lifetime: children that end with their parent, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

PARENT_PID = "THREADLOG_PARENT_PID"
# What an executor sends its supervisor when it has more to do than it should do alone. A parent that does not
# expect it is not harmed: ignoring it is the default.
MORE_EXECUTORS = signal.SIGURG
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def parent_death_signal(how: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` after which the kernel sends `how` when the parent thread ends; None where it cannot (not Linux).

    To be used from the parent's main thread: Linux watches the thread that forked, not the process.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: nothing may be allocated after it
    parent = os.getpid()

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it ended before we asked

    return ask_the_kernel


def end_with_parent() -> None:
    """Kill this process as soon as the parent named in the environment is gone (no-op without one).

    A killed supervisor must leave no engine behind that still owns partitions, nor executors that still claim runs: the
    next `threadlog up` would share its machine and its database with them.
    """
    named = os.environ.get(PARENT_PID)
    if not named:
        return
    parent = int(named)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def ask_for_more_executors() -> None:
    """Tell the supervisor that there is work for more of us (no-op without one). From any thread."""
    parent = os.environ.get(PARENT_PID)
    if parent and os.getppid() == int(parent):
        os.kill(int(parent), MORE_EXECUTORS)


def adopt_orphans() -> bool:
    """From now on, this process is the parent of descendants whose own parent has ended; False where it cannot be.

    It then has to collect their exit codes, of those it never heard of too.
    """
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
