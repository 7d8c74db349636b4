"""Key service of one process: data keys are made, read and cached here; where they are kept, and destroyed, is a port.

A data key is random, kept encrypted with the installation's key, and destroyed with what it belongs to: from then on
nothing that was encrypted with it can be read, wherever copies of it are. Not history, therefore not in the events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from threadlog.engine.encryption.cipher import DataKey, WrongKey
from threadlog.engine.encryption.handlers import EncryptionHandlers, HandlerFailed
from threadlog.engine.encryption_context import CONTEXT, Context

logger = logging.getLogger(__name__)

KEPT_SECONDS = 120.0
"""A process remembers a key for so long: it may still show what it has, so long after its destruction."""
_KEPT_KEYS = 10_000
FAILED_SECONDS = 30.0
"""A key that the application's handlers could not decrypt is asked of them again after this, not with every read."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is kept: `wrapped` with the installation key called `wrapped_by`, or by the application's
    handlers in this `context`."""

    owner: str
    id: bytes
    wrapped: bytes
    wrapped_by: str
    context: Context | None = None


class KeyWrapper(Protocol):
    """What data keys are encrypted with (`engine.encryption.wrapping`). Raises `WrongKey` and `HandlerFailed`."""

    @property
    def names(self) -> list[str]:
        """`wrapped_by` of the keys that it can decrypt."""
        ...

    async def wrap(self, key: DataKey) -> WrappedKey: ...

    async def unwrap(self, kept: WrappedKey) -> tuple[DataKey, WrappedKey | None]:
        """The key, and as what it is to be kept from now on, if not as it is."""
        ...


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

    async def replace(self, key: WrappedKey, new: WrappedKey) -> None:
        """Keeps the same key as `new`, unless it is by now kept otherwise, or destroyed."""
        ...


class Keyring:
    """The data keys that this process knows. Raises what the store and the wrapper raise."""

    def __init__(
        self,
        wrapper: KeyWrapper,
        store: KeyStore,
        *,
        handlers: EncryptionHandlers | None = None,
        field_names: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`handlers`: of the application, if it has some; `field_names`: of the fields that are encrypted wherever
        they stand."""
        self._wrapper, self._store, self._clock = wrapper, store, clock
        self.handlers, self.field_names = handlers, frozenset(field_names)
        self._known: OrderedDict[bytes, tuple[float, DataKey]] = OrderedDict()
        self._unwrapping: dict[bytes, asyncio.Task[DataKey]] = {}
        self._failed: OrderedDict[bytes, float] = OrderedDict()

    def known(self, id: bytes) -> DataKey | None:
        """The key of this id, if it has been loaded."""
        found = self._known.get(id)
        return None if found is None else found[1]

    def missing(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those of these keys that have to be loaded (again)."""
        now = self._clock()
        too_old, failed = now - KEPT_SECONDS, now - FAILED_SECONDS
        return {
            id
            for id in ids
            if ((found := self._known.get(id)) is None or found[0] < too_old) and self._failed.get(id, failed) <= failed
        }

    async def load(self, ids: Collection[bytes]) -> None:
        """Makes these keys known; those that were destroyed are forgotten, and so are those that the application's
        handlers do not decrypt."""
        found = {key.id: key for key in await self._store.by_id(ids)}
        for id in set(ids) - found.keys():
            self._known.pop(id, None)
        await asyncio.gather(*(self._loaded(kept) for kept in found.values()))

    async def ensure(self, owner: str) -> DataKey:
        """The owner's key, made if it has none; as it is kept now, whatever this process remembers."""
        for kept in await self._store.current([owner]):
            return await self._unwrapped(kept)
        key = await self._make(owner, of_thread=False)
        assert key is not None
        return key

    async def context_of(self, owner: str) -> Context | None:
        """The context in which the owner's key was made, None if it has none."""
        for kept in await self._store.current([owner]):
            return kept.context
        return None

    async def of_threads(self, thread_ids: Collection[str]) -> dict[str, DataKey]:
        """The keys of these threads, made for those that have none; without the threads that do not exist (any more),
        and those whose key can't be decrypted here."""
        kept_keys = {kept.owner: kept for kept in await self._store.current(thread_ids)}
        ids = list(thread_ids)
        keys = await asyncio.gather(*(self._of_thread(id, kept_keys.get(id)) for id in ids))
        return {id: key for id, key in zip(ids, keys, strict=True) if key is not None}

    async def _of_thread(self, thread_id: str, kept: WrappedKey | None) -> DataKey | None:
        try:
            return await self._make(thread_id, of_thread=True) if kept is None else await self._unwrapped(kept)
        except (WrongKey, HandlerFailed) as error:
            logger.error("thread %s: %s", thread_id, error)
            return None

    async def _loaded(self, kept: WrappedKey) -> None:
        try:
            await self._unwrapped(kept)
        except HandlerFailed as error:
            logger.error("the data key of %s can't be decrypted: %s", kept.owner, error)

    async def _make(self, owner: str, *, of_thread: bool) -> DataKey | None:
        wrapped = await self._wrapper.wrap(DataKey.new(owner, CONTEXT.get() or None))
        added = await self._store.add(wrapped, of_thread=of_thread)
        # Also one's own: what can't be decrypted is noticed before anything is encrypted with it.
        return None if added is None else await self._unwrapped(added)

    async def _unwrapped(self, kept: WrappedKey) -> DataKey:
        before = self._known.get(kept.id)
        key = before[1] if before else await self._unwrap_once(kept)
        self._known[kept.id] = self._clock(), key
        self._known.move_to_end(kept.id)
        if len(self._known) > _KEPT_KEYS:
            self._known.popitem(last=False)
        return key

    async def _unwrap_once(self, kept: WrappedKey) -> DataKey:
        """All who ask for the key at the same time share one call."""
        task = self._unwrapping.get(kept.id)
        if task is None:
            task = self._unwrapping[kept.id] = asyncio.create_task(self._unwrap(kept))
            task.add_done_callback(lambda done: self._settled(kept.id, done))
        return await asyncio.shield(task)

    async def _unwrap(self, kept: WrappedKey) -> DataKey:
        key, replacement = await self._wrapper.unwrap(kept)
        if replacement is not None:
            try:
                await self._store.replace(kept, replacement)
            except Exception as error:  # it is tried again when the key is next decrypted
                logger.warning("the data key of %s can't be stored anew: %s", kept.owner, error)
        return key

    def _settled(self, id: bytes, task: asyncio.Task[DataKey]) -> None:
        self._unwrapping.pop(id, None)
        if task.cancelled() or task.exception() is None:
            self._failed.pop(id, None)
        elif isinstance(task.exception(), HandlerFailed):
            self._failed[id] = self._clock()
            self._failed.move_to_end(id)
            if len(self._failed) > _KEPT_KEYS:
                self._failed.popitem(last=False)
