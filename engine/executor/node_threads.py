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

    attempt: GivenUp
    place: list[int]  # the thread it runs in, once it does

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if not cancelled and not self.done():
            self.attempt.add(self)
        return cancelled

    def stack(self) -> str:
        """Where its thread stands."""
        frame = sys._current_frames().get(self.place[0]) if self.place else None
        return "" if frame is None else "".join(traceback.format_stack(frame))


def _run(place: list[int], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    place.append(threading.get_ident())
    return fn(*args, **kwargs)


class NodeThreads(concurrent.futures.ThreadPoolExecutor):
    """The event loop's default executor."""

    def __init__(self, size: int) -> None:
        super().__init__(max_workers=size, thread_name_prefix=NODE_THREADS)
        self._left_behind: set[concurrent.futures.Future[Any]] = set()

    def leave_behind(self, job: Job) -> None:
        """Its attempt waits for it no longer: what follows on the thread begins beside it."""
        self._left_behind.add(job)
        job.add_done_callback(self._left_behind.discard)  # at once, if it has ended meanwhile

    @property
    def left_behind(self) -> int:
        """How many of those still run. From any thread."""
        return len(self._left_behind)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        attempt = _attempt.get()
        if attempt is None:
            return super().submit(fn, *args, **kwargs)
        place: list[int] = []
        job = super().submit(_run, place, fn, args, kwargs)
        job.__class__ = Job  # the pool makes its futures itself; a second one around each would cost as much again
        assert isinstance(job, Job)
        job.attempt, job.place = attempt, place
        return job
