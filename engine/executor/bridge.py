"""The synchronous half of a checkpointer: graphs called synchronously in node threads reach the loop through it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from engine.executor.langgraph_versions import DeltaChannelHistory

T = TypeVar("T")


class Bridged(BaseCheckpointSaver[int]):
    """A checkpointer made on an event loop: its synchronous methods run the asynchronous ones there.

    They may be called from any thread, from the loop's own only if no waiting is needed; else that raises
    `RuntimeError`.
    """

    def __init__(self, *, serde: SerializerProtocol) -> None:
        super().__init__(serde=serde)
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._at_once = False

    @property
    def _on_loop(self) -> bool:
        return threading.get_ident() == self._loop_thread

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._on_loop:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        self._at_once = True  # on the loop itself nothing can be waited for, but most calls need not wait
        try:
            work.send(None)
        except StopIteration as done:
            return cast(T, done.value)
        finally:
            self._at_once = False
        work.close()
        raise AssertionError(f"{work} waits without saying so")

    def _will_wait(self) -> None:
        """To be called before anything that waits."""
        if self._at_once:
            raise RuntimeError(
                "A graph was called synchronously on the event loop and its checkpointer has to wait. "
                "Use `await graph.ainvoke(…)` inside async nodes."
            )

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._wait(self.aget_tuple(config))

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

        yield from self._wait(collect())

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._wait(self.aget_delta_channel_history(config=config, channels=channels))

    def delete_thread(self, thread_id: str) -> None:
        self._wait(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._wait(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._wait(self.aprune(thread_ids, strategy=strategy))
