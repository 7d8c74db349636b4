"""Heartbeat pipe: an executor's event loop writes the name of its lease into a pipe, and its parent reads there.

What user code does to the executor's interpreter (a C call that keeps the GIL) or to its event loop stops the signs,
not the process: how long that may last is for the parent to say (`deploy.supervise.leases`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

PULSE = "THREADLOG_PULSE"  # the descriptor to write to, in the environment of a process whose parent reads


class Pulse:
    """The parent's end. `executor_id`: what the lease is called, None before the executor holds one."""

    def __init__(self) -> None:
        """Raises OSError when there are no descriptors left."""
        self._of, self.to = os.pipe()
        os.set_blocking(self._of, False)
        os.set_blocking(self.to, False)
        self.executor_id: str | None = None
        self.heard_at = time.monotonic()  # the last sign; later by the time in which the parent could not read
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest = b""

    def read_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """The process has begun: the other end is its own, and what it writes is read from now on."""
        os.close(self.to)
        self.to = -1
        self._loop, self.heard_at = loop, time.monotonic()
        loop.add_reader(self._of, self._read)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._of)
        for descriptor in (self._of, self.to):
            if descriptor >= 0:
                os.close(descriptor)
        self._of = self.to = -1

    def _read(self) -> None:
        try:
            chunk = os.read(self._of, 65_536)
        except BlockingIOError:
            return
        if not chunk and self._loop is not None:  # it has ended
            self._loop.remove_reader(self._of)
            return
        *names, self._rest = (self._rest + chunk).split(b"\n")
        if names:
            self.executor_id = names[-1].decode()
            self.heard_at = time.monotonic()


def sign_of_life() -> Callable[[str], None] | None:
    """The executor's end: tells the parent that this process lives, and under which id. None without such a parent."""
    named = os.environ.pop(PULSE, None)  # children of ours have other parents
    if named is None:
        return None
    descriptor = int(named)
    os.set_inheritable(descriptor, False)

    def tell(executor_id: str) -> None:
        with suppress(OSError):  # the pipe is full: the parent has not looked for minutes
            os.write(descriptor, f"{executor_id}\n".encode())

    return tell
