"""Loading for one run attempt: checkpoints and values from its memory, else from the read models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_id

from threadlog.engine.executor.checkpointer import reader
from threadlog.engine.executor.checkpointer.cache import CheckpointCache
from threadlog.engine.executor.checkpointer.migrating import migrate
from threadlog.engine.executor.checkpointer.ports import Reporter
from threadlog.engine.executor.checkpointer.reader import Stored, ordered
from threadlog.engine.executor.checkpointer.serde import Blob
from threadlog.engine.executor.checkpointer.sync_bridge import HomeLoop
from threadlog.engine.executor.checkpointer.values import Values
from threadlog.engine.executor.langgraph_internals import DeltaChannelHistory
from threadlog.engine.executor.state_migrations import StateMigrations
from threadlog.engine.stored.tasks import INTERRUPT
from threadlog.engine.stored.value_refs import Reference, needed


class Loader:
    """Loads what LangGraph asks an attempt's checkpointer for. Other threads are read without the memory."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        thread_id: str,
        *,
        memory: CheckpointCache,
        values: Values,
        reporter: Reporter,
        home: HomeLoop,
        migrations: StateMigrations | None = None,
    ) -> None:
        self._migrations = migrations
        self._pool, self._thread_id = pool, thread_id
        self._memory, self._values, self._reporter = memory, values, reporter
        self._home = home

    async def one(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the newest of its namespace."""
        configurable = config["configurable"]
        if (thread_id := str(configurable["thread_id"])) != self._thread_id:
            self._home.will_wait()
            return await reader.one_of_thread(self._pool, self._values.serde, thread_id, config, self._migrations)
        found = await self._load(configurable.get("checkpoint_ns", ""), get_checkpoint_id(config), configurable)
        return None if found is None else await self._tuple(found)

    async def _load(self, ns: str, checkpoint_id: str | None, configurable: Mapping[str, Any]) -> Stored | None:
        memory = self._memory
        wanted = checkpoint_id or memory.newest(ns)
        if (known := memory.get(ns, wanted)) is not None:
            return known
        unreported = memory.unreported(ns, wanted)
        if not unreported and (memory.fresh if wanted else memory.nothing_older(ns, configurable)):
            return None
        self._home.will_wait()
        if unreported:
            await self._reporter.applied()
        found = await reader.row(self._pool, self._thread_id, ns, wanted)
        if found is None:
            return None
        event = await self._migrated(found)
        if (known := memory.loaded(found, newest=wanted is None)) is found and event is not None:
            self._reporter.add(event)
        return known

    async def _migrated(self, found: Stored) -> dict[str, Any] | None:
        """Bring the values of a checkpoint of an earlier version up; the item that tells of it, None if it is of this.

        The row stays as it is: whoever puts the next checkpoint stores the values, of which `channels` has none.
        """
        if self._migrations is None or not self._migrations.concern(found.ns, found.checkpoint, found.metadata):
            return None
        blobs = await self._blobs(list(found.channels.values()))
        values = {name: self._values.value(reference, blobs) for name, reference in found.channels.items()}
        for name, reference in found.channels.items():
            self._values.learn(reference, values[name])
        return migrate(self._migrations, self._values.serde, found, values)

    async def _tuple(self, found: Stored) -> CheckpointTuple:
        writes = ordered(found.writes)
        blobs = await self._blobs([*found.channels.values(), *(reference for _, _, reference in writes)])
        channel_values = {name: self._values.value(ref, blobs) for name, ref in found.channels.items()}
        pending = [(task_id, channel, self._values.value(ref, blobs)) for task_id, channel, ref in writes]
        for name, reference in found.channels.items():
            self._values.learn(reference, channel_values[name])
        for (task_id, channel, value), (_, _, reference) in zip(pending, writes, strict=True):
            self._values.learn(reference, value)
            if channel == INTERRUPT:
                self._memory.raised(found.ns, found.checkpoint_id, task_id, value)
        for name, typed in found.migrated.items():
            channel_values[name] = self._values.serde.loads_typed(typed)
        return found.tuple(self._thread_id, channel_values, pending)

    async def _blobs(self, references: Sequence[Reference]) -> dict[str, Blob]:
        names = needed(references)
        blobs = self._values.kept(names)
        if missing := names - blobs.keys():
            self._home.will_wait()
            blobs |= await reader.blobs(self._pool, self._thread_id, missing)
            if missing := names - blobs.keys():  # put by this attempt and dropped from memory
                await self._reporter.applied()
                blobs |= await reader.blobs(self._pool, self._thread_id, missing)
        return blobs

    async def several(
        self,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> list[CheckpointTuple]:
        """Checkpoints of the thread that `config` names, newest first."""
        configurable = config["configurable"] if config else {}
        thread_id = str(configurable.get("thread_id", self._thread_id))
        if thread_id == self._thread_id:
            ns = configurable.get("checkpoint_ns")
            unreported = self._memory.unreported(ns)
            if not unreported and self._memory.nothing_older(ns or "", configurable):
                return []
            self._home.will_wait()
            if unreported:
                await self._reporter.applied()
        self._home.will_wait()
        return await reader.several(
            self._pool, self._values.serde, thread_id, config, filter, before, limit, self._migrations
        )

    async def delta_history(self, config: RunnableConfig, channels: Sequence[str]) -> Mapping[str, DeltaChannelHistory]:
        """What these delta channels are rebuilt from at the checkpoint that `config` names."""
        configurable = config["configurable"]
        thread_id, ns = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        if thread_id != self._thread_id:
            self._home.will_wait()
            rows = await reader.chain(self._pool, thread_id, ns, get_checkpoint_id(config), channels)
            return await reader.delta_history(self._pool, self._values.serde, thread_id, rows, channels)
        target = await self._load(ns, get_checkpoint_id(config), configurable)
        if target is None:
            return {name: {"writes": []} for name in channels}
        found = self._memory.chain(target, channels)
        if found is None:
            self._home.will_wait()
            if self._memory.unreported(ns):
                await self._reporter.applied()
            found = await reader.chain(self._pool, thread_id, ns, target.checkpoint_id, channels)
        blobs = await self._blobs(reader.chain_references(found, channels))
        return reader.histories(found, channels, blobs, self._values)
