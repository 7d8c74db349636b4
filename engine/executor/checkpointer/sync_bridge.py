"""A checkpointer's way to its event loop, from other threads and other loops.

Nodes call graphs synchronously, in threads, and under `asyncio.run` on loops of their own: all reach the loop through
this.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from threadlog.engine.executor.langgraph_internals import DeltaChannelHistory

T = TypeVar("T")

_BLOCKED_SECONDS = 0.5  # a loop that has not begun with a call by then is blocked
_DEADLOCK_SECONDS = 60.0


def _deadlock() -> MustWait:
    return MustWait(
        f"The checkpointer has waited {_DEADLOCK_SECONDS:g} s for the event loop, which is blocked, perhaps by an "
        "async node that waits for this thread. Use `await graph.ainvoke(…)` inside async nodes."
    )


class _Handed(Generic[T]):
    """A call that is handed to a loop of another thread, and can be taken back until the loop begins with it."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, T]], loop: asyncio.AbstractEventLoop) -> None:
        self._claim = threading.Lock()  # of who carries it out

        async def on_loop() -> T:
            if not self._claim.acquire(blocking=False):
                raise asyncio.CancelledError
            return await call()

        self.done: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(on_loop(), loop)

    def take_back(self) -> bool:
        """False: the loop has begun with it."""
        return self._claim.acquire(blocking=False)

    async def begun(self, seconds: float) -> asyncio.Future[T] | None:
        """Its outcome, on the running loop; None if it has not begun after so many seconds, and is taken back.

        When this is cancelled the call is cancelled.
        """
        answer = asyncio.wrap_future(self.done)
        try:
            await asyncio.wait([answer], timeout=seconds)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if answer.done() or not self.take_back():
            return answer
        answer.cancel()
        return None


class MustWait(RuntimeError):
    """A synchronous call on the event loop would have to wait for it."""


class HomeLoop:
    """The running event loop, to be kept by what works on it: asks which thread calls, and whether that may wait."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.at_once: set[int] = set()  # threads in which nothing can be waited for at the moment

    @property
    def here(self) -> bool:
        """Whether the caller is in the loop's thread."""
        return threading.get_ident() == self._thread

    @property
    def called_at_once(self) -> bool:
        return bool(self.at_once) and threading.get_ident() in self.at_once

    def will_wait(self) -> None:
        """To be called before anything that waits, and before any effect that can't be repeated."""
        if self.called_at_once:
            raise MustWait(
                "A graph was called synchronously on the event loop and its checkpointer has to wait. "
                "Use `await graph.ainvoke(…)` inside async nodes."
            )


def from_anywhere(method: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    """Let a coroutine method of a `SyncCheckpointer` be awaited on any loop of any thread: it runs on its own."""

    @functools.wraps(method)
    async def anywhere(self: SyncCheckpointer, *args: Any, **more: Any) -> T:
        if self._home.called_at_once:
            return await method(self, *args, **more)
        if not self._home.here:
            return await self._from_other_loop(lambda: method(self, *args, **more))
        if asyncio.get_running_loop() is not self._loop:  # one that runs within a callback of ours: it can't go on
            return self._at_once_here(method(self, *args, **more))
        if self._guard.locked():
            self._let_pass()
        return await method(self, *args, **more)

    return anywhere


def listed_from_anywhere(method: Callable[..., AsyncIterator[T]]) -> Callable[..., AsyncIterator[T]]:
    """The same for an asynchronous generator: what it yields is collected on the saver's loop."""

    @from_anywhere
    async def collect(self: SyncCheckpointer, *args: Any, **more: Any) -> Sequence[T]:
        return [found async for found in method(self, *args, **more)]

    @functools.wraps(method)
    async def anywhere(self: SyncCheckpointer, *args: Any, **more: Any) -> AsyncIterator[T]:
        for found in await collect(self, *args, **more):
            yield found

    return anywhere


class SyncCheckpointer(BaseCheckpointSaver[int]):
    """A checkpointer made on an event loop, to be called from anywhere: what it does it does on that loop.

    Its asynchronous methods (those under `from_anywhere`) may be awaited on any loop, its synchronous ones be called
    from any thread; on the loop's own thread those work if no waiting is needed, and else raise `MustWait`.

    A call from elsewhere is handed to the loop. While user code blocks that, perhaps to wait for this very call (an
    async node that waits for a thread), a call that need not wait is carried out in its own thread; one that has to
    raises `MustWait` after a minute.
    """

    def __init__(self, *, serde: SerializerProtocol) -> None:
        super().__init__(serde=serde)
        self._home = HomeLoop()
        self._loop = self._home.loop
        self._guard = threading.Lock()  # held by a thread that does what the blocked loop can't

    def _wait(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `call()` returns, from a synchronous method."""
        if self._home.here:
            return self._at_once_here(call())
        handed = _Handed(call, self._loop)
        try:
            return handed.done.result(_BLOCKED_SECONDS)
        except concurrent.futures.TimeoutError:
            if handed.done.done():
                raise  # of the call itself
        if not handed.take_back():
            return handed.done.result()
        with contextlib.suppress(MustWait):
            return self._instead_of_loop(call)
        handed = _Handed(call, self._loop)
        try:
            return handed.done.result(_DEADLOCK_SECONDS)
        except concurrent.futures.TimeoutError:
            if handed.done.done() or not handed.take_back():
                return handed.done.result()
            raise _deadlock() from None

    async def _from_other_loop(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `call()` returns, on a loop of another thread."""
        handed = _Handed(call, self._loop)
        answer = await handed.begun(_BLOCKED_SECONDS)
        if answer is not None:
            return await answer
        with contextlib.suppress(MustWait):
            return self._instead_of_loop(call)
        handed = _Handed(call, self._loop)
        answer = await handed.begun(_DEADLOCK_SECONDS)
        if answer is not None:
            return await answer
        raise _deadlock()

    def _instead_of_loop(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._guard:
            return self._at_once_here(call())

    def _let_pass(self) -> None:
        """On the loop, which is free again: let the thread that does its work come to an end, which takes no time."""
        with self._guard:
            pass

    def _at_once_here(self, work: Coroutine[Any, Any, T]) -> T:
        """Most calls need not wait: carry out such a one, without the loop."""
        thread = threading.get_ident()
        nested = thread in self._home.at_once
        self._home.at_once.add(thread)
        try:
            work.send(None)
        except StopIteration as done:
            return cast(T, done.value)
        finally:
            if not nested:
                self._home.at_once.discard(thread)
        work.close()
        raise AssertionError(f"{work} waits without saying so")

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._wait(lambda: self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        async def collect() -> Sequence[CheckpointTuple]:
            return [found async for found in self.alist(config, filter=filter, before=before, limit=limit)]

        yield from self._wait(collect)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._wait(lambda: self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._wait(lambda: self.aput_writes(config, writes, task_id, task_path))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._wait(lambda: self.aget_delta_channel_history(config=config, channels=channels))

    def delete_thread(self, thread_id: str) -> None:
        self._wait(lambda: self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._wait(lambda: self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._wait(lambda: self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._wait(lambda: self.aprune(thread_ids, strategy=strategy))
