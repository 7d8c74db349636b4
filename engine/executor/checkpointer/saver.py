"""LangGraph's checkpointer for one run attempt: puts go to the log, loads come from memory or the read models."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol, maybe_add_typed_methods
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from threadlog.engine.domain.cancelling import TASK_CANCELLED
from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.encryption.field_cipher import has_field_token
from threadlog.engine.executor.checkpointer import pending as standing
from threadlog.engine.executor.checkpointer.cache import CheckpointCache
from threadlog.engine.executor.checkpointer.loading import Loader
from threadlog.engine.executor.checkpointer.next_tasks import (
    NextTasks,
    NodeOrder,
    commanded,
    described,
    node_order,
    plan_of,
    plan_of_snapshot,
)
from threadlog.engine.executor.checkpointer.ports import Reporter, StatefulGraph
from threadlog.engine.executor.checkpointer.reader import Stored, config_of
from threadlog.engine.executor.checkpointer.records import plain_checkpoint, plain_metadata, without_content
from threadlog.engine.executor.checkpointer.sending import Sender
from threadlog.engine.executor.checkpointer.serde import inline
from threadlog.engine.executor.checkpointer.stored_types import default_serializer
from threadlog.engine.executor.checkpointer.sync_bridge import (
    MustWait,
    SyncCheckpointer,
    from_anywhere,
    listed_from_anywhere,
)
from threadlog.engine.executor.checkpointer.values import PendingBlobs, Values
from threadlog.engine.executor.errors import shown_in_state
from threadlog.engine.executor.langgraph_internals import CONFIG_KEY_DURABILITY, DeltaChannelHistory
from threadlog.engine.executor.state_migrations import StateMigrations
from threadlog.engine.log.port import Log
from threadlog.engine.stored.tasks import ERROR, INTERRUPT, NULL_TASK
from threadlog.engine.stored.value_refs import Reference, text_reference
from threadlog.engine.user_code.migrations_section import FIRST_VERSION

logger = logging.getLogger(__name__)


_CANCELLED = text_reference(TASK_CANCELLED)
_NO_ERROR = (WRITES_IDX_MAP[ERROR], ERROR, inline("null", b""))
_PLANS_WAITING = 16


@dataclass(frozen=True, slots=True)
class _Put:
    checkpoint: Stored
    item: dict[str, Any]
    draft: PendingBlobs
    configurable: Mapping[str, Any]


class ThreadlogSaver(SyncCheckpointer):
    """The checkpointer of one run attempt on one thread.

    Puts are encoded at once (only changed channels), handed to `reporter` and kept in memory until they can be read
    back. With durability "sync" (of the graph's call, or `sync`) a put returns when it is durable. `fresh`: the thread
    has no checkpoint yet, so nothing has to be looked up. `migrations`: of the graph, for what is loaded. Made on the
    event loop that runs the graph; may be called from other threads and loops (see `SyncCheckpointer`).

    Raises from puts: `UnserializableState`. Writing to another thread raises `ValueError`, reading it is allowed.
    """

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        log: Log,
        reporter: Reporter,
        thread_id: str,
        run_id: str | None,
        partition: int,
        fresh: bool,
        sync: bool = False,
        serde: SerializerProtocol | None = None,
        migrations: StateMigrations | None = None,
        key: DataKey | None = None,
        plain_metadata_names: Collection[str] = (),
    ) -> None:
        """`key`: of the thread's content; the reporter encrypts what it is given, here only large values are. Of
        checkpoints' metadata these names are then stored, besides LangGraph's own (`records.without_content`)."""
        self._plain_names = None if key is None else frozenset(plain_metadata_names)
        super().__init__(serde=serde or default_serializer())
        self.thread_id, self.run_id = str(thread_id), run_id
        self._reporter, self._sync = reporter, sync
        self._version = FIRST_VERSION if migrations is None else migrations.present
        self._values = Values(self.serde, naming_key=b"" if key is None else key.naming_key)
        self._memory = CheckpointCache(fresh=fresh)
        self._sender = Sender(
            log,
            partition,
            self.thread_id,
            values=self._values,
            reporter=reporter,
            home=self._home,
            key=key,
        )
        self._loader = Loader(
            pool,
            self.thread_id,
            memory=self._memory,
            values=self._values,
            reporter=reporter,
            home=self._home,
            migrations=migrations,
        )
        self._plans: dict[str, OrderedDict[str, NextTasks]] = {}  # ns -> of checkpoints that are not put yet
        self._order: NodeOrder | None = None
        self._unplanned: _Put | None = None  # put, and not sent: its tasks are not known yet

    def runs(self, graph: Pregel[Any, Any, Any, Any]) -> None:
        """Whose checkpoints these are: states tell tasks in the order of its nodes; `planned` gets all its events."""
        self._order = node_order(graph)

    @property
    def head(self) -> str | None:
        """The newest root checkpoint put or loaded."""
        return self._memory.head

    def next(self) -> list[str]:
        """Names of the tasks that still have to run after the newest root checkpoint."""
        return standing.next_tasks(self._memory)

    def keeps(self, channels: Collection[str]) -> bool:
        """Whether clients can read all of these, and nothing else, from the newest root checkpoint."""
        newest = self._memory.get("", self._memory.head)
        if newest is None or not isinstance(newest.out, list) or newest.shown:
            return False
        return set(channels) == {name for name in newest.out if name in newest.channels}

    def interrupts(self) -> dict[str, list[dict[str, Any]]]:
        """Interrupts that wait for an answer, `{id, value}` in JSON, by the task that raised them."""
        return standing.interrupts(self._memory)

    # --- putting -------------------------------------------------------------------------------------

    @from_anywhere
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        ns, parent_id = self._own(config)
        sync = self._sync or config["configurable"].get(CONFIG_KEY_DURABILITY) == "sync"
        if sync:
            self._home.will_wait()
        draft = PendingBlobs()
        put = Stored(
            ns=ns,
            checkpoint_id=checkpoint["id"],
            parent_id=parent_id,
            checkpoint=plain_checkpoint(checkpoint, self._version),
            metadata=self._metadata(config, metadata),
            channels=self._channels(self._memory.get(ns, parent_id), checkpoint, new_versions, draft),
            live=checkpoint["channel_values"],
        )
        item = {
            "kind": "checkpoint",
            "ns": ns,
            "checkpoint_id": put.checkpoint_id,
            "parent_id": parent_id,
            "metadata": put.metadata,
            "checkpoint": put.checkpoint,
            "channels": put.channels,
        }
        await self._keep_unplanned()
        found = _Put(put, item, draft, config["configurable"])
        waiting = self._plans.get(ns)
        plan = waiting.pop(put.checkpoint_id, None) if waiting else None
        if plan is None and self._order is not None and not (ns or sync):
            self._unplanned = found
            return config_of(self.thread_id, ns, put.checkpoint_id)
        await self._keep(found)
        if plan is not None:
            self._describe(put, plan)
        if sync:
            await self.flush()
        return config_of(self.thread_id, ns, put.checkpoint_id)

    def _metadata(self, config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
        plain, names = plain_metadata(config, metadata), self._plain_names
        if names is None:
            return plain
        shown = without_content(plain, names)
        if has_field_token(orjson.dumps(shown)):  # of `configurable`, where any text may stand
            shown = {name: value for name, value in shown.items() if not has_field_token(orjson.dumps(value))}
        return shown

    async def _keep(self, found: _Put) -> None:
        await self._sender.send(found.item, found.draft)
        self._memory.put(found.checkpoint, found.configurable)

    async def _keep_unplanned(self) -> None:
        """The newest root checkpoint is not the attempt's last: LangGraph went on from it, or is asked about it."""
        found, self._unplanned = self._unplanned, None
        if found is not None:
            try:
                await self._keep(found)
            except MustWait:  # the call is repeated where it can wait
                self._unplanned = found
                raise

    @from_anywhere
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        ns, checkpoint_id = self._own(config)
        if checkpoint_id is None:
            raise ValueError("writes need the checkpoint_id they belong to")
        if self._unplanned is not None and self._unplanned.checkpoint.checkpoint_id == checkpoint_id:
            await self._keep_unplanned()
        draft = PendingBlobs()
        encoded: list[tuple[int, str, Reference]] = [
            (WRITES_IDX_MAP.get(channel, idx), channel, self._values.reference(channel, _kept(channel, value), draft))
            for idx, (channel, value) in enumerate(writes)
        ]
        if self._memory.error(ns, checkpoint_id, task_id) == _CANCELLED and all(c != ERROR for c, _ in writes):
            encoded.append(_NO_ERROR)  # an earlier run of the task was cancelled, this one got further
        item = {
            "kind": "writes",
            "ns": ns,
            "checkpoint_id": checkpoint_id,
            "task_id": task_id,
            "task_path": task_path,
            "writes": encoded,
        }
        await self._sender.send(item, draft)
        for channel, value in writes:
            if channel == INTERRUPT:
                self._memory.raised(ns, checkpoint_id, task_id, value)
            if channel in (INTERRUPT, ERROR):
                self._memory.ended(ns, checkpoint_id, task_id)
        known = self._memory.wrote(ns, checkpoint_id, task_id, task_path, encoded)
        if known is not None and known.again is not None and task_id == NULL_TASK and commanded(known):
            self._describe(known, known.again)

    def _channels(
        self, parent: Stored | None, checkpoint: Checkpoint, new_versions: ChannelVersions, draft: PendingBlobs
    ) -> dict[str, Reference]:
        """References of all channels: new ones for what changed, the parent's for the rest."""
        values = checkpoint["channel_values"]
        before = parent.checkpoint["channel_versions"] if parent else {}
        stored = parent.channels if parent else {}
        channels: dict[str, Reference] = {}
        for name, version in checkpoint["channel_versions"].items():
            if name in stored and name not in new_versions and before.get(name) == version:
                channels[name] = stored[name]
            elif name in values:
                channels[name] = self._values.reference(name, values[name], draft)
        return channels

    async def cancelled(self, *, continues: bool) -> None:
        """The tasks under way were cancelled with the attempt: that is their error, as LangGraph has it when it streams
        messages itself. `continues`: the attempt began with tasks of checkpoints that were there before.
        """
        for checkpoint, task in list(standing.under_way(self._memory, continues=continues)):
            config = config_of(self.thread_id, checkpoint.ns, checkpoint.checkpoint_id)
            await self.aput_writes(config, [(ERROR, asyncio.CancelledError())], task["id"])

    async def flush(self) -> None:
        """Everything put so far is durable."""
        self._home.will_wait()
        await self._keep_unplanned()
        await self._sender.caught_up()
        await self._reporter.flush()

    # --- what runs next, what clients see --------------------------------------------------------------

    def planned(self, ns: str | Sequence[str], payload: Mapping[str, Any]) -> None:
        """A `checkpoints` stream event of the graph: the tasks that follow a checkpoint and what clients see of it."""
        if not self._home.here:  # of a graph that a node thread has called
            self._loop.call_soon_threadsafe(self.planned, ns, payload)
            return
        if self._guard.locked():
            self._let_pass()
        plan = plan_of(ns if isinstance(ns, str) else "|".join(ns), payload)
        found = self._unplanned
        if found is not None and found.checkpoint.checkpoint_id == plan.checkpoint_id:
            self._unplanned = None
            self._memory.put(found.checkpoint, found.configurable)
            self._sender.send_behind(found.item, found.draft)
        known = self._memory.get(plan.ns, plan.checkpoint_id)
        if known is not None:
            if known.tasks is None or commanded(known):
                self._describe(known, plan)
            else:
                known.again = plan
        elif not self._memory.is_mine(plan.checkpoint_id):
            waiting = self._plans.setdefault(plan.ns, OrderedDict())
            waiting[plan.checkpoint_id] = plan
            if len(waiting) > _PLANS_WAITING:  # durability "exit" puts only the last one
                waiting.popitem(last=False)

    async def finish(
        self, graph: StatefulGraph | None = None, config: RunnableConfig | None = None, *, failed: bool = False
    ) -> None:
        """Complete what the API shows of the newest state. Await it once, before the attempt's last report.

        `failed`: the graph raised. A root checkpoint from which it could not even tell the next tasks is then dropped:
        every later run on the thread would fail on it, whatever its input (a pydantic state holds what its schema
        refuses). States then show the one before, without what the superstep has written. With durability "sync" it is
        in the log by then, and stays.

        With a `graph` (compiled with this checkpointer) its own view of the newest state is asked for where the puts
        and events of the attempt don't tell it: after a state update, and when a superstep is left half done.
        """
        refused = failed and self._unplanned is not None
        if refused:
            self._unplanned = None
        await self._keep_unplanned()
        if graph is not None and not refused and standing.unclear(self._memory):
            configurable = {
                k: v
                for k, v in (config or {}).get("configurable", {}).items()
                if k not in ("checkpoint_id", "checkpoint_map")
            }
            configurable |= {"thread_id": self.thread_id, "checkpoint_ns": ""}
            try:
                self._describe_all(
                    await graph.aget_state({**(config or {}), "configurable": configurable}, subgraphs=True)
                )
            except Exception:  # the user's code: what has been done stands all the same
                fields = {"thread_id": self.thread_id}
                logger.exception("thread %s: the graph can't tell its state", self.thread_id, extra=fields)
        await self._sender.caught_up()

    def _describe_all(self, snapshot: StateSnapshot) -> None:
        configurable = snapshot.config.get("configurable", {})
        known = self._memory.get(configurable.get("checkpoint_ns", ""), configurable.get("checkpoint_id"))
        if known is not None:
            self._describe(known, plan_of_snapshot(known, snapshot), final=True)
        for task in snapshot.tasks:
            if isinstance(task.state, StateSnapshot):
                self._describe_all(task.state)

    def _describe(self, known: Stored, plan: NextTasks, *, final: bool = False) -> None:
        """Report the tasks after a checkpoint, and the values clients see where they differ from the stored ones."""
        draft = PendingBlobs()
        found = described(known, plan, self._values, draft, final=final, order=self._order)
        before = known.tasks, known.out, known.shown
        known.tasks, known.out, known.shown = found["tasks"], found["out"], found["shown"]
        known.live = known.again = None
        if before == (known.tasks, known.out, known.shown):
            return
        if found["shown"] is None:
            del found["shown"]
        item = {"kind": "tasks", "ns": known.ns, "checkpoint_id": known.checkpoint_id, **found}
        self._sender.send_behind(item, draft)

    # --- loading ---------------------------------------------------------------------------------------

    @from_anywhere
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if str(config["configurable"]["thread_id"]) == self.thread_id:
            await self._keep_unplanned()
        return await self._loader.one(config)

    @listed_from_anywhere
    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        if limit is not None and limit <= 0:
            return
        configurable = config["configurable"] if config else {}
        if str(configurable.get("thread_id", self.thread_id)) == self.thread_id:
            await self._keep_unplanned()
        for found in await self._loader.several(config, filter, before, limit):
            yield found

    @from_anywhere
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        if not channels:
            return {}
        if str(config["configurable"]["thread_id"]) == self.thread_id:
            await self._keep_unplanned()
        return await self._loader.delta_history(config, channels)

    # --- deleting --------------------------------------------------------------------------------------

    @from_anywhere
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs on this thread."""
        if run_ids:
            await self._delete({"kind": "delete", "what": "run", "run_ids": [str(run_id) for run_id in run_ids]})

    @from_anywhere
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace (and what its delta channels need)."""
        if not thread_ids:
            return
        if strategy != "keep_latest" or {str(t) for t in thread_ids} != {self.thread_id}:
            raise ValueError("a run can only prune its own thread, and only to its latest state; use the API for more")
        await self._delete({"kind": "delete", "what": "prune"})

    @from_anywhere
    async def adelete_thread(self, thread_id: str) -> None:
        raise ValueError("a run can't delete a thread; use the API")

    @from_anywhere
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        raise ValueError("a run can't copy a thread; use the API")

    async def _delete(self, item: dict[str, Any]) -> None:
        self._home.will_wait()
        await self._keep_unplanned()
        self._reporter.add(item)
        await self._reporter.applied()
        self._memory.clear()
        self._values.forget()

    # -----------------------------------------------------------------------------------------------------

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> ThreadlogSaver:
        """Widen the serializer's allow-list in place: the attempt has one checkpointer."""
        widened = super().with_allowlist(extra_allowlist)
        if widened is not self:
            self.serde = self._values.serde = maybe_add_typed_methods(widened.serde)
        return self

    def _own(self, config: RunnableConfig) -> tuple[str, str | None]:
        configurable = config["configurable"]
        if str(configurable["thread_id"]) != self.thread_id:
            raise ValueError(
                f"this run belongs to thread {self.thread_id} and can't write to thread {configurable['thread_id']}: "
                "start a run on that thread instead"
            )
        return configurable.get("checkpoint_ns", ""), configurable.get("checkpoint_id")


def _kept(channel: str, value: Any) -> Any:
    """What is stored of a write: an error's text may not be for clients."""
    return shown_in_state(value) if channel == ERROR else value
