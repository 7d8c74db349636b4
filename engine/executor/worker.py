"""The executor at work: claims runs, works on many at once, and hands them on when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from typing import Any

from threadlog.engine.backoff import Backoff
from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.encryption.connection import opening
from threadlog.engine.encryption.fields import FieldSealer
from threadlog.engine.executor import errors
from threadlog.engine.executor.admission import AT_MOST, AdmissionControl
from threadlog.engine.executor.checkpointer.retrying_pool import RetryingPool
from threadlog.engine.executor.garbage import Collector
from threadlog.engine.executor.graphs.loader import Graphs, LoadedGraph
from threadlog.engine.executor.graphs.registration import announce_assistants, announce_graphs
from threadlog.engine.executor.heartbeat import Heartbeat
from threadlog.engine.executor.node_threads import NodeThreads
from threadlog.engine.executor.options import ExecutorOptions, new_executor_id
from threadlog.engine.executor.outcomes import Outcomes
from threadlog.engine.executor.poll import PollInterval
from threadlog.engine.executor.queue import Claim, RunQueue, connect, queue_listener
from threadlog.engine.executor.reporting.appender import BatchingAppender
from threadlog.engine.executor.run import message_ids
from threadlog.engine.executor.run.attempt import RunAttempt
from threadlog.engine.executor.run.config import ServerFacts
from threadlog.engine.executor.store.graph_store import GraphStore
from threadlog.engine.link.client import ExecutorChannel
from threadlog.engine.log.port import Log, LogUnavailable
from threadlog.engine.metrics import METRICS
from threadlog.engine.postgres.errors import FAILED
from threadlog.engine.postgres.listener import CHECK_SECONDS
from threadlog.engine.processor.ports import Stop
from threadlog.engine.user_code.langgraph_json import GraphSpec

logger = logging.getLogger(__name__)

_BATCH_AT_LEAST = 2  # claimed at once, doubled while the queue has more: an idle executor beside us gets its share
_STOP_SECONDS = 5.0  # what cancelled runs get to stop in, when draining
_KNOWN_ATTEMPTS = 65_536
_DRAINING_LOAD = 1_000_000
_CHECK_SECONDS = 60.0  # between two proofs that its listener hears: the engine's wake-ups come through the link


class Executor:
    """One executor of these graphs. `start`, then `serve` until `drain`; `aclose` at the end."""

    def __init__(self, options: ExecutorOptions, log: Log, graphs: Graphs) -> None:
        self.options = options
        self.graphs = graphs
        self.executor_id = options.executor_id
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._facts = ServerFacts.of(options.api_url).metadata()
        dsn, names = options.database_uri, sorted(graphs.by_id)
        self._link = (
            ExecutorChannel(
                options.link, log, wake=self._woken, stop=self._told_to_stop, load=self._load, lost=self._database_lost
            )
            if options.link is not None
            else None
        )
        self.appender = BatchingAppender(self._link or log, loop_yield=options.loop_yield, limits=options.append_limits)
        decrypting = opening(options.keyring)
        self._queue = RunQueue(
            dsn, graphs=names, durable=not options.log_in_database, held=self._held, connection_class=decrypting
        )
        self._pool = RetryingPool.of(dsn, size=options.pool_size, connection_class=decrypting)
        self._outcomes = Outcomes(self._pool, log, self._link)
        self.store = GraphStore(
            db=self._pool,
            appender=self.appender,
            partitions=log.partitions,
            refusal=self._outcomes.refusal_of_write,
            config=options.store,
            run=self._pool.with_connection,
            embedder=options.embedder,
            fields=None if options.keyring is None else FieldSealer(options.keyring),
        )
        self._listener = queue_listener(
            dsn,
            self._queue,
            wake=self._woken,
            cancel=self._cancel_heard,
            lost=self._database_lost,
            check_seconds=CHECK_SECONDS if self._link is None else _CHECK_SECONDS,
        )
        self._heartbeat = self._new_heartbeat()
        self._garbage = Collector(self._loop)
        self.attempts: dict[str, RunAttempt] = {}
        self._on_thread: dict[str, RunAttempt] = {}
        METRICS.gauges["executor_attempts"] = lambda: {"": len(self._on_thread)}
        self._known: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._cancelled_early: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._interval = PollInterval(options.poll_seconds, self._is_idle)
        self._room = AdmissionControl(self._loop, self._wake.set, short_ticks=options.short_ticks)
        self._hungry = True
        self._batch = _BATCH_AT_LEAST
        self._draining = False
        self._stopped = asyncio.Event()
        self._hurry = asyncio.Event()
        self._busy = options.busy  # until it was called
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """This executor is registered and ready to claim."""
        self._node_threads = NodeThreads(max(64, self.options.slots))
        self._loop.set_default_executor(self._node_threads)
        message_ids.install()
        errors.hide_unexpected(self.options.hide_errors)
        for broken in self.graphs.broken:
            logger.error("%s", broken.error)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if self._link is not None:
            await self._link.start()
        announce_assistants(self.graphs, self.appender, self._log.partitions)
        await self._pool.open()
        await asyncio.gather(self._begin_heartbeat(), self._listener.start())
        self._spawn(self._poll(), "poll")
        if self.options.embedder is not None:
            self._spawn(self.options.embedder.load(), "store.index")
        self._spawn(announce_graphs(self.graphs, self.appender, self._log.partitions, self.store), "announce graphs")

    async def serve(self) -> None:
        """Claim and run until drained."""
        claiming = self._spawn(self._claim_loop(), "claim")
        await self._stopped.wait()
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)

    async def aclose(self) -> None:
        """Everything that was said is in the log; the executor's row is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._garbage.close()
        await self._listener.aclose()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.appender.drained(), 10)
        self.store.close()
        await self._heartbeat.stop()
        await self.appender.aclose()
        if self._link is not None:
            await self._link.aclose()
        await self._queue.aclose()
        self._pool.close()

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s failed", task.get_name(), exc_info=task.exception())

    # --- the lease ---------------------------------------------------------------------------------------

    def _new_heartbeat(self) -> Heartbeat:
        options = self.options
        return Heartbeat(
            options.database_uri,
            self.executor_id,
            slots=options.slots,
            graphs=sorted(self.graphs.by_id),
            lost=self._lease_lost,
            late=self._lease_late,
            blocked=self._loop_blocked,
            alive=options.alive,
            left_behind=lambda: self._node_threads.left_behind,
            working=lambda: bool(self.attempts),
            lease_seconds=options.lease_seconds,
            renew_seconds=options.renew_seconds,
        )

    async def _begin_heartbeat(self) -> None:
        await self._queue.check_in(self.executor_id)
        # A crash must not forget who is alive: others wait for them to say what they hold.
        connection = await connect(self.options.database_uri, durable=True, name="threadlog-executor")
        try:
            await self._heartbeat.start(connection)
        finally:
            await connection.close(timeout=2)

    def _lease_lost(self) -> None:
        """We were declared dead: what we run belongs to others. Begin anew under another id."""
        if self._stopped.is_set():
            return
        logger.warning("executor %s lost its lease; its %d runs go on elsewhere", self.executor_id, len(self.attempts))
        for attempt in list(self.attempts.values()):
            attempt.lose()
        self.executor_id = new_executor_id()
        self._heartbeat = self._new_heartbeat()
        self._spawn(self._register_anew(), "register anew")

    async def _register_anew(self) -> None:
        while True:
            try:
                await self._begin_heartbeat()
            except FAILED as error:
                logger.warning("cannot register yet: %s", error)
                await asyncio.sleep(0.5)
                continue
            self._woken()
            return

    def _loop_blocked(self) -> None:
        if self.attempts:  # else it is not user code that runs there
            self._work_for_more()

    def _work_for_more(self) -> None:
        """From any thread."""
        busy, self._busy = self._busy, None
        if busy is not None:
            busy()

    def _lease_late(self) -> None:
        logger.warning("executor %s renewed its lease late", self.executor_id)
        self._spawn(self._check_mine(), "check own runs")

    # --- claiming ------------------------------------------------------------------------------------------

    def _woken(self) -> None:
        """Others say that there is something to claim, or what they say may have been missed."""
        self._interval.stir()
        self._look_for_runs()

    def _look_for_runs(self) -> None:
        self._hungry = True
        self._wake.set()

    def _load(self) -> int:
        return len(self.attempts) + (_DRAINING_LOAD if self._draining else 0)

    def _held(self) -> list[tuple[str, int]]:
        return [(a.claim.run_id, a.claim.attempt) for a in self.attempts.values() if not a.lost]

    def _free(self) -> int:
        return min(self.options.slots - len(self.attempts), self._room.free)

    async def _claim_loop(self) -> None:
        while not self._draining:
            await self._wake.wait()
            self._wake.clear()
            limit = min(self._free(), self._batch)
            if limit <= 0 or not self._hungry:
                continue  # woken again when a slot is free
            self._hungry = False
            try:
                owner = self.executor_id
                claims = await self._queue.claim(owner, limit)
            except FAILED as error:
                logger.warning("cannot claim runs: %s", error)
                METRICS.count("failed_to_fetch_runs_counter")
                await asyncio.sleep(0.2)
                self._woken()
                continue
            keys = await self._keys_of(claims)
            if owner != self.executor_id:
                continue  # the lease was lost meanwhile: these are others' by now
            for claim in claims:
                self._begin(claim, keys.get(claim.thread_id))
            if self._link is not None:
                self._link.claimed()
            if len(claims) == limit:
                self._batch = min(self._batch * 2, AT_MOST)
                self._woken()
            else:
                self._batch = _BATCH_AT_LEAST

    async def _keys_of(self, claims: Sequence[Claim]) -> dict[str, DataKey]:
        """The data keys of their threads; none of a thread that is gone, or without encryption."""
        keyring = self.options.keyring
        if keyring is None or not claims:
            return {}
        backoff = Backoff()
        while True:
            try:
                return await keyring.of_threads({claim.thread_id for claim in claims})
            except (*FAILED, LogUnavailable) as error:
                logger.warning("cannot read data keys: %s", error)
                await backoff.wait()

    def _begin(self, claim: Claim, key: DataKey | None = None) -> None:
        # Whoever is still at work on that thread here has lost it: this claim says so before anybody else does.
        before = self._on_thread.get(claim.thread_id)
        if before is not None and before.working:
            before.lose()
        attempt = RunAttempt(
            claim,
            self._graph(claim.graph_id),
            executor=self.executor_id,
            appender=self.appender,
            log=self._log,
            pool=self._pool,
            store=self.store,
            applied=self._outcomes.applied,
            facts=self._facts,
            timeout_seconds=self.options.timeout_seconds,
            leave_behind=self._node_threads.leave_behind,
            thread_stop_seconds=self.options.thread_stop_seconds,
            cancel_again_seconds=self.options.cancel_again_seconds,
            after=before.task if before is not None and before.working else None,
            key=key,
            encrypts=self.options.keyring is not None,
        )
        self._heartbeat.work_begins()
        self._known[(claim.run_id, claim.attempt)] = None
        while len(self._known) > _KNOWN_ATTEMPTS:
            self._known.popitem(last=False)
        if self._busy is not None and any(other.working for other in self.attempts.values()):
            self._work_for_more()
        self.attempts[claim.run_id] = attempt
        self._on_thread[claim.thread_id] = attempt
        self._room.enter(attempt)
        self._work_on(attempt, attempt.run())
        # Heard of while it was being claimed, or it was about an attempt before this one.
        if self._cancelled_early.pop(claim.run_id, None) is not None or claim.cancel:
            self._spawn(self._cancel(claim.run_id), "cancel")

    def _work_on(self, attempt: RunAttempt, work: Coroutine[Any, Any, None]) -> None:
        attempt.task = asyncio.create_task(work, name=f"run {attempt.claim.run_id}")
        attempt.task.add_done_callback(lambda task: self._finished(attempt, task))

    def _graph(self, graph_id: str) -> LoadedGraph:
        known = self.graphs.by_id.get(graph_id)
        return known or LoadedGraph(GraphSpec(graph_id, "", "", False), error=f"graph {graph_id} is not known here")

    def _finished(self, attempt: RunAttempt, task: asyncio.Task[None]) -> None:
        run_id = attempt.claim.run_id
        ended = asyncio.CancelledError() if task.cancelled() else task.exception()
        if attempt.unreported and ended is not None and not self._stopped.is_set():
            if not attempt.made_up:
                self._work_on(attempt, attempt.make_up(ended))
                return
            logger.error("run %s could not be reported", run_id, exc_info=ended, extra=attempt.claim.log_fields)
        attempt.end_span()
        if self.attempts.get(run_id) is attempt:
            del self.attempts[run_id]
        if self._on_thread.get(attempt.claim.thread_id) is attempt:
            del self._on_thread[attempt.claim.thread_id]
        self._room.leave(attempt)
        self._garbage.attempt_ended(cycles=attempt.leaves_cycles, witness=attempt.saver)
        self._wake.set()

    # --- cancelling ------------------------------------------------------------------------------------------

    def _told_to_stop(self, run_id: str, stop: Stop | None) -> None:
        if stop is not None and (attempt := self.attempts.get(run_id)) is not None:
            attempt.cancel(*stop)
        else:
            self._cancel_heard(run_id)

    def _cancel_heard(self, run_id: str) -> None:
        if run_id in self.attempts:
            self._spawn(self._cancel(run_id), "cancel")
        else:  # perhaps it is just being claimed
            now = time.monotonic()
            self._cancelled_early[run_id] = now
            while self._cancelled_early:
                oldest = next(iter(self._cancelled_early))
                if self._cancelled_early[oldest] > now - 10:
                    break
                del self._cancelled_early[oldest]

    async def _cancel(self, run_id: str) -> None:
        action: str | None = "interrupt"
        reason: str | None = None
        with contextlib.suppress(*FAILED):
            action, reason = await self._queue.cancel_of(run_id)
        if (attempt := self.attempts.get(run_id)) is not None and action is not None:
            attempt.cancel(action, reason)

    def _database_lost(self) -> None:
        self.appender.connection_lost()

    def _is_idle(self) -> bool:
        return not self.attempts and self._link is not None and self._link.linked

    async def _poll(self) -> None:
        """Again and again: what notifications may have missed."""
        orphans: set[tuple[str, int]] = set()
        while True:
            await self._interval.wait()
            try:
                orphans = await self._check_mine(orphans)
                if orphans:
                    self._interval.stir()
            except FAILED as error:
                logger.debug("cannot look at the queue: %s", error)
            self._look_for_runs()

    async def _check_mine(self, suspects: set[tuple[str, int]] | None = None) -> set[tuple[str, int]]:
        """Compare what we run with what the queue says is ours; returns rows that are ours but that we never saw.

        Such a row's claim was answered into a broken connection. Seen twice, it is taken up.
        """
        held = {run_id: attempt for run_id, attempt in self.attempts.items() if attempt.working}
        rows = await self._queue.mine(self.executor_id)
        for run_id, attempt in held.items():
            if not attempt.working:
                continue
            row = rows.get(run_id)
            if row is None:
                await self._check_gone(run_id, attempt)
            elif row[0] != attempt.claim.attempt:
                attempt.lose()
            elif row[1] is not None:
                await self._cancel(run_id)
        unseen = {(run, row[0]) for run, row in rows.items() if (run, row[0]) not in self._known}
        for run_id, number in unseen & (suspects or set()):
            fields = {"run_id": run_id, "run_attempt": number}
            told = "run %s attempt %d was claimed but never arrived; claiming it again"
            logger.warning(told, run_id, number, extra=fields)
            await self._queue.give_back(self.executor_id, run_id, number)
        return unseen

    async def _check_gone(self, run_id: str, attempt: RunAttempt) -> None:
        """Our row is not ours any more: the thread was deleted, or another executor has the run."""
        if (await self._queue.cancel_of(run_id))[0] == "delete":
            attempt.cancel("delete")
        else:
            attempt.lose()

    # --- stopping ----------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Do not wait for supersteps: stop what runs and hand it back now."""
        self._hurry.set()

    async def drain(self) -> None:
        """Claim no more; let runs reach a superstep and hand them back; cancel and hand back what does not."""
        if self._draining:
            self.hurry()
            return
        self._draining = True
        METRICS.count("server_requested_to_stop_counter")
        self._wake.set()
        if self._link is not None:
            self._link.claimed()  # says that others are to be woken first
        for attempt in list(self.attempts.values()):
            attempt.control.request_drain("shutdown")
        if self.attempts:
            logger.info("stopping: %d runs are handed on", len(self.attempts))
        await self._wait_for_attempts(self.options.grace_seconds, self._hurry)
        for attempt in list(self.attempts.values()):
            attempt.hand_back()
        await self._wait_for_attempts(_STOP_SECONDS, None)
        if self.attempts:
            logger.warning("%d runs did not stop; their lease is left to others", len(self.attempts))
            for attempt in list(self.attempts.values()):
                attempt.lose()
        self._stopped.set()

    async def _wait_for_attempts(self, seconds: float, early: asyncio.Event | None) -> None:
        deadline = self._loop.time() + seconds
        hurry = asyncio.ensure_future(early.wait()) if early is not None else None
        try:
            while self.attempts and (left := deadline - self._loop.time()) > 0:
                tasks: list[asyncio.Future[Any]] = [a.task for a in self.attempts.values() if a.task is not None]
                if hurry is not None:
                    if hurry.done():
                        return
                    tasks.append(hurry)
                await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)  # let the finished ones be taken out
        finally:
            if hurry is not None:
                hurry.cancel()
