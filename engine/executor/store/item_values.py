"""JSON of the values that nodes put into the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from threadlog.engine.domain.limits import DEPTH
from threadlog.engine.domain.store_limits import ITEM_VALUE_BYTES
from threadlog.engine.domain.text import storable

_JSON_BYTES = 2 * ITEM_VALUE_BYTES


def item_value(value: Mapping[str, Any]) -> bytes:
    """The value's JSON; keys that are not strings become such, as `json.dumps` does it, lone surrogates U+FFFD.

    Raises:
        TypeError: something in it is no JSON, such as an object of a class, or an integer beyond 64 bits.
        ValueError: it is too large, or nested too deep.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        if "surrogates" not in str(error):
            raise TypeError(f"the value of an item must be JSON: {error}") from None
        text = orjson.dumps(_storable(value), option=orjson.OPT_NON_STR_KEYS)
    if len(text) > _JSON_BYTES:
        raise ValueError(f"the value of an item has {len(text)} bytes; at most {_JSON_BYTES} are allowed")
    if len(text) > DEPTH and text.count(b"{") + text.count(b"[") > DEPTH and _depth(orjson.loads(text)) > DEPTH:
        raise ValueError(f"the value of an item is nested deeper than {DEPTH} levels")
    return text


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            item
            for part in level
            for item in (part.values() if isinstance(part, dict) else part)
            if isinstance(item, dict | list)
        ]
    return depth
