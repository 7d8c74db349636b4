"""The checkpointer without a run: for tools, and for graphs that are called outside the engine."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from threadlog.engine.domain.commands import Command, CreateThread, DeleteThread, ImportCheckpoints, PruneThread
from threadlog.engine.executor.checkpointer import reader
from threadlog.engine.executor.checkpointer.saver import ThreadlogSaver
from threadlog.engine.executor.checkpointer.stored_types import default_serializer
from threadlog.engine.executor.checkpointer.sync_bridge import SyncCheckpointer, from_anywhere, listed_from_anywhere
from threadlog.engine.log.port import Log
from threadlog.engine.log.records import partition_of
from threadlog.engine.processor.ports import Gateway
from threadlog.engine.stored.export import export_items


class CommandRefused(RuntimeError):
    """The engine refused a command; the text is its reason."""


async def submit(gateway: Gateway, command: Command, *, unknown_ok: bool = False) -> None:
    """Returns once the command's events are projected. `unknown_ok`: without the thread there is nothing to do.

    Raises:
        CommandRefused: the engine rejected it.
        LogUnavailable: the log or the database can't be reached.
    """
    rejection = (await gateway.submit(command)).rejection
    if rejection is not None and not (unknown_ok and rejection.code == "not_found"):
        raise CommandRefused(rejection.detail)


class StandaloneReporter:
    """Reports to an idle thread, which is made when there is something to report."""

    def __init__(self, gateway: Gateway, thread_id: str) -> None:
        self._gateway, self._thread_id = gateway, thread_id
        self._items: list[dict[str, Any]] = []
        self._made = False
        self._one_at_a_time = asyncio.Lock()

    def add(self, item: dict[str, Any]) -> None:
        self._items.append(item)

    async def flush(self) -> None:
        async with self._one_at_a_time:
            if not self._items:
                return
            if not self._made:
                creation = CreateThread(thread_id=self._thread_id, if_exists="do_nothing")
                await submit(self._gateway, creation)
                self._made = True
            items, self._items = self._items, []
            await submit(self._gateway, ImportCheckpoints(thread_id=self._thread_id, items=items))

    async def applied(self) -> None:
        await self.flush()  # the gateway answers when it is projected


class StandaloneSaver(SyncCheckpointer):
    """A LangGraph checkpointer for any number of threads (their ids are UUIDs); every put is durable when it returns.

    Writing to a thread with a run in flight raises `CommandRefused`, as pruning it does.
    """

    def __init__(
        self, *, pool: asyncpg.Pool, log: Log, gateway: Gateway, serde: SerializerProtocol | None = None
    ) -> None:
        super().__init__(serde=serde or default_serializer())
        self._pool, self._log, self._gateway = pool, log, gateway
        self._threads: dict[str, ThreadlogSaver] = {}

    def thread(self, thread_id: str) -> ThreadlogSaver:
        """The checkpointer of one thread."""
        self._home.will_wait()
        thread_id = str(thread_id)
        if thread_id not in self._threads:
            uuid.UUID(thread_id)  # anything else is no thread
            self._threads[thread_id] = ThreadlogSaver(
                pool=self._pool,
                log=self._log,
                reporter=StandaloneReporter(self._gateway, thread_id),
                thread_id=thread_id,
                run_id=None,
                partition=partition_of(thread_id, self._log.partitions),
                fresh=False,
                sync=True,
                serde=self.serde,
            )
        return self._threads[thread_id]

    @from_anywhere
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self.thread(config["configurable"]["thread_id"]).aput(config, checkpoint, metadata, new_versions)

    @from_anywhere
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        thread = self.thread(config["configurable"]["thread_id"])
        await thread.aput_writes(config, writes, task_id, task_path)
        await thread.flush()

    @from_anywhere
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self.thread(config["configurable"]["thread_id"]).aget_tuple(config)

    @listed_from_anywhere
    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        if config is None:
            raise ValueError("name a thread: the checkpoints of all threads can't be listed")
        thread = self.thread(config["configurable"]["thread_id"])
        async for found in thread.alist(config, filter=filter, before=before, limit=limit):
            yield found

    @from_anywhere
    async def aget_delta_channel_history(self, *, config: RunnableConfig, channels: Sequence[str]) -> Any:
        thread = self.thread(config["configurable"]["thread_id"])
        return await thread.aget_delta_channel_history(config=config, channels=channels)

    @from_anywhere
    async def adelete_thread(self, thread_id: str) -> None:
        self._home.will_wait()
        self._threads.pop(str(thread_id), None)
        await submit(self._gateway, DeleteThread(thread_id=str(thread_id)), unknown_ok=True)

    @from_anywhere
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._home.will_wait()
        for thread_id in await reader.threads_of_runs(self._pool, run_ids):
            await self.thread(thread_id).adelete_for_runs(run_ids)

    @from_anywhere
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._home.will_wait()
        for thread_id in map(str, thread_ids):
            if strategy == "delete":
                await self.adelete_thread(thread_id)
            elif strategy == "keep_latest":
                self._threads.pop(thread_id, None)
                await submit(self._gateway, PruneThread(thread_id=thread_id), unknown_ok=True)
            else:
                raise ValueError(f"unknown strategy {strategy!r}: keep_latest or delete")

    @from_anywhere
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._home.will_wait()
        source, target = str(source_thread_id), str(target_thread_id)
        reporter = StandaloneReporter(self._gateway, target)
        async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            async for item in export_items(conn, source, target):
                reporter.add(item)
        await reporter.flush()
        self._threads.pop(target, None)
