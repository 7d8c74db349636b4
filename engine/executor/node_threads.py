"""Thread pool of synchronous nodes that knows which jobs an attempt has given up while they ran.

A thread of the process can't be stopped from outside: cancelling a node that runs in one only ends the waiting for it.
So an attempt waits for the job itself before it lets go of its slot. What nobody gave up (work that the application
started in the background and lets run on) is not waited for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

NODE_THREADS = "node"
"""What the names of the threads begin with."""


class GivenUp:
    """The jobs of one attempt that were cancelled while they ran."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def track(self) -> None:
        """Whatever the current task, and the tasks it makes, submit from now on is of this attempt."""
        _attempt.set(self)

    def add(self, job: Job) -> None:
        self._jobs.append(job)

    def running(self) -> list[Job]:
        self._jobs = [job for job in self._jobs if not job.done()]
        return self._jobs

    async def ended(self, seconds: float) -> bool:
        """Wait for them, no longer than this; whether all have ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while running := self.running():
            if (left := deadline - loop.time()) <= 0:
                return False
            await asyncio.wait([asyncio.wrap_future(job) for job in running], timeout=left)
        return True


_attempt: ContextVar[GivenUp | None] = ContextVar("attempt", default=None)


class Job(concurrent.futures.Future[Any]):
    """A call in a node thread; cancelled while it runs, it tells its attempt."""

    def __init__(self, work: Callable[[], Any], attempt: GivenUp) -> None:
        super().__init__()
        self._work: Callable[[], Any] | None = work
        self._attempt = attempt
        self._thread: int | None = None

    def run(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        work, self._work = self._work, None
        self._thread = threading.get_ident()
        assert work is not None
        try:
            result = work()
        except BaseException as error:
            self.set_exception(error)
            del self, work  # the error's traceback would keep them, and they the error
        else:
            self.set_result(result)

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if not cancelled and not self.done():
            self._attempt.add(self)
        return cancelled

    def stack(self) -> str:
        """Where its thread stands."""
        frame = sys._current_frames().get(self._thread or 0)
        return "" if frame is None else "".join(traceback.format_stack(frame))


class NodeThreads(concurrent.futures.ThreadPoolExecutor):
    """The event loop's default executor."""

    def __init__(self, size: int) -> None:
        super().__init__(max_workers=size, thread_name_prefix=NODE_THREADS)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        attempt = _attempt.get()
        if attempt is None:
            return super().submit(fn, *args, **kwargs)
        job = Job(partial(fn, *args, **kwargs), attempt)
        super().submit(job.run)
        return job
