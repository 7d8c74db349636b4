"""LangGraph's checkpointer for one run attempt: puts go to the log, loads come from memory or the read models."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Protocol

import asyncpg
import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol, maybe_add_typed_methods
from langgraph.types import StateSnapshot

from engine.executor import loads
from engine.executor.bridge import Bridged
from engine.executor.jsonable import dumps
from engine.executor.loads import Stored, Writes, config_of, ordered
from engine.executor.plans import Plan, commanded, described, half_done, plan_of, plan_of_snapshot
from engine.executor.serde import Blob, default_serializer
from engine.executor.values import Draft, ValueLost, Values
from engine.log.port import Append, Log, LogUnavailable, Topic
from engine.references import Reference, needed
from engine.tasks import NULL_TASK, TaskStatus, namespace, statuses

logger = logging.getLogger(__name__)

_CHECKPOINTS_KEPT = 64
_PLANS_WAITING = 16
_BACK_OFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class Reporter(Protocol):
    """Where the items of an attempt go (`engine.executor.reporter`)."""

    def add(self, item: dict[str, Any]) -> None:
        """Report this, after everything added before. Buffered."""

    async def flush(self) -> None:
        """Everything added so far is durably in the log when this returns."""

    async def applied(self) -> None:
        """Everything added so far is in the log and projected when this returns."""


class Graph(Protocol):
    """What `finish` asks of a compiled graph."""

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot: ...


class ThreadlogSaver(Bridged):
    """The checkpointer of one run attempt on one thread.

    Puts are encoded at once (only changed channels), handed to `reporter` and kept in memory until they can be read
    back. `sync`: a put returns when it is durable (durability "sync"). `fresh`: the thread has no checkpoint yet, so
    nothing has to be looked up. Made on the event loop that runs the graph; the synchronous methods may be called from
    any thread, from the loop's own only if no waiting is needed.

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
    ) -> None:
        super().__init__(serde=serde or default_serializer())
        self._pool, self._log, self._reporter = pool, log, reporter
        self.thread_id, self.run_id = str(thread_id), run_id
        self._partition, self._fresh, self._sync = partition, fresh, sync
        self._values = Values(self.serde)
        self._entries: OrderedDict[tuple[str, str], Stored] = OrderedDict()
        self._latest: dict[str, str] = {}  # ns -> newest checkpoint, where that is known
        self._mine: set[str] = set()  # checkpoints put by this attempt
        self._put_into: set[str] = set()  # namespaces with puts of this attempt
        self._early: dict[tuple[str, str], Writes] = {}  # writes of this attempt to checkpoints that are not in memory
        self._plans: dict[str, OrderedDict[str, Plan]] = {}  # ns -> of checkpoints that are not put yet
        self._behind: set[asyncio.Task[None]] = set()
        self.head: str | None = None

    # --- putting -------------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        ns, parent_id = self._own(config)
        if self._sync:
            self._will_wait()
        draft = Draft()
        entry = Stored(
            ns=ns,
            checkpoint_id=checkpoint["id"],
            parent_id=parent_id,
            checkpoint=_plain_checkpoint(checkpoint),
            metadata=_plain_metadata(config, metadata),
            channels=self._channels(ns, parent_id, checkpoint, new_versions, draft),
            live=checkpoint["channel_values"],
        )
        await self._send(
            {
                "kind": "checkpoint",
                "ns": ns,
                "checkpoint_id": entry.checkpoint_id,
                "parent_id": parent_id,
                "metadata": entry.metadata,
                "checkpoint": entry.checkpoint,
                "channels": entry.channels,
            },
            draft,
        )
        self._remember(entry, config["configurable"])
        if (waiting := self._plans.get(ns)) and (plan := waiting.pop(entry.checkpoint_id, None)):
            self._describe(entry, plan)
        if self._sync:
            await self.flush()
        return config_of(self.thread_id, ns, entry.checkpoint_id)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        ns, checkpoint_id = self._own(config)
        if checkpoint_id is None:
            raise ValueError("writes need the checkpoint_id they belong to")
        draft = Draft()
        encoded: list[tuple[int, str, Reference]] = [
            (WRITES_IDX_MAP.get(channel, idx), channel, self._values.reference(channel, value, draft))
            for idx, (channel, value) in enumerate(writes)
        ]
        await self._send(
            {
                "kind": "writes",
                "ns": ns,
                "checkpoint_id": checkpoint_id,
                "task_id": task_id,
                "task_path": task_path,
                "writes": encoded,
            },
            draft,
        )
        entry = self._entries.get((ns, checkpoint_id))
        kept = self._early.setdefault((ns, checkpoint_id), {}) if entry is None else entry.writes
        for idx, channel, reference in encoded:
            # As the read model does it: the first regular write of an index stays, a special one is replaced.
            if idx < 0 or (task_id, idx) not in kept:
                kept[task_id, idx] = (task_path, channel, reference)
        if entry is not None and entry.again is not None and task_id == NULL_TASK and commanded(entry):
            self._describe(entry, entry.again)

    def _channels(
        self, ns: str, parent_id: str | None, checkpoint: Checkpoint, new_versions: ChannelVersions, draft: Draft
    ) -> dict[str, Reference]:
        """References of all channels: new ones for what changed, the parent's for the rest."""
        values = checkpoint["channel_values"]
        parent = self._entries.get((ns, parent_id)) if parent_id else None
        before = parent.checkpoint["channel_versions"] if parent else {}
        channels: dict[str, Reference] = {}
        for name, version in checkpoint["channel_versions"].items():
            if (
                parent is not None
                and name not in new_versions
                and name in parent.channels
                and before.get(name) == version
            ):
                channels[name] = parent.channels[name]
            elif name in values:
                channels[name] = self._values.reference(name, values[name], draft)
        return channels

    async def _send(self, item: dict[str, Any], draft: Draft) -> None:
        """Hand an item over with the values it needs; large ones are durable in the `values` topic before."""
        if not self._sent_at_once(item, draft):
            self._will_wait()
            await draft.seal_aside()
            item["blobs"] = draft.items(await self._append_large(draft))
            self._reporter.add(item)
            self._values.commit(draft)

    def _sent_at_once(self, item: dict[str, Any], draft: Draft) -> bool:
        """Hand an item over if that needs no waiting."""
        if draft.raw:
            if draft.big:
                return False
            draft.seal()
            if draft.large():
                return False
            item["blobs"] = draft.items({})
        self._reporter.add(item)
        self._values.commit(draft)
        return True

    async def _append_large(self, draft: Draft) -> dict[str, int]:
        names = draft.large()
        records = [Append(Topic.VALUES, self._partition, self.thread_id, draft.sealed[n].data) for n in names]
        failures = 0
        while True:
            try:
                return dict(zip(names, await self._log.append(records), strict=True))
            except LogUnavailable as error:  # appending a value twice does no harm
                if failures % 20 == 0:
                    logger.warning("thread %s: append of %d values failed: %s", self.thread_id, len(names), error)
                await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)])
                failures += 1

    def _remember(self, entry: Stored, configurable: Mapping[str, Any]) -> None:
        ns, checkpoint_id = entry.ns, entry.checkpoint_id
        entry.writes = self._early.pop((ns, checkpoint_id), {})
        self._mine.add(checkpoint_id)
        self._put_into.add(ns)
        self._keep(entry)
        if ns in self._latest or self._nothing_stored(ns, configurable):
            self._latest[ns] = max(checkpoint_id, self._latest.get(ns, ""))
        if not ns:
            self.head = max(checkpoint_id, self.head or "")

    def _keep(self, entry: Stored) -> None:
        self._entries[entry.ns, entry.checkpoint_id] = entry
        self._entries.move_to_end((entry.ns, entry.checkpoint_id))
        while len(self._entries) > _CHECKPOINTS_KEPT:
            self._entries.popitem(last=False)

    # --- what runs next --------------------------------------------------------------------------------

    def planned(self, ns: str | Sequence[str], payload: Mapping[str, Any]) -> None:
        """A `checkpoints` stream event of the graph: the tasks that follow a checkpoint and what clients see of it."""
        if not self._on_loop:  # of a graph that a node thread has called
            self._loop.call_soon_threadsafe(self.planned, ns, payload)
            return
        plan = plan_of(ns if isinstance(ns, str) else "|".join(ns), payload)
        entry = self._entries.get((plan.ns, plan.checkpoint_id))
        if entry is not None:
            if entry.tasks is None or commanded(entry):
                self._describe(entry, plan)
            else:
                entry.again = plan
            return
        if plan.checkpoint_id in self._mine:
            return  # put long ago, described then
        waiting = self._plans.setdefault(plan.ns, OrderedDict())
        waiting[plan.checkpoint_id] = plan
        if len(waiting) > _PLANS_WAITING:  # durability "exit" puts only the last one
            waiting.popitem(last=False)

    async def finish(self, graph: Graph | None = None, config: RunnableConfig | None = None) -> None:
        """Complete what the API shows of the newest state. Await it once, before the attempt's last report.

        With a `graph` (compiled with this checkpointer) its own view of the newest state is asked for where the puts
        and events of the attempt don't tell it: after a state update, and when a superstep is left half done.
        """
        if graph is not None and self._unclear():
            await self._ask(graph, config)
        while self._behind:
            await asyncio.gather(*self._behind)

    async def flush(self) -> None:
        """Everything put so far is durable."""
        self._will_wait()
        while self._behind:
            await asyncio.gather(*self._behind)
        await self._reporter.flush()

    async def _ask(self, graph: Graph, config: RunnableConfig | None) -> None:
        configurable = {
            k: v
            for k, v in (config or {}).get("configurable", {}).items()
            if k not in ("checkpoint_id", "checkpoint_map", "checkpoint_ns")
        }
        configurable |= {"thread_id": self.thread_id, "checkpoint_ns": ""}
        snapshot = await graph.aget_state({**(config or {}), "configurable": configurable}, subgraphs=True)
        self._describe_snapshot(snapshot)

    def _unclear(self) -> bool:
        head = self._entries.get(("", self.head or ""))
        return head is not None and (head.tasks is None or self._half_done(head))

    def _half_done(self, entry: Stored) -> bool:
        """Whether writes are pending whose effect on the values only the graph knows, here or in a subgraph."""
        return half_done(entry) or any(
            self._half_done(child)
            for task in entry.tasks or ()
            if task.get("sub") and (child := self._newest(namespace(entry.ns, task))) is not None
        )

    def _newest(self, ns: str) -> Stored | None:
        return self._entries.get((ns, self._latest.get(ns, "")))

    def _describe_snapshot(self, snapshot: StateSnapshot) -> None:
        configurable = snapshot.config.get("configurable", {})
        entry = self._entries.get((configurable.get("checkpoint_ns", ""), configurable.get("checkpoint_id", "")))
        if entry is not None:
            self._describe(entry, plan_of_snapshot(entry, snapshot), final=True)
        for task in snapshot.tasks:
            if isinstance(task.state, StateSnapshot):
                self._describe_snapshot(task.state)

    def _describe(self, entry: Stored, plan: Plan, *, final: bool = False) -> None:
        """Report the tasks after a checkpoint, and the values clients see where they differ from the stored ones."""
        draft = Draft()
        found = described(entry, plan, self._values, draft, final=final)
        entry.tasks, entry.out, entry.shown, entry.live = found["tasks"], found["out"], found["shown"], None
        entry.again = None
        if found["shown"] is None:
            del found["shown"]
        item = {"kind": "tasks", "ns": entry.ns, "checkpoint_id": entry.checkpoint_id, **found}
        if not self._sent_at_once(item, draft):
            task = asyncio.ensure_future(self._send(item, draft))
            self._behind.add(task)
            task.add_done_callback(self._behind.discard)

    # --- what the attempt leaves -----------------------------------------------------------------------

    def next(self) -> list[str]:
        """Names of the tasks that still have to run after the newest root checkpoint."""
        head = self._entries.get(("", self.head or ""))
        if head is None or head.tasks is None:
            return []
        found = self._statuses(head)
        return [task["name"] for task in head.tasks if not found.get(task["id"], TaskStatus()).finished]

    def interrupts(self) -> dict[str, list[dict[str, Any]]]:
        """Interrupts that wait for an answer, by the task that raised them (in the deepest subgraph): `{id, value}`."""
        head = self._entries.get(("", self.head or ""))
        out: dict[str, list[dict[str, Any]]] = {}
        if head is not None:
            for interrupt_id, (task_id, value) in self._pending(head).items():
                out.setdefault(task_id, []).append({"id": interrupt_id, "value": value})
        return out

    def _pending(self, entry: Stored) -> dict[str, tuple[str, Any]]:
        found = self._statuses(entry)
        out: dict[str, tuple[str, Any]] = {}
        for task in entry.tasks or ():
            status = found.get(task["id"])
            if status is None or status.finished or not status.interrupts:
                continue
            mine = {i.id: (task["id"], orjson.loads(dumps(i.value))) for i in self._interrupts_of(status)}
            prefix = namespace(entry.ns, task)
            for ns in self._latest:
                if (ns == prefix or (ns.startswith(prefix + "|") and ns[len(prefix) + 1 :].isdigit())) and (
                    child := self._newest(ns)
                ) is not None:
                    mine.update((k, v) for k, v in self._pending(child).items() if k in mine)
            out |= mine
        return out

    def _statuses(self, entry: Stored) -> dict[str, TaskStatus]:
        return statuses((task_id, channel, ref) for task_id, channel, ref in ordered(entry.writes))

    def _interrupts_of(self, status: TaskStatus) -> list[Any]:
        out: list[Any] = []
        for reference in status.interrupts:
            try:
                value = self._values.value(reference, self._values.kept(needed((reference,))))
            except ValueLost:
                logger.warning("thread %s: an interrupt's value is no longer in memory", self.thread_id)
                continue
            out += value if isinstance(value, list | tuple) else [value]
        return out

    # --- loading ---------------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        configurable = config["configurable"]
        if (thread_id := str(configurable["thread_id"])) != self.thread_id:
            self._will_wait()
            return await loads.one_of_thread(self._pool, self.serde, thread_id, config)
        ns, checkpoint_id = configurable.get("checkpoint_ns", ""), get_checkpoint_id(config)
        entry = await self._load(ns, checkpoint_id, configurable)
        return None if entry is None else await self._tuple(entry)

    async def _load(self, ns: str, checkpoint_id: str | None, configurable: Mapping[str, Any]) -> Stored | None:
        wanted = checkpoint_id or self._latest.get(ns)
        if wanted is not None:
            if (entry := self._entries.get((ns, wanted))) is not None:
                return entry
            if checkpoint_id is not None and self._fresh and wanted not in self._mine:
                return None
            self._will_wait()
            if wanted in self._mine or (ns, wanted) in self._early:
                await self._reporter.applied()
        elif ns in self._put_into:
            self._will_wait()
            await self._reporter.applied()
        elif self._nothing_stored(ns, configurable):
            return None
        self._will_wait()
        entry = await loads.row(self._pool, self.thread_id, ns, wanted)
        if entry is None:
            return None
        known = self._entries.get((ns, entry.checkpoint_id))
        if known is None:
            self._keep(known := entry)
            self._early.pop((ns, entry.checkpoint_id), None)
        if wanted is None:
            self._latest[ns] = max(known.checkpoint_id, self._latest.get(ns, ""))
            if not ns:
                self.head = max(known.checkpoint_id, self.head or "")
        elif not ns and self.head is None:
            self.head = known.checkpoint_id
        return known

    def _nothing_stored(self, ns: str, configurable: Mapping[str, Any]) -> bool:
        """Whether this namespace can't have checkpoints from before this attempt.

        That is so on a fresh thread, and in the namespace of a task whose checkpoint this attempt has put: task ids
        are derived from it. Namespaces without a task id (subgraphs with a memory of their own) are older.
        """
        if self._fresh:
            return True
        parents = configurable.get("checkpoint_map") or {}
        above = ""
        for part in ns.split("|"):
            if ":" in part and parents.get(above) in self._mine:
                return True
            above = f"{above}|{part}" if above else part
        return False

    async def _tuple(self, entry: Stored) -> CheckpointTuple:
        writes = ordered(entry.writes)
        references = [*entry.channels.values(), *(reference for _, _, reference in writes)]
        blobs = await self._blobs(references)
        channel_values = {name: self._values.value(ref, blobs) for name, ref in entry.channels.items()}
        pending = [(task_id, channel, self._values.value(ref, blobs)) for task_id, channel, ref in writes]
        for name, reference in entry.channels.items():
            self._values.learn(reference, channel_values[name])
        return entry.tuple(self.thread_id, channel_values, pending)

    async def _blobs(self, references: Sequence[Reference]) -> dict[str, Blob]:
        names = needed(references)
        blobs = self._values.kept(names)
        if missing := names - blobs.keys():
            self._will_wait()
            blobs |= await loads.blobs(self._pool, self.thread_id, missing)
            if missing := names - blobs.keys():  # put by this attempt and dropped from memory
                await self._reporter.applied()
                blobs |= await loads.blobs(self._pool, self.thread_id, missing)
        return blobs

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        configurable = config["configurable"] if config else {}
        thread_id = str(configurable.get("thread_id", self.thread_id))
        if limit is not None and limit <= 0:
            return
        if thread_id == self.thread_id:
            ns = configurable.get("checkpoint_ns")
            if ns is not None and ns not in self._put_into and self._nothing_stored(ns, configurable):
                return
            self._will_wait()
            if self._put_into or self._early:
                await self._reporter.applied()
        self._will_wait()
        for found in await loads.several(self._pool, self.serde, thread_id, config, filter, before, limit):
            yield found

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        if not channels:
            return {}
        configurable = config["configurable"]
        thread_id, ns = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        if thread_id != self.thread_id:
            self._will_wait()
            rows = await loads.chain(self._pool, thread_id, ns, get_checkpoint_id(config), channels)
            return await loads.delta_history(self._pool, self.serde, thread_id, rows, channels)
        target = await self._load(ns, get_checkpoint_id(config), configurable)
        if target is None:
            return {name: {"writes": []} for name in channels}
        found = self._chain_in_memory(target, channels)
        if found is None:
            self._will_wait()
            await self._reporter.applied()
            found = await loads.chain(self._pool, thread_id, ns, target.checkpoint_id, channels)
        return loads.histories(
            found, channels, await self._blobs(loads.chain_references(found, channels)), self._values
        )

    def _chain_in_memory(self, target: Stored, channels: Sequence[str]) -> list[Stored] | None:
        """The ancestors to walk for these channels, nearest first; None if not all of them are in memory."""
        chain: list[Stored] = []
        remaining, parent_id = set(channels), target.parent_id
        while remaining and parent_id is not None:
            entry = self._entries.get((target.ns, parent_id))
            if entry is None:
                return None
            chain.append(entry)
            remaining -= entry.channels.keys()
            parent_id = entry.parent_id
        return chain

    # --- deleting --------------------------------------------------------------------------------------

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs on this thread."""
        if run_ids:
            await self._delete({"kind": "delete", "what": "run", "run_ids": [str(run_id) for run_id in run_ids]})

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace (and what its delta channels need)."""
        if not thread_ids:
            return
        if strategy != "keep_latest" or {str(t) for t in thread_ids} != {self.thread_id}:
            raise ValueError("a run can only prune its own thread, and only to its latest state; use the API for more")
        await self._delete({"kind": "delete", "what": "prune"})

    async def _delete(self, item: dict[str, Any]) -> None:
        self._will_wait()
        self._reporter.add(item)
        await self._reporter.applied()
        self._entries.clear()
        self._latest.clear()
        self._values.forget()
        self._fresh = False
        self.head = None

    async def adelete_thread(self, thread_id: str) -> None:
        raise ValueError("a run can't delete a thread; use the API")

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        raise ValueError("a run can't copy a thread; use the API")

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


def _plain_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    out = {k: v for k, v in checkpoint.items() if k not in ("channel_values", "pending_sends")}
    if "pending_sends" in checkpoint:
        out["pending_sends"] = []  # older formats only; what is pending stands in the tasks channel
    return out


def _plain_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    """Metadata as LangGraph's savers store it, in plain JSON that jsonb accepts."""
    out: dict[str, Any] = dict(get_serializable_checkpoint_metadata(config, metadata))
    for key, value in out.items():
        if isinstance(value, bool | None) or (isinstance(value, str) and value.isascii()):
            continue
        if type(value) is int and -(2**53) < value < 2**53:
            continue
        out[key] = _without_nul(orjson.loads(dumps(value)))
    return out


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(k): _without_nul(v) for k, v in value.items()}
    return [_without_nul(v) for v in value] if isinstance(value, list) else value
