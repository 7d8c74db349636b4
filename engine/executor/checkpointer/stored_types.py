"""Serializer of checkpoints: LangGraph's own, and plain values of Python that it refuses.

LangGraph's format names a constructor and its arguments, so LangGraph's serializer reads these values too. What it
stores by itself is stored by its own code, at its speed: the wider rules are asked only after it has refused.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import PurePath
from types import FunctionType, SimpleNamespace
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from threadlog.engine.executor.langgraph_internals import STRICT_MSGPACK_ENABLED, loading_options

# The types of these rules, for the reader that makes only what it is told to.
_TYPES: tuple[tuple[str, str], ...] = (
    ("builtins", "int"),
    ("builtins", "complex"),
    ("builtins", "range"),
    ("builtins", "slice"),
    ("fractions", "Fraction"),
    ("types", "SimpleNamespace"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "PureWindowsPath"),
)
_MOST_BITS = 14_000  # of an integer: Python writes no more than 4300 decimal digits (sys.set_int_max_str_digits)


class StateSerializer(JsonPlusSerializer):
    """LangGraph's serializer for everything that it and the rules below can store.

    Raises from `dumps_typed`: TypeError, ValueError or `ormsgpack.MsgpackEncodeError` for the rest.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        try:
            return super().dumps_typed(obj)
        except (TypeError, ValueError):  # ormsgpack's own error is a TypeError
            return "msgpack", _encoded(obj)


class _EveryType(set[tuple[str, ...]]):
    """An allow-list with everything in it: the checkpoints are written by this deployment's own graphs."""

    def __contains__(self, key: object) -> bool:
        return True


_PERMISSIVE = StateSerializer(**loading_options(_EveryType()))


def default_serializer() -> JsonPlusSerializer:
    """The serializer of every attempt. The user's own types load without a warning, unless LANGGRAPH_STRICT_MSGPACK is
    set: then only those that the graph's schemas name.
    """
    return StateSerializer(allowed_msgpack_modules=_TYPES) if STRICT_MSGPACK_ENABLED else _PERMISSIVE


def _encoded(value: Any) -> bytes:
    return ormsgpack.packb(value, default=_wider, option=jsonplus._option | ormsgpack.OPT_PASSTHROUGH_BIG_INT)


# LangGraph's rules with ours inside: they encode the parts of an object by the name that is replaced here.
_langgraphs: Any = FunctionType(
    jsonplus._msgpack_default.__code__, {**vars(jsonplus), "_msgpack_enc": _encoded}, "_msgpack_default"
)


def _wider(value: Any) -> Any:
    """ormsgpack's `default`."""
    found = _constructor(value)
    if found is None:
        return _langgraphs(value)
    code, module, name, arguments = found
    return ormsgpack.Ext(code, _encoded((module, name, arguments)))


def _constructor(value: Any) -> tuple[int, str, str, Any] | None:
    """Which constructor makes the value again, and of what."""
    positional = jsonplus.EXT_CONSTRUCTOR_POS_ARGS
    kind = type(value)
    if isinstance(value, int):  # beyond 64 bits
        if value.bit_length() > _MOST_BITS:
            raise ValueError(f"an integer of {value.bit_length()} bits")
        return positional, "builtins", "int", (hex(value), 16)
    if kind is complex:
        return positional, "builtins", "complex", (value.real, value.imag)
    if kind is range or kind is slice:
        return positional, "builtins", kind.__name__, (value.start, value.stop, value.step)
    if isinstance(value, Fraction):
        return positional, "fractions", "Fraction", (value.numerator, value.denominator)
    if kind is SimpleNamespace:
        return jsonplus.EXT_CONSTRUCTOR_KW_ARGS, "types", "SimpleNamespace", vars(value)
    if isinstance(value, PurePath) and kind.__name__.startswith("Pure"):
        return positional, "pathlib", kind.__name__, value.parts
    return None
