"""Encrypted fields of objects that are otherwise readable, so that searches filter on the rest: metadata, configs and
contexts, items of the store.

In the place of the field's value stands a token, `~encj1:` and base64url of key id, nonce and ciphertext of `[how,
value]`. `how` is null, or the `[model, field, context]` in which the application's handler has made `value` of what it
was given. A token of content (`engine.encryption.cipher`) is none of a field, and the other way round.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from threadlog.engine.domain.text import SEALED_FIELD
from threadlog.engine.encryption.cipher import KEY_ID_BYTES, DataKey, KnownKeys, WrongKey
from threadlog.engine.encryption.handlers import EncryptionHandlers, HandlerFailed

logger = logging.getLogger(__name__)

JsonObject = dict[str, Any]
T = TypeVar("T")
_LARGE_BYTES = 256 * 1024
_USE = b"field"
_MARK = f'"{SEALED_FIELD}'
_MARK_BYTES = _MARK.encode()
_START = len(SEALED_FIELD)


def field_token(key: DataKey, value: Any, how: list[Any] | None = None) -> str:
    """What stands in the place of the value. Raises TypeError for what is no JSON."""
    encrypted = key.encrypted(orjson.dumps([how, value]), _USE)
    return SEALED_FIELD + urlsafe_b64encode(encrypted).rstrip(b"=").decode("ascii")


def has_field_token(json: str | bytes) -> bool:
    """Whether JSON text may have a field's token in it."""
    return _MARK_BYTES in json if isinstance(json, bytes) else _MARK in json


def is_field_token(value: object) -> bool:
    return type(value) is str and value.startswith(SEALED_FIELD)


def field_key_ids(value: Any) -> set[bytes]:
    """The ids of the keys that the fields of a JSON value need."""
    tokens = (item for holder in _holders(value) for item in holder.values() if is_field_token(item))
    return {id for token in tokens if (id := _sealed(token)[:KEY_ID_BYTES])}


def field_names(value: Any) -> set[str]:
    """The names of encrypted fields, and of those that they are in."""
    if isinstance(value, list):
        return {name for item in value for name in field_names(item)}
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for name, item in value.items():
        if is_field_token(item):
            found.add(name)
        elif inner := field_names(item):
            found |= {name, *inner}
    return found


async def open_fields(value: Any, known: KnownKeys, handlers: EncryptionHandlers | None) -> None:
    """Decrypts the fields of the value, in place, where that can be done: a token without a key, or one that a handler
    does not decrypt, stays."""
    for holder in await at_leisure(value, _holders):
        await _open(holder, known, handlers)


async def at_leisure(value: Any, walk: Callable[[Any], T]) -> T:
    """`walk(value)`: of a large value in a thread, so that the loop has its turns meanwhile."""
    return await asyncio.to_thread(walk, value) if len(orjson.dumps(value)) > _LARGE_BYTES else walk(value)


def _holders(value: Any) -> list[JsonObject]:
    """The objects with encrypted fields."""
    found, left = [], [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            if any(is_field_token(inner) for inner in item.values()):
                found.append(item)
            left += [inner for inner in item.values() if isinstance(inner, dict | list)]
        elif isinstance(item, list):
            left += [inner for inner in item if isinstance(inner, dict | list)]
    return found


async def _open(holder: JsonObject, known: KnownKeys, handlers: EncryptionHandlers | None) -> None:
    handled: dict[bytes, JsonObject] = {}
    for name, item in list(holder.items()):
        if is_field_token(item) and (found := _opened(item, known)) is not None:
            how, encrypted = found
            if how is None:
                holder[name] = encrypted
            else:
                handled.setdefault(orjson.dumps(how), {})[name] = encrypted
    readable = {name: item for name, item in holder.items() if not is_field_token(item)} if handled else {}
    for how, fields in handled.items():
        data = orjson.loads(orjson.dumps(readable | fields))  # the handler's to change
        if (plain := await _handled(orjson.loads(how), data, handlers)) is not None:
            holder |= {name: plain[name] for name in fields if name in plain}


async def _handled(how: list[Any], data: JsonObject, handlers: EncryptionHandlers | None) -> JsonObject | None:
    model, field, context = how
    if handlers is None or not handlers.has_json:
        logger.error("a field of %s.%s needs the application's handler decrypt.json, which is not there", model, field)
        return None
    try:
        return await handlers.decrypt_json(model, field, context, data)
    except HandlerFailed as error:
        logger.error("a field of %s.%s can't be decrypted: %s", model, field, error)
        return None


def _opened(token: str, known: KnownKeys) -> list[Any] | None:
    sealed = _sealed(token)
    if (key := known(sealed[:KEY_ID_BYTES])) is None:
        return None
    try:
        found = orjson.loads(key.open(sealed, _USE))
    except (WrongKey, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, list) and len(found) == 2 else None


def _sealed(token: str) -> bytes:
    encoded = token[_START:].encode("utf-8", "replace")
    try:
        return urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except ValueError:
        return b""
