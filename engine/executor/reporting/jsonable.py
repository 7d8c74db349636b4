"""Live values to JSON bytes: the orjson hook of everything an executor streams or reports."""

from __future__ import annotations

import math
from typing import Any

import orjson

from threadlog.engine.domain.text import serialized
from threadlog.engine.stored.json_form import digits, plain
from threadlog.engine.stored.long_integers import loads

# Dataclasses, dates and numpy go through `default`, so that they look as they do when read back from the state.
OPTION = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_DEEPEST = 200


def default(value: Any) -> Any:
    """orjson's `default`: the value's JSON form, its `repr` when there is none."""
    try:
        return plain(value)
    except Exception:
        return repr(value)


def dumps(value: Any) -> bytes:
    """The value as one line of JSON. Never raises for what a graph may produce.

    NaN and infinities become null, keys become strings, text is `engine.domain.text.serialized`,
    integers keep all their digits, what contains itself is cut.
    """
    try:
        return orjson.dumps(value, default, OPTION)
    except orjson.JSONEncodeError:
        pass
    try:
        return orjson.dumps(value, default, OPTION | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return orjson.dumps(cleaned(value))


def as_json(value: Any) -> Any:
    """The value as JSON says it, for what becomes part of a command.

    Integers beyond 64 bits are text there: who reads commands and events would lose their digits.
    """
    return loads(dumps(value), str)


def _key_text(key: Any) -> str:
    """A mapping's key in JSON, as orjson writes those it knows."""
    if isinstance(key, str):
        return serialized(key)
    if key is None or isinstance(key, bool | int | float):
        try:
            return orjson.dumps(key).decode()
        except orjson.JSONEncodeError:
            return digits(key).decode().strip('"') if isinstance(key, int) else str(key)
    form = default(key)
    return serialized(form if isinstance(form, str) else str(form))


def cleaned(value: Any, _above: tuple[int, ...] = ()) -> Any:
    """A copy that orjson accepts, whatever the value: the slow way, for values the fast one refuses."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return serialized(value)
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else orjson.Fragment(digits(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if id(value) in _above or len(_above) > _DEEPEST:
        return "…"
    above = (*_above, id(value))
    if isinstance(value, dict):
        return {_key_text(k): cleaned(v, above) for k, v in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return [cleaned(v, above) for v in value]
    return cleaned(default(value), above)
