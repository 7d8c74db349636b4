"""Which fields of commands are encrypted, of metadata, configs, contexts and items of the store: those that
`LANGGRAPH_AES_JSON_KEYS` names, at any depth, and those that the application's handler `encrypt.json` changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

import orjson

from threadlog.engine.domain.commands import (
    Command,
    CreateAssistant,
    CreateCron,
    CreateRun,
    CreateThread,
    ImportCheckpoints,
    UpdateAssistant,
    UpdateCron,
    UpdateState,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.domain.decider import key_of
from threadlog.engine.domain.text import SEALED_FIELD
from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.encryption.field_cipher import (
    JsonObject,
    at_leisure,
    field_token,
    has_field_token,
    is_field_token,
)
from threadlog.engine.encryption.handlers import EncryptionHandlers, HandlerFailed
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.encryption.system_fields import NEVER_ENCRYPTED
from threadlog.engine.encryption_context import CONTEXT, PROTECTED
from threadlog.engine.store.text_paths import texts_at

Seal = Callable[[str, str, Any], Awaitable[Any]]
"""`(model, field, object)`: the object with fields encrypted, or as it is; None stays None."""


def fields_owner(command: Command) -> str:
    """Whose key encrypts the fields of a command."""
    match command:
        case CreateAssistant() | UpdateAssistant():
            return f"assistant:{command.assistant_id}"
        case CreateCron() | UpdateCron():
            return command.cron_id
    return key_of(command)


class FieldSealer:
    """Encrypts fields of commands. An owner's key is made when there is a field for it."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring, self._names = keyring, keyring.field_names
        self._handlers = keyring.handlers if keyring.handlers is not None and keyring.handlers.has_json else None

    @property
    def idle(self) -> bool:
        """Nothing is asked of it."""
        return not self._names and self._handlers is None

    async def sealed(self, command: Command) -> Command:
        """The command with its fields encrypted.

        Raises:
            HandlerFailed: the application's handler failed, or would hide what authorization filters by.
            and what reading and making keys raises.
        """
        if self.idle:
            return command
        return await _with_fields(command, _ObjectSealer(self._keyring, fields_owner(command), self._handlers))


class _ObjectSealer:
    """Encrypts fields of the objects of one command."""

    def __init__(self, keyring: Keyring, owner: str, handlers: EncryptionHandlers | None) -> None:
        self._keyring, self._owner, self._handlers = keyring, owner, handlers
        self._key: DataKey | None = None

    async def __call__(self, model: str, field: str, value: Any) -> Any:
        if not isinstance(value, dict) or not value:
            return value
        sealed = value
        if self._handlers is not None and model != "checkpoint":
            sealed = await self._by_handler(self._handlers, model, field, sealed)
        if self._keyring.field_names:
            sealed = await self._by_name(sealed)
        if field == "metadata" and (hidden := _hidden(value, sealed) & PROTECTED.get()):
            raise HandlerFailed(
                f"The application's authorization filters by metadata.{min(hidden)}, which its encryption makes "
                "unreadable: leave that field as it is"
            )
        return sealed

    async def _by_handler(self, handlers: EncryptionHandlers, model: str, field: str, value: JsonObject) -> JsonObject:
        context = dict(CONTEXT.get())
        encrypted = await handlers.encrypt_json(model, field, context, orjson.loads(orjson.dumps(value)))
        out: JsonObject = {}
        for name, item in value.items():
            if name not in NEVER_ENCRYPTED and encrypted[name] != item:
                out[name] = field_token(await self._data_key(), encrypted[name], [model, field, context])
            elif isinstance(item, dict) and item:
                out[name] = await self._by_handler(handlers, model, field, item)
            else:
                out[name] = item
        return out

    async def _by_name(self, value: JsonObject) -> JsonObject:
        names, text = self._keyring.field_names, orjson.dumps(value)
        if not any(orjson.dumps(name) in text for name in names):
            return value
        key = await self._data_key()
        sealed: JsonObject = await at_leisure(value, lambda value: _named(value, names, key))
        return sealed

    async def _data_key(self) -> DataKey:
        if self._key is None:
            self._key = await self._keyring.ensure(self._owner)
        return self._key


def _named(value: Any, names: Collection[str], key: DataKey) -> Any:
    """The value with the fields of these names encrypted."""
    if isinstance(value, list):
        return [_named(item, names, key) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: field_token(key, item)
        if name in names and item is not None and not is_field_token(item)
        else _named(item, names, key)
        for name, item in value.items()
    }


def _hidden(value: JsonObject, sealed: JsonObject) -> set[str]:
    return {name for name, item in sealed.items() if is_field_token(item) and not is_field_token(value[name])}


async def _with_fields(command: Command, seal: Seal) -> Command:
    match command:
        case CreateThread():
            return replace(
                command,
                metadata=await seal("thread", "metadata", command.metadata),
                config=await seal("thread", "config", command.config),
            )
        case UpdateThread():
            return replace(command, metadata=await seal("thread", "metadata", command.metadata))
        case CreateRun():
            return replace(
                command,
                run={**command.run, "metadata": await seal("run", "metadata", command.run.get("metadata"))},
                create_thread=await seal("thread", "metadata", command.create_thread),
                thread_config=await seal("thread", "config", command.thread_config),
            )
        case UpdateState():
            config = {**command.config}
            if "metadata" in config:
                config["metadata"] = await seal("run", "metadata", config["metadata"])
            return replace(command, metadata=await seal("thread", "metadata", command.metadata), config=config)
        case ImportCheckpoints():
            items = [
                {**item, "metadata": await seal("checkpoint", "metadata", item["metadata"])}
                if item.get("metadata")
                else item
                for item in command.items
            ]
            return replace(command, items=items)
        case CreateAssistant() | UpdateAssistant():
            return replace(
                command,
                metadata=await seal("assistant", "metadata", command.metadata),
                config=await seal("assistant", "config", command.config),
                context=await seal("assistant", "context", command.context),
            )
        case CreateCron() | UpdateCron():
            return replace(command, metadata=await seal("cron", "metadata", command.metadata))
        case WriteItems():
            return replace(command, ops=[await _op(op, seal) for op in command.ops])
    return command


async def _op(op: Any, seal: Seal) -> Any:
    if not isinstance(op, dict) or op.get("value") is None:
        return op
    value = op["value"]
    if isinstance(value, orjson.Fragment):
        value = orjson.loads(orjson.dumps(value))
    sealed = await seal("store", "value", value)
    if not isinstance(sealed, dict) or not has_field_token(orjson.dumps(sealed)):
        return op
    kept = [vector for vector in op.get("vectors") or () if not _tells(vector[0], sealed)]
    return {name: item for name, item in {**op, "value": sealed, "vectors": kept}.items() if name != "vectors" or kept}


def _tells(path: str, sealed: JsonObject) -> bool:
    """Whether a vector is of a text that is encrypted, or that has an encrypted field in it."""
    while path not in ("", "$"):
        if texts := texts_at(sealed, path):
            return any(SEALED_FIELD in text for text in texts)
        path = path.rpartition(".")[
            0
        ]  # of several texts it has a number at its end; or it leads into what is encrypted
    return True
