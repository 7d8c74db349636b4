"""The executor's lease, renewed from a thread of its own: user code that blocks the loop does not lose it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from threadlog.engine.executor.leases import LEASE_SECONDS, RENEW_SECONDS
from threadlog.engine.postgres.connection import PinnedConnection
from threadlog.engine.postgres.errors import FAILED

logger = logging.getLogger(__name__)

BLOCKED_SECONDS = 0.3
# How often the loop is asked for a sign of life when it has had no work for a while.
IDLE_SECONDS = 1.0
CALM_SECONDS = 3.0

_REGISTER = """
WITH long_dead AS (
    DELETE FROM executors WHERE lease_until < now() - interval '1 hour' AND executor_id <> $1 RETURNING executor_id
), forgotten AS (
    DELETE FROM executors_here WHERE executor_id IN (SELECT executor_id FROM long_dead)
)
INSERT INTO executors (executor_id, lease_until, slots, graphs)
VALUES ($1, now() + make_interval(secs => $2), $3, $4)
ON CONFLICT (executor_id) DO UPDATE SET lease_until = excluded.lease_until, slots = excluded.slots,
                                        graphs = excluded.graphs
"""

# A row that expired while the database was away is taken up again: which of the runs are still ours, the queue says.
_RENEW = """
UPDATE executors AS e SET lease_until = now() + make_interval(secs => $2), left_behind = $3
FROM executors AS old
WHERE e.executor_id = $1 AND old.executor_id = e.executor_id
RETURNING old.lease_until < now()
"""

_RETIRE = """
WITH gone AS (DELETE FROM executors_here WHERE executor_id = $1)
DELETE FROM executors WHERE executor_id = $1
"""


class Heartbeat:
    """Keeps the row of one executor in `executors` alive.

    `lost()` is called on the loop that started it when the row has gone (somebody declared this executor dead);
    `late()` when the lease ran out and was taken up again: some of its runs may belong to others by now. `blocked()` is
    called from the heartbeat's own thread while that loop does not answer for `BLOCKED_SECONDS`, `alive(executor_id)`
    on the loop about twice a second while it does, once a second when there has been no work for `CALM_SECONDS`.
    `working()`, called from the heartbeat's thread: whether there is. `left_behind()`, called from there too, goes into
    the row: nodes that still run in threads although their runs have ended.
    """

    def __init__(
        self,
        dsn: str,
        executor_id: str,
        *,
        slots: int,
        graphs: Sequence[str],
        lost: Callable[[], None],
        late: Callable[[], None],
        blocked: Callable[[], None],
        left_behind: Callable[[], int],
        working: Callable[[], bool] = lambda: True,
        alive: Callable[[str], None] | None = None,
        lease_seconds: float = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._dsn, self.executor_id = dsn, executor_id
        self._slots, self._graphs = slots, list(graphs)
        self._lost, self._late, self._blocked, self._alive = lost, late, blocked, alive
        self._left_behind, self._working = left_behind, working
        self._lease, self._renew = lease_seconds, renew_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] = lambda: None
        self._stir: Callable[[], None] = lambda: None

    async def start(self, connection: asyncpg.Connection) -> None:
        """Registered when this returns."""
        await connection.execute(_REGISTER, self.executor_id, self._lease, self._slots, self._graphs)
        self._loop = asyncio.get_running_loop()
        if self._alive is not None:
            self._alive(self.executor_id)
        started = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(started,), name="heartbeat", daemon=True)
        self._thread.start()
        await self._loop.run_in_executor(None, started.wait)

    def work_begins(self) -> None:
        """On the loop that started it: the loop may be blocked from now on."""
        if self._calm:
            self._calm = False
            if self._alive is not None:
                self._alive(self.executor_id)
            self._stir()

    async def stop(self, *, retire: bool = True) -> None:
        """Stop renewing; with `retire` take the row out, so that nobody waits for the lease to pass."""
        self._retire = retire
        self._stop()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 5.0)

    # --- in the thread --------------------------------------------------------------------------------

    _retire = False
    _answered = True
    _answers = 0
    _calm = False  # without work for a while

    def _main(self, started: threading.Event) -> None:
        with asyncio.Runner() as runner:  # not `asyncio.run`, which an application may have replaced (nest_asyncio)
            runner.run(self._live(started))

    async def _live(self, started: threading.Event) -> None:
        watching = asyncio.create_task(self._watch())
        await self._beat(started)
        watching.cancel()

    async def _watch(self) -> None:
        loop, stirred = asyncio.get_running_loop(), asyncio.Event()

        def stir() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stirred.set)

        self._stir = stir
        worked_at = loop.time()
        while True:
            if self._working():
                worked_at = loop.time()
            self._calm = loop.time() - worked_at >= CALM_SECONDS
            if self._answered:
                self._answered = False
                self._tell(self._answer)
            else:
                self._blocked()
            if not self._calm:
                await asyncio.sleep(BLOCKED_SECONDS)
                continue
            stirred.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await stirred.wait()
                    worked_at = loop.time()

    def _answer(self) -> None:
        self._answered = True
        self._answers += 1
        if self._alive is not None and (self._calm or self._answers % 2):
            self._alive(self.executor_id)

    async def _beat(self, started: threading.Event) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)

        self._stop = end
        started.set()
        pinned = PinnedConnection(self._connect)
        while not stop.is_set():
            try:
                async with pinned.use() as connection:
                    was_late = await connection.fetchval(_RENEW, self.executor_id, self._lease, self._left_behind())
                if was_late is None:
                    self._tell(self._lost)
                    break
                if was_late:
                    self._tell(self._late)
                pause = self._renew
            except FAILED as error:
                logger.debug("the lease could not be renewed: %s", error)
                pause = self._renew / 5
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue
        if self._retire and pinned.is_open:
            try:
                async with pinned.use() as connection:
                    await connection.execute(_RETIRE, self.executor_id)
            except FAILED as error:
                logger.debug("the executor's row stays until its lease has passed: %s", error)
        await pinned.aclose()

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            timeout=self._lease / 2,
            command_timeout=self._lease / 2,
            server_settings={"application_name": "threadlog-heartbeat", "synchronous_commit": "off"},
        )

    def _tell(self, what: Callable[[], Any]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what)
