"""The checkpoints an attempt has put or loaded, for what it reads back and what it leaves behind."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP

from threadlog.engine.executor.checkpointer.reader import Stored, Writes
from threadlog.engine.stored.tasks import ERROR
from threadlog.engine.stored.value_refs import Reference

_CHECKPOINTS_KEPT = 64

Encoded = Sequence[tuple[int, str, Reference]]  # (idx, channel, value)


class CheckpointCache:
    """`fresh`: the thread had no checkpoint before this attempt. `head`: the newest root checkpoint put or loaded."""

    def __init__(self, *, fresh: bool) -> None:
        self.fresh = fresh
        self.head: str | None = None
        self._checkpoints: OrderedDict[tuple[str, str], Stored] = OrderedDict()
        self._newest: dict[str, str] = {}  # namespace -> checkpoint id, where that is known
        self._mine: set[str] = set()  # put by this attempt
        self._mine_in: set[str] = set()  # namespaces of those
        self._early: dict[tuple[str, str], Writes] = {}  # writes of this attempt to checkpoints that are not here
        self._raised: dict[tuple[str, str, str], list[Any]] = {}  # (namespace, checkpoint, task) -> its interrupts
        self._ended: set[tuple[str, str, str]] = set()  # tasks that have failed or asked in this attempt

    # --- filling -------------------------------------------------------------------------------------

    def put(self, checkpoint: Stored, configurable: Mapping[str, Any]) -> None:
        """This attempt has put it, called with this `configurable`."""
        ns, checkpoint_id = checkpoint.ns, checkpoint.checkpoint_id
        checkpoint.writes = self._early.pop((ns, checkpoint_id), {})
        self._mine.add(checkpoint_id)
        self._mine_in.add(ns)
        self._keep(checkpoint)
        if ns in self._newest or self.nothing_older(ns, configurable):
            self._newest[ns] = max(checkpoint_id, self._newest.get(ns, ""))
        if not ns:
            self.head = max(checkpoint_id, self.head or "")

    def loaded(self, checkpoint: Stored, *, newest: bool) -> Stored:
        """It was read from the read models, as the newest of its namespace or by its id; what is known of it."""
        ns, checkpoint_id = checkpoint.ns, checkpoint.checkpoint_id
        known = self._checkpoints.get((ns, checkpoint_id))
        if known is None:
            self._keep(known := checkpoint)
            self._early.pop((ns, checkpoint_id), None)
        if newest:
            self._newest[ns] = max(checkpoint_id, self._newest.get(ns, ""))
        if not ns and (newest or self.head is None):
            self.head = max(checkpoint_id, self.head or "")
        return known

    def wrote(self, ns: str, checkpoint_id: str, task_id: str, task_path: str, writes: Encoded) -> Stored | None:
        """A task's writes; the checkpoint they belong to, if it is here."""
        checkpoint = self._checkpoints.get((ns, checkpoint_id))
        kept = self._early.setdefault((ns, checkpoint_id), {}) if checkpoint is None else checkpoint.writes
        for idx, channel, reference in writes:
            # As the read model does it: the first regular write of an index stays, a special one is replaced.
            if idx < 0 or (task_id, idx) not in kept:
                kept[task_id, idx] = (task_path, channel, reference)
        return checkpoint

    def raised(self, ns: str, checkpoint_id: str, task_id: str, value: Any) -> None:
        """A task's interrupts, as written: one or several. The last ones count."""
        interrupts = list(value) if isinstance(value, list | tuple) else [value]
        self._raised[ns, checkpoint_id, task_id] = interrupts

    def ended(self, ns: str, checkpoint_id: str, task_id: str) -> None:
        """A task has failed, or has asked and waits for an answer."""
        self._ended.add((ns, checkpoint_id, task_id))

    def has_ended(self, checkpoint: Stored, task_id: str) -> bool:
        """Whether a task has failed or asked in this attempt."""
        return (checkpoint.ns, checkpoint.checkpoint_id, task_id) in self._ended

    def clear(self) -> None:
        """Checkpoints may have been deleted: nothing is known any more."""
        self._checkpoints.clear()
        self._newest.clear()
        self._early.clear()
        self._raised.clear()
        self._ended.clear()
        self.fresh, self.head = False, None

    def _keep(self, checkpoint: Stored) -> None:
        self._checkpoints[checkpoint.ns, checkpoint.checkpoint_id] = checkpoint
        if (root := ("", self.head or "")) in self._checkpoints:
            self._checkpoints.move_to_end(root)  # what the attempt leaves is told by the newest root checkpoint
        while len(self._checkpoints) > _CHECKPOINTS_KEPT:
            self._checkpoints.popitem(last=False)

    # --- asking --------------------------------------------------------------------------------------

    def get(self, ns: str, checkpoint_id: str | None) -> Stored | None:
        return self._checkpoints.get((ns, checkpoint_id or ""))

    def newest(self, ns: str) -> str | None:
        """The id of the newest checkpoint of a namespace, if that is known."""
        return self._newest.get(ns)

    def namespaces(self) -> list[str]:
        """Namespaces whose newest checkpoint is known."""
        return list(self._newest)

    def root(self) -> Stored | None:
        """The newest root checkpoint."""
        return self.get("", self.head)

    def interrupts(self, checkpoint: Stored, task_id: str) -> list[Any]:
        """What a task has raised last, answered or not."""
        return self._raised.get((checkpoint.ns, checkpoint.checkpoint_id, task_id), [])

    def error(self, ns: str, checkpoint_id: str, task_id: str) -> Reference | None:
        """The error a task has been left with."""
        checkpoint = self._checkpoints.get((ns, checkpoint_id))
        write = None if checkpoint is None else checkpoint.writes.get((task_id, WRITES_IDX_MAP[ERROR]))
        return None if write is None else write[2]

    def is_mine(self, checkpoint_id: str) -> bool:
        return checkpoint_id in self._mine

    def unreported(self, ns: str | None, checkpoint_id: str | None = None) -> bool:
        """Whether the read models may lack something of this attempt: of a checkpoint, a namespace, or any."""
        if ns is None:
            return bool(self._mine or self._early)
        if checkpoint_id is None:
            return ns in self._mine_in
        return checkpoint_id in self._mine or (ns, checkpoint_id) in self._early

    def nothing_older(self, ns: str, configurable: Mapping[str, Any]) -> bool:
        """Whether a namespace can't have checkpoints from before this attempt.

        That is so on a fresh thread, and in the namespace of a task whose checkpoint this attempt has put: task ids
        are derived from it. Namespaces without a task id (subgraphs with a memory of their own) are older.
        """
        if self.fresh:
            return True
        parents = configurable.get("checkpoint_map") or {}
        above = ""
        for part in ns.split("|"):
            if ":" in part and parents.get(above) in self._mine:
                return True
            above = f"{above}|{part}" if above else part
        return False

    def chain(self, target: Stored, channels: Sequence[str]) -> list[Stored] | None:
        """The ancestors these delta channels are rebuilt from, nearest first; None if not all of them are here."""
        found: list[Stored] = []
        remaining, parent_id = set(channels), target.parent_id
        while remaining and parent_id is not None:
            parent = self.get(target.ns, parent_id)
            if parent is None:
                return None
            found.append(parent)
            remaining -= parent.channels.keys()
            parent_id = parent.parent_id
        return found
