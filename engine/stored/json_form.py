"""How Python values that JSON does not know become JSON: one rule for live values (streams) and stored ones (states).

The rules follow what LangGraph's serializer stores of an object, in its order, so that a value looks the same whether
it was just produced or read back without the user's types (`projections.render.values`).
"""

from __future__ import annotations

import base64
import dataclasses
import re
import sys
from collections import deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

_AS_STR = (
    Decimal, UUID, PurePath, timezone, Fraction, complex, range, slice,
    IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network,
)  # fmt: skip

SECRET = "**********"
_READABLE = 10**308


def seconds(delta: timedelta) -> float:
    """A duration in JSON: seconds."""
    return delta.total_seconds()


def digits(number: int) -> bytes:
    """An integer in JSON, however large. As text where clients could not read it: many parsers (orjson, which the
    Python SDK uses, is one) refuse a whole answer with a number beyond a double's reach, which is below 1.8e308; and in
    hexadecimal where Python does not write it in decimal."""
    try:
        text = str(int(number))
        return text.encode() if -_READABLE < number < _READABLE else f'"{text}"'.encode()
    except ValueError:  # sys.set_int_max_str_digits
        return f'"{number:#x}"'.encode()


def text_of_bytes(data: bytes | bytearray | memoryview) -> str:
    """Bytes in JSON: standard base64."""
    return base64.b64encode(data).decode("ascii")


def plain(value: Any) -> Any:
    """One step from a value JSON does not know towards JSON; what is inside may need further steps.

    Raises:
        TypeError: there is no rule for it (and LangGraph's serializer could not store it either).
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return text_of_bytes(value)
    if isinstance(value, type):
        raise TypeError(f"a class has no JSON form: {value!r}")
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic 2, messages
        return dump()
    if callable(getattr(value, "get_secret_value", None)):
        return SECRET
    if callable(as_dict := getattr(value, "dict", None)):  # pydantic 1, store items
        return as_dict()
    if callable(as_dict := getattr(value, "_asdict", None)):  # named tuples
        # A delta channel's snapshot is a named tuple that stands for its value.
        return value.value if type(value).__name__ == "_DeltaSnapshot" else as_dict()
    if isinstance(value, set | frozenset | deque):
        return list(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, _AS_STR):
        return str(value)
    if isinstance(value, timedelta):
        return seconds(value)
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, ZoneInfo):
        return value.key
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, SimpleNamespace):
        return vars(value)
    if hasattr(value, "node") and hasattr(value, "arg"):  # Send
        timeout = getattr(value, "timeout", None)
        return {"node": value.node, "arg": value.arg} | ({} if timeout is None else {"timeout": timeout})
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, BaseException):
        return repr(value)
    if (numpy := sys.modules.get("numpy")) is not None:
        if isinstance(value, numpy.ndarray):
            return value.tolist()
        if isinstance(value, numpy.generic):
            return value.item()
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")
