"""Lease keeper: the parent renews leases of executors that live and cannot do so, and ends those that hang for good.

An executor renews its lease from a thread of its own. While a C call keeps the interpreter (a regular expression that
backtracks for seconds will do), that thread stands still like all others, and only the parent, whose interpreter is
another one, knows that the process lives. It renews for executors that give no sign of life
(`deploy.supervise.pulse`), and needs the database for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

import psutil

from threadlog.deploy.supervise.pulse import Pulse
from threadlog.engine.executor.leases import LEASE_SECONDS, RENEW_SECONDS

if TYPE_CHECKING:
    import asyncpg

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # while one is silent
_SILENT_SECONDS = 2.0  # signs come once a second, twice from an executor at work
_BUSY_SECONDS = 3.0
_WARN_SECONDS = 60.0
_KEEP_CONNECTION_SECONDS = 30.0  # without a silent executor for so long, the database is not needed for a while

_KEEP = "UPDATE executors SET lease_until = now() + make_interval(secs => $2) WHERE executor_id = ANY($1::text[])"
_END = "UPDATE executors SET lease_until = now() WHERE executor_id = $1"


class Watched(Protocol):
    """An executor process, as its parent knows it."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int: ...

    @property
    def running(self) -> bool: ...

    @property
    def pulse(self) -> Pulse | None: ...

    def signal(self, number: signal.Signals) -> None: ...


class LeaseKeeper:
    """Watches the executors of one parent.

    Args:
        dsn: the database of their leases.
        executors: the processes there are now.
        hang_seconds: how long a process may give no sign of life before it is killed; 0: as long as it likes.
        say: prints a line about the process of that name.
        busy: called while a process gives no sign of life for some seconds: others have to do what comes.
    """

    def __init__(
        self,
        dsn: str,
        executors: Callable[[], Iterable[Watched]],
        *,
        hang_seconds: float,
        say: Callable[[str, str], None],
        busy: Callable[[], None] = lambda: None,
    ) -> None:
        self._dsn, self._executors, self._hang, self._say = dsn, executors, hang_seconds, say
        self._busy = busy
        self._connection: asyncpg.Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._needed = self._renewed = 0.0  # when the database was last needed, and the leases last renewed
        self._warned: set[int] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = _LOOK_SECONDS
        try:
            while True:
                planned = time.monotonic() + pause
                await asyncio.sleep(pause)
                # Time in which this process did not run is not an executor's silence: what came meanwhile is unread.
                if (late := time.monotonic() - planned) > _LOOK_SECONDS:
                    for pulse in self._pulses():
                        pulse.heard_at += late
                pause = _LOOK_SECONDS
                try:
                    pause = await self._look()
                except Exception:  # whatever it is, the other leases have to be kept
                    logger.exception("the leases of executors could not be looked after")
        finally:
            self._disconnect()

    async def end(self, executor_id: str) -> None:
        """The dead hold no lease: tell the database now what it would notice in some seconds."""
        error = await self._tell(_END, executor_id)
        if error is not None:
            self._say("threadlog", f"could not end the lease of {executor_id} early ({error}); it runs out by itself")

    def _pulses(self) -> list[Pulse]:
        return [executor.pulse for executor in self._executors() if executor.pulse is not None]

    async def _look(self) -> float:
        """Keep the leases of those that are silent; returns in how many seconds to look again."""
        silent = []
        pause, begun = _SILENT_SECONDS, time.monotonic()
        for executor in self._executors():
            pulse = executor.pulse
            if pulse is None or pulse.executor_id is None or not executor.running:
                continue
            silent_seconds = begun - pulse.heard_at
            if silent_seconds < _SILENT_SECONDS:
                self._warned.discard(executor.pid)
                pause = min(pause, _SILENT_SECONDS - silent_seconds)
                continue
            pause = min(pause, _LOOK_SECONDS)
            if _is_stopped(executor.pid):  # by a signal, and who knows for how long: others take its runs
                pulse.heard_at = begun - _SILENT_SECONDS
                continue
            if self._hang and silent_seconds >= self._hang:
                self._say(
                    executor.name,
                    f"gave no sign of life for {self._hang:g} s (THREADLOG_HANG_SECONDS) and is killed; its runs go on "
                    "elsewhere",
                )
                executor.signal(signal.SIGKILL)
                continue
            if silent_seconds >= _WARN_SECONDS and executor.pid not in self._warned:
                self._warned.add(executor.pid)
                limit = f"after {self._hang:g} s it is killed" if self._hang else "nothing ends it"
                self._say(
                    executor.name,
                    f"has given no sign of life for {_WARN_SECONDS:g} s: user code keeps its interpreter or its event "
                    f"loop; {limit} (THREADLOG_HANG_SECONDS)",
                )
            silent.append(pulse.executor_id)
            if silent_seconds >= _BUSY_SECONDS:
                self._busy()
        now = time.monotonic()
        if silent and now - self._renewed >= RENEW_SECONDS:
            error = await self._tell(_KEEP, silent, LEASE_SECONDS)
            if error is None:
                self._renewed = now
            else:
                logging.getLogger(__name__).debug("leases could not be kept: %s", error)
        elif self._connection is not None and now - self._needed > _KEEP_CONNECTION_SECONDS:
            self._disconnect()
        return pause

    async def _tell(self, statement: str, *arguments: object) -> Exception | None:
        """Carry it out; why that could not be done."""
        import asyncpg  # 2 MB that most parents never need

        from threadlog.engine.postgres.errors import FAILED

        async with self._one_at_a_time:
            self._needed = time.monotonic()
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(
                        self._dsn,
                        timeout=LEASE_SECONDS / 2,
                        command_timeout=LEASE_SECONDS / 2,
                        server_settings={"application_name": "threadlog-leases", "synchronous_commit": "off"},
                    )
                await self._connection.execute(statement, *arguments)
            except FAILED as error:
                self._disconnect()
                return error
        return None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _is_stopped(pid: int) -> bool:
    """Whether a signal (SIGSTOP, Ctrl-Z) keeps the process from running. A debugger that holds it does not count."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
