"""What data keys are encrypted with: the installation's key, or the application's blob handlers.

Handlers get keys, not what these encrypt: docs/encryption.md says why.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from hashlib import blake2b

from threadlog.engine.encryption.cipher import DATA_KEY_BYTES, DataKey, MasterKeys
from threadlog.engine.encryption.handlers import EncryptionHandlers, HandlerFailed
from threadlog.engine.encryption.keys import WrappedKey

HANDLERS = "handlers"
"""`wrapped_by` of a key that the application's handlers have encrypted."""
_FIELD = "data_key"  # `field` of the context that they get


class WithInstallationKey:
    """`engine.encryption.keys.KeyWrapper`. A key that an old one has encrypted is encrypted anew when it is read."""

    def __init__(self, master: MasterKeys) -> None:
        self._master = master

    @property
    def names(self) -> list[str]:
        return self._master.names

    async def wrap(self, key: DataKey) -> WrappedKey:
        return WrappedKey(key.owner, key.id, self._master.wrap(key), self._master.name, key.context)

    async def unwrap(self, kept: WrappedKey) -> tuple[DataKey, WrappedKey | None]:
        key = self._master.unwrap(kept.owner, kept.id, kept.wrapped, kept.wrapped_by)
        key = DataKey.of(key.owner, key.id, key.secret, kept.context)
        return key, None if kept.wrapped_by == self._master.name else await self.wrap(key)


class WithHandlers:
    """`engine.encryption.keys.KeyWrapper`. `before`: of keys from before there were handlers."""

    def __init__(self, handlers: EncryptionHandlers, before: WithInstallationKey | None = None) -> None:
        self._handlers, self._before = handlers, before

    @property
    def names(self) -> list[str]:
        return [HANDLERS, *(self._before.names if self._before else ())]

    async def wrap(self, key: DataKey) -> WrappedKey:
        data = _mark(key.owner, key.id) + key.secret
        wrapped = await self._handlers.encrypt_blob(_model(key.owner), _FIELD, key.context or {}, data)
        return WrappedKey(key.owner, key.id, wrapped, HANDLERS, key.context)

    async def unwrap(self, kept: WrappedKey) -> tuple[DataKey, WrappedKey | None]:
        if kept.wrapped_by != HANDLERS and self._before is not None:
            return await self._before.unwrap(kept)
        context = kept.context or {}
        data, replacement = await self._handlers.decrypt_blob(_model(kept.owner), _FIELD, context, kept.wrapped)
        mark = _mark(kept.owner, kept.id)
        if len(data) != len(mark) + DATA_KEY_BYTES or not hmac.compare_digest(data[: len(mark)], mark):
            raise HandlerFailed(
                "The application's encryption handler decrypt.blob returned something else than was encrypted"
            )
        key = DataKey.of(kept.owner, kept.id, data[len(mark) :], kept.context)
        return key, None if replacement is None else replace(kept, wrapped=replacement)


def _mark(owner: str, id: bytes) -> bytes:
    """What stands before the key: it is of use for this owner alone, and tells whether it was decrypted rightly."""
    return blake2b(owner.encode() + b"\0" + id, digest_size=16).digest()


def _model(owner: str) -> str:
    """`model` of the context: whose key it is. Crons have had theirs without a prefix, as threads."""
    kind, colon, _ = owner.partition(":")
    return kind if colon else "thread"
