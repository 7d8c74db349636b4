"""Key service of one process: data keys are made, read and cached here; where they are kept, and destroyed, is a port.

A data key is random, kept encrypted with the installation's key, and destroyed with what it belongs to: from then on
nothing that was encrypted with it can be read, wherever copies of it are. Not history, therefore not in the events.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from threadlog.engine.encryption.cipher import DataKey, MasterKeys, WrongKey

logger = logging.getLogger(__name__)

KEPT_SECONDS = 120.0
"""A process remembers a key for so long: it may still show what it has, so long after its destruction."""
_KEPT_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is kept: `wrapped` with the installation key called `wrapped_by`."""

    owner: str
    id: bytes
    wrapped: bytes
    wrapped_by: str


class KeyStore(Protocol):
    """Where data keys are kept. One for each owner at a time."""

    async def current(self, owners: Collection[str]) -> list[WrappedKey]:
        """The keys of those of these owners that have one."""
        ...

    async def by_id(self, ids: Collection[bytes]) -> list[WrappedKey]: ...

    async def add(self, key: WrappedKey, *, of_thread: bool) -> WrappedKey | None:
        """Keeps the key, durably, unless its owner has one by now; returns the one that is kept. `of_thread`: the owner
        is a thread that has to exist, or it is not kept (None)."""
        ...


class Keyring:
    """The data keys that this process knows. Raises what the store raises, and `WrongKey`."""

    def __init__(self, master: MasterKeys, store: KeyStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._master, self._store, self._clock = master, store, clock
        self._known: OrderedDict[bytes, tuple[float, DataKey]] = OrderedDict()

    def known(self, id: bytes) -> DataKey | None:
        """The key of this id, if it has been loaded."""
        found = self._known.get(id)
        return None if found is None else found[1]

    def missing(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those of these keys that have to be loaded (again)."""
        too_old = self._clock() - KEPT_SECONDS
        return {id for id in ids if (found := self._known.get(id)) is None or found[0] < too_old}

    async def load(self, ids: Collection[bytes]) -> None:
        """Makes these keys known; those that were destroyed are forgotten."""
        found = {key.id: key for key in await self._store.by_id(ids)}
        for id in ids:
            if (kept := found.get(id)) is None:
                self._known.pop(id, None)
            else:
                self._unwrapped(kept)

    async def ensure(self, owner: str) -> DataKey:
        """The owner's key, made if it has none; as it is kept now, whatever this process remembers."""
        for kept in await self._store.current([owner]):
            return self._unwrapped(kept)
        key = await self._make(owner, of_thread=False)
        assert key is not None
        return key

    async def of_threads(self, thread_ids: Collection[str]) -> dict[str, DataKey]:
        """The keys of these threads, made for those that have none; without the threads that do not exist (any more),
        and those whose key this installation can't decrypt."""
        keys: dict[str, DataKey] = {}
        kept_keys = {kept.owner: kept for kept in await self._store.current(thread_ids)}
        for thread_id in thread_ids:
            try:
                kept = kept_keys.get(thread_id)
                key = await self._make(thread_id, of_thread=True) if kept is None else self._unwrapped(kept)
            except WrongKey as error:
                logger.error("thread %s: %s", thread_id, error)
            else:
                if key is not None:
                    keys[thread_id] = key
        return keys

    async def _make(self, owner: str, *, of_thread: bool) -> DataKey | None:
        new = DataKey.new(owner)
        wrapped = WrappedKey(owner, new.id, self._master.wrap(new), self._master.name)
        added = await self._store.add(wrapped, of_thread=of_thread)
        return None if added is None else self._unwrapped(added)

    def _unwrapped(self, kept: WrappedKey) -> DataKey:
        before = self._known.get(kept.id)
        key = before[1] if before else self._master.unwrap(kept.owner, kept.id, kept.wrapped, kept.wrapped_by)
        self._known[kept.id] = self._clock(), key
        self._known.move_to_end(kept.id)
        if len(self._known) > _KEPT_KEYS:
            self._known.popitem(last=False)
        return key
