"""Encrypted fields of objects that are otherwise readable, so that searches filter on the rest: metadata, configs and
contexts, items of the store.

In the place of the field's value stands a token, `~encj1:` and base64url of key id, nonce and ciphertext of `[how,
value]`. `how` is null, or the `[model, field, context]` in which the application's handler has made `value` of what it
was given. A token of content (`engine.encryption.cipher`) is none of a field, and the other way round.
"""

from __future__ import annotations

import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import orjson

from threadlog.engine.domain.text import SEALED_FIELD
from threadlog.engine.encryption.cipher import KEY_ID_BYTES, DataKey, KnownKeys, WrongKey
from threadlog.engine.encryption.handlers import EncryptionHandlers, HandlerFailed

logger = logging.getLogger(__name__)

JsonObject = dict[str, Any]
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
    return {id for _, token in _tokens(value) if (id := _sealed(token)[:KEY_ID_BYTES])}


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


async def open_fields(value: Any, known: KnownKeys, handlers: EncryptionHandlers | None) -> Any:
    """The value with its fields decrypted, where that can be done: a token without a key, or one that a handler does
    not decrypt, stays."""
    if isinstance(value, list):
        return [await open_fields(item, known, handlers) for item in value]
    if not isinstance(value, dict):
        return value
    opened: JsonObject = {}
    handled: dict[bytes, JsonObject] = {}
    for name, item in value.items():
        if is_field_token(item) and (found := _opened(item, known)) is not None:
            how, opened[name] = found
            if how is not None:
                handled.setdefault(orjson.dumps(how), {})[name] = opened[name]
        else:
            opened[name] = await open_fields(item, known, handlers)
    for how, encrypted in handled.items():
        others = {name: item for name, item in opened.items() if name not in encrypted and not is_field_token(item)}
        plain = await _handled(orjson.loads(how), others | encrypted, handlers)
        opened |= {name: plain[name] if plain and name in plain else value[name] for name in encrypted}
    return opened


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


def _tokens(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _tokens(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if is_field_token(item):
                yield name, item
            else:
                yield from _tokens(item)


def _sealed(token: str) -> bytes:
    encoded = token[_START:].encode("utf-8", "replace")
    try:
        return urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except ValueError:
        return b""
