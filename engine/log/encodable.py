"""Makes any value encodable as JSON that readers can decode and Postgres can hold: the slow way, when orjson refuses.

Lone surrogates, undecodable bytes and NUL become U+FFFD (`engine.domain.text`); integers beyond 64 bits, which a reader
would round, their digits as a string; keys that are no strings strings; what is nested deeper than `LEVELS`, or
contains itself, "…"; what has no JSON form its `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from threadlog.engine.domain.text import storable

LEVELS = 240
"""orjson writes some 254; an event stands a level deeper than what its command says, in the envelope's body."""


def _writable_levels() -> int:
    value: list[Any] = []
    for levels in range(1, 1025):  # what is nested deeper can't be read either
        try:
            orjson.dumps(value)
        except TypeError:
            return levels - 1
        value = [value]
    return 1024


WRITABLE_LEVELS = _writable_levels()
"""How many lists and objects inside each other orjson writes: 254 or 255, as its version has it."""


def encodable(value: Any, _above: tuple[int, ...] = ()) -> Any:
    """A copy that orjson writes, whatever the value is."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return storable(str(value))
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else _digits(value)
    if isinstance(value, float):
        return float(value)
    if id(value) in _above or len(_above) >= LEVELS:
        return "…"
    above = (*_above, id(value))
    if isinstance(value, Mapping):
        return {_key(key): encodable(item, above) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [encodable(item, above) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return storable(bytes(value).decode("utf-8", "replace"))
    try:  # dates, UUIDs, dataclasses …
        return encodable(orjson.loads(orjson.dumps(value)), above)
    except Exception:
        return _shown(value)


def _key(key: Any) -> str:
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    found = encodable(key)
    return found if isinstance(found, str) else storable(str(found))


def _digits(value: int) -> str:
    try:
        return str(int(value))
    except ValueError:  # more digits than the interpreter writes
        return hex(value)


def _shown(value: Any) -> str:
    try:
        return storable(repr(value))
    except Exception:
        return f"<{storable(type(value).__name__)}>"
