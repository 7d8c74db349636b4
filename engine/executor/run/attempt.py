"""One attempt of a run: call the graph, stream what it emits, report what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

import asyncpg
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.types import Command

from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.encryption_context import CONTEXT
from threadlog.engine.executor.cancels import CANCELS
from threadlog.engine.executor.checkpointer.retrying_pool import RetryingPool
from threadlog.engine.executor.errors import ContentUnreadable, describe_error
from threadlog.engine.executor.garbage import clear_frames
from threadlog.engine.executor.graphs.loader import LoadedGraph
from threadlog.engine.executor.langgraph_internals import GraphDrained, RunControl
from threadlog.engine.executor.node_threads import GivenUp, Job
from threadlog.engine.executor.queue import Claim
from threadlog.engine.executor.reporting.appender import BatchingAppender
from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.executor.reporting.reporter import AttemptReporter, ReportApplied
from threadlog.engine.executor.run.calling import call_graph
from threadlog.engine.executor.run.config import (
    input_of,
    named,
    run_config,
    stream_modes,
    update_config,
)
from threadlog.engine.executor.run.resume import AttemptSaver, StartPlan, plan_attempt, state_config
from threadlog.engine.executor.run.state_update import apply_state_update, checkpoint_event
from threadlog.engine.executor.run.streaming import RunStream
from threadlog.engine.executor.run.strict_resume import refusal
from threadlog.engine.executor.run.usage import UsageCounter
from threadlog.engine.log.port import Log
from threadlog.engine.log.records import EVENT_STREAMING
from threadlog.engine.logging_context import set_fields
from threadlog.engine.tracing import active as tracing

if TYPE_CHECKING:
    from threadlog.engine.executor.run.attempt_span import AttemptSpan

logger = logging.getLogger(__name__)

_EXIT_SECONDS = 30.0
_DRAIN_SECONDS = 4.0  # less than the executor gives those it hands back

AnyGraph = Pregel[Any, Any, Any, Any]


class RunAttempt:
    """A claimed run, or the job of a state update, in this process.

    `run()` ends when its outcome is durably in the log. User code runs in its task, and can end that at any await:
    what is `unreported` then has to be `made_up` in another task.
    `key`: encrypts what it says; with `encrypts` and without a key nothing is run, as nothing could be said of it.
    `after`: an attempt on the same thread that has lost it and is still about to stop here: it is waited for.
    """

    def __init__(
        self,
        claim: Claim,
        graph: LoadedGraph,
        *,
        executor: str,
        appender: BatchingAppender,
        log: Log,
        pool: RetryingPool,
        store: BaseStore,
        applied: ReportApplied,
        facts: Mapping[str, Any],
        timeout_seconds: float,
        leave_behind: Callable[[Job], None],
        thread_stop_seconds: float = 30.0,
        cancel_again_seconds: float = 5.0,
        after: asyncio.Task[None] | None = None,
        key: DataKey | None = None,
        encrypts: bool = False,
    ) -> None:
        self._key = key
        self._unreadable = claim.unreadable or (encrypts and key is None)
        self.claim, self._graph, self._after = claim, graph, after
        self._appender, self._log, self._pool = appender, log, pool
        self._store = store
        self._facts, self._timeout = facts, timeout_seconds
        self._thread_stop_seconds, self._cancel_again_seconds = thread_stop_seconds, cancel_again_seconds
        self._given_up, self._leave_behind = GivenUp(), leave_behind
        self._loop = asyncio.get_running_loop()
        self.control = RunControl()
        self.queue: FrameQueue = appender.frames(
            run_id=claim.run_id,
            thread_id=claim.thread_id,
            attempt=claim.attempt,
            partition=claim.partition,
            held=not claim.kwargs.get("streamed"),
            key=key,
        )
        self.reporter = AttemptReporter(appender, self.queue, executor=executor, applied=applied, key=key)
        self.usage = UsageCounter()
        self.stream: RunStream | None = None
        self.saver: AttemptSaver | None = None
        self.task: asyncio.Task[None] | None = None
        self._working = True
        self.leaves_cycles = True  # of references, as LangGraph does unless a run gets to its end
        self._reason: str | None = None  # why it has to stop: cancel, timeout, drain, lost
        self.made_up = False  # `make_up` was begun
        self._begun = False
        self._refused = False  # an answer that no interrupt waits for: nothing has been run
        self._told: Any = None  # what to stop with, told before it began
        self._again: asyncio.TimerHandle | None = None
        self._span: AttemptSpan | None = None
        self._ended_as: tuple[str, dict[str, Any] | None, dict[str, Any] | None] = ("lost", None, None)

    @property
    def working(self) -> bool:
        """The graph still runs; afterwards the outcome only has to reach the log."""
        return self._working

    @property
    def lost(self) -> bool:
        """It belongs to somebody else by now."""
        return self._reason == "lost"

    def settle(self) -> None:
        """It is not a short one: report as it goes. The job of a state update is reported as a whole all the same."""
        if self.claim.kind == "run":
            self.reporter.settle()

    # --- stopping ------------------------------------------------------------------------------------

    def cancel(self, action: str = "interrupt", reason: str | None = None) -> None:
        """A client wants it stopped (`action`: interrupt, rollback, delete) because of this: stop at the next await."""
        kind, usual = CANCELS[action]
        self._stop("cancel", kind(reason or usual))

    def hand_back(self) -> None:
        """The executor cannot wait any longer: stop, so that another attempt continues elsewhere."""
        self._stop("drain", "Shutdown")

    def lose(self) -> None:
        """The attempt is not ours any more: stop and report nothing."""
        self.reporter.abandon()
        if self.stream is not None:
            self.stream.close()
        self._stop("lost", "LeaseLost", force=True)

    def _stop(self, reason: str, message: Any, *, force: bool = False, again: bool = False) -> None:
        if self.task is None or self.task.done() or not (self._working or force):
            return
        if not again and self._reason is not None and (not force or self._reason == reason):
            return  # it was told, and may be cleaning up: a second cancellation would cut that short
        if self._reason is None or force:
            self._reason = reason
        if not self._begun:
            self._told = message  # a task cancelled before its first step never runs, and would report nothing
            return
        if self.stream is not None:
            self.stream.stop(message)
        self.task.cancel(message)
        if self._again is not None:
            self._again.cancel()
        # user code may swallow a cancellation
        self._again = self._loop.call_later(
            self._cancel_again_seconds, lambda: self._stop(reason, message, force=force, again=True)
        )

    # --- the attempt -----------------------------------------------------------------------------------

    async def run(self) -> None:
        self._begun = True
        set_fields(self.claim.log_fields)  # of what the graph logs
        if self._key is not None and self._key.context:
            CONTEXT.set(self._key.context)
        self._begin_span()
        self._given_up.track()
        limit = self._loop.call_later(self._timeout, self._stop, "timeout", "Timeout")
        try:
            outcome = await self._outcome()
        finally:
            limit.cancel()
            self._working = bool(self._given_up.running())
            if self._again is not None:
                self._again.cancel()
        if self._working:
            await self._threads_ended()
        self.leaves_cycles = outcome["status"] != "success" or bool(outcome["interrupts"])
        if self._reason != "lost":
            await self._report(outcome)

    def _begin_span(self) -> None:
        """Where this process makes traces."""
        if (spans := tracing.active()) is not None:
            from threadlog.engine.executor.run.attempt_span import AttemptSpan

            self._span = AttemptSpan(spans, self.claim)
            self.reporter.trace = self._span.trace

    def end_span(self) -> None:
        """To be called once nothing more comes of it."""
        if (span := self._span) is not None:
            self._span = None
            span.end(*self._ended_as)

    async def _threads_ended(self) -> None:
        """Keep the slot, for some time, until the nodes that were given up have ended in their threads."""
        seconds = self._thread_stop_seconds
        if self._reason == "drain":
            seconds = min(seconds, _DRAIN_SECONDS)  # then the process ends, and they with it
        deadline = self._loop.time() + seconds
        while True:
            try:
                if not await self._given_up.ended(deadline - self._loop.time()):
                    self._warn_of_threads(seconds)
                break
            except asyncio.CancelledError:  # it comes too late, unless the executor can't wait any longer
                if self._reason == "lost":
                    break
                _uncancel()
        self._working = False

    def _warn_of_threads(self, seconds: float) -> None:
        for job in self._given_up.running():
            self._leave_behind(job)
            logger.warning(
                "run %s of graph %s has stopped, but a node of it still runs in a thread after %g s "
                "(THREADLOG_THREAD_STOP_SECONDS): what follows on thread %s begins beside it. It stands here:\n%s",
                self.claim.run_id, self.claim.graph_id, seconds, self.claim.thread_id, job.stack(),
                extra=self.claim.log_fields,
            )  # fmt: skip

    @property
    def unreported(self) -> bool:
        """Its outcome is neither in the log nor another attempt's affair."""
        return not (self.reporter.finished or self._reason == "lost")

    async def make_up(self, ended: BaseException) -> None:
        """Report what `run()` could not: it was ended by this, which user code has left with its task."""
        self.made_up = True
        if self._reason == "drain":
            outcome: dict[str, Any] = {"status": "released"}
        else:
            outcome = {"status": "error", "error": describe_error(ended)}
        try:
            if self.saver is not None and self._reason != "lost":
                await self.saver.finish()
            outcome |= self._standing()
        except Exception as unknown:  # perhaps the very reason
            claim = self.claim
            logger.error("run %s: what it leaves can't be told", claim.run_id, exc_info=unknown, extra=claim.log_fields)
        if self.stream is not None:
            self.stream.end(outcome["status"], outcome.get("error"), waits=bool(outcome.get("interrupts")))
            self.stream.close()
        await self._threads_ended()
        await self._report(outcome)

    async def _report(self, outcome: dict[str, Any]) -> None:
        outcome["frames"] = self.queue.count
        if usage := self.usage.totals():
            outcome["usage"] = usage
        self._ended_as = (outcome["status"], outcome.get("error"), outcome.get("usage"))
        if self.claim.kind == "state_update" and outcome["status"] != "success":
            self.reporter.forget()  # all of an update or nothing: what did not end well leaves the thread as it was
        try:
            await self.reporter.finish(outcome)
        except Exception as refused:  # the log does not take what the run has to say: then say that
            claim = self.claim
            logger.error("run %s: its report was refused", claim.run_id, exc_info=refused, extra=claim.log_fields)
            self.reporter.forget()
            error = {"error": type(refused).__name__, "message": f"The run's report could not be stored: {refused}"}
            failed = {"status": "error", "error": error, "frames": self.queue.count}
            await self.reporter.finish(failed | ({"usage": usage} if usage else {}))

    async def _outcome(self) -> dict[str, Any]:
        """Work, and say what became of it: the `outcome` of `ReportRun` without `frames` and `usage`."""
        result: dict[str, Any] | None = None
        try:
            if self._told is not None and self.task is not None:
                self.task.cancel(self._told)
                await asyncio.sleep(0)
            if self._after is not None:
                await asyncio.wait([self._after])
            if self._unreadable:
                raise ContentUnreadable
            if self.claim.kind == "state_update":
                result = await self._update_state()
                status, error = "success", None
            else:
                status, error = await self._run_graph(), None
        except asyncio.CancelledError as cancelled:
            status, error = await self._cancelled(cancelled)
            clear_frames(cancelled)
        except GeneratorExit:  # a task that this is thrown into can't wait for anything any more: `make_up` does
            raise
        except BaseException as failure:  # SystemExit and KeyboardInterrupt in a node are the run's affair, not ours
            status, error = self._failed(failure)
            clear_frames(failure)
        if self._reason == "cancel" and status in ("success", "error"):  # it got to its end before it stopped
            status, error = "interrupted", None
        outcome = {"status": status, **self._standing()}
        if error is not None:
            outcome["error"] = error
        if result is not None:
            outcome["result"] = result
        if self._refused and status == "error":
            outcome["refused"] = True
        if self.stream is not None:
            self.stream.end(status, error, waits=bool(outcome["interrupts"]))
            if error is None and status != "released":
                self.stream.output(self._kept)
            self.stream.close()
        return outcome

    def _standing(self) -> dict[str, Any]:
        """What the attempt leaves to do: `next`, `interrupts` and `checkpoint_id` of its outcome."""
        if (saver := self.saver) is None:
            return {"next": [], "interrupts": {}, "checkpoint_id": None}
        return {"next": saver.next(), "interrupts": saver.interrupts(), "checkpoint_id": saver.head}

    def _failed(self, failure: BaseException) -> tuple[str, dict[str, Any] | None]:
        """The status of an attempt whose graph raised this, and its error."""
        if isinstance(failure, GraphDrained) and self.control.drain_requested:
            return "released", None
        claim, error = self.claim, describe_error(failure)
        if self._refused:
            error |= refusal(failure)
        logger.info(
            "run %s of graph %s failed: %s", claim.run_id, claim.graph_id, error["error"],
            exc_info=failure, extra=claim.log_fields,
        )  # fmt: skip
        return "error", error

    def _kept(self, channels: Collection[str]) -> bool:
        """Whether these final values can be read from the thread later."""
        return not self.claim.temporary and self.saver is not None and self.saver.keeps(channels)

    async def _in_order(self, ended: BaseException) -> None:
        """After a cancellation LangGraph hands over the task that still puts its affairs in order: wait for it."""
        if not isinstance(ended, asyncio.CancelledError):
            return
        _uncancel()
        leftover = [arg for arg in ended.args if isinstance(arg, asyncio.Task) and not arg.done()]
        if leftover:
            try:
                await asyncio.wait(leftover, timeout=_EXIT_SECONDS)
            except asyncio.CancelledError:
                _uncancel()

    async def _cancelled(self, cancelled: asyncio.CancelledError) -> tuple[str, dict[str, Any] | None]:
        """Why we were cancelled: the status of the attempt, and its error."""
        await self._in_order(cancelled)
        match self._reason:
            case "timeout":
                return "timeout", {
                    "error": "TimeoutError",
                    "message": f"The run took longer than {self._timeout:g} s (BG_JOB_TIMEOUT_SECS).",
                }
            case "drain":
                return "released", None
            case "cancel" | "lost":
                return "interrupted", None
            case _:
                return "error", describe_error(cancelled)

    async def _run_graph(self) -> str:
        claim, kwargs = self.claim, self.claim.kwargs
        config = run_config(claim, self._facts)
        saver = self.saver = self._saver()
        stream = self.stream = RunStream(
            self.queue,
            self._appender,
            modes=stream_modes(kwargs),
            subgraphs=bool(kwargs.get("subgraphs")),
            replayable=bool(kwargs.get("resumable")),
            checkpoint_refs=bool((config.get("configurable") or {}).get(EVENT_STREAMING)),
            planned=saver.planned,
        )
        stream.begin()
        async with self._graph.open(config, context=kwargs.get("context"), store=self._store) as graph:
            given = input_of(kwargs)
            config = named(config, graph, claim.graph_id)
            saver.runs(graph)
            plan = StartPlan(given, config)
            if claim.attempt > 1:
                plan = await plan_attempt(claim, graph, saver, self._pool, given, config)
            if plan.breakpoint is not None:
                saver.planned("", checkpoint_event(plan.breakpoint))
                stream.stopped_at_breakpoint(_output(graph, plan.breakpoint.values))
            else:
                try:
                    if self._span is not None and isinstance(plan.input, Command | None):
                        await self._span.link_resumed(self._pool)
                    nodes = None if self._span is None else self._span.nodes()
                    await call_graph(
                        graph, plan, claim, saver, stream, self.queue, self.control, self._store, self.usage, nodes
                    )
                except GeneratorExit:
                    raise
                except BaseException as ended:  # what else the superstep has done is part of the state all the same
                    await self._in_order(ended)
                    self._refused = bool(kwargs.get("strict_resume") and refusal(ended) and self.reporter.empty)
                    if graph.checkpointer is not False and self._reason != "lost" and not self._refused:
                        failed = not isinstance(ended, asyncio.CancelledError | GraphDrained)
                        await saver.finish(graph, state_config(claim.thread_id, saver), failed=failed)
                        if self._reason in ("cancel", "timeout"):
                            await saver.cancelled(continues=plan.input is None or isinstance(plan.input, Command))
                    raise
            if graph.checkpointer is not False:
                await saver.finish(graph, state_config(claim.thread_id, saver))
                if not stream.has_values:
                    state = await graph.aget_state(state_config(claim.thread_id, saver))
                    stream.values = _output(graph, state.values)
        return "success"

    async def _update_state(self) -> dict[str, Any]:
        saver = self.saver = self._saver()
        async with self._graph.open(update_config(self.claim), access="threads.update", store=self._store) as graph:
            try:
                return await apply_state_update(graph, saver, self._store, self.claim, self._facts)
            finally:
                await saver.finish()

    def _saver(self) -> AttemptSaver:
        return AttemptSaver(
            pool=cast(asyncpg.Pool, self._pool),
            log=self._log,
            reporter=self.reporter,
            thread_id=self.claim.thread_id,
            run_id=self.claim.run_id,
            partition=self.claim.partition,
            fresh=self.claim.fresh,
            migrations=self._graph.migrations,
            key=self._key,
            plain_metadata_names=self.claim.metadata_names,
        )


def _output(graph: AnyGraph, values: Any) -> Any:
    """The part of a state that the output schema has."""
    names = graph.output_channels
    if isinstance(names, str) or not isinstance(values, Mapping):
        return values
    return {name: values[name] for name in names if name in values}


def _uncancel() -> None:
    """The current task has taken note of its cancellations."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
