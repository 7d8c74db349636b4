"""JSON with integers beyond 64 bits: orjson reads them as floats, without their last digits, or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson

_SHAPE = bytes.maketrans(
    bytes(range(256)),
    bytes({ord("-"): 45, ord("["): 91, ord("{"): 91}.get(b, 48 if 48 <= b < 58 else 32) for b in range(256)),
)
_ANY = b"0" * 19  # the shortest out of reach have as many digits
_MANY = b"0" * 20  # 2^64 has as many digits
_MANY_NEGATIVE = b"-" + b"0" * 19  # as has -2^63


def _above(limit: int) -> str:
    """Matches the integers above, as JSON writes them."""
    digits = str(limit)
    longer = rf"\d{{{len(digits) + 1},}}"
    same = [
        rf"{digits[:at]}[{int(digit) + 1}-9]\d{{{len(digits) - at - 1}}}"
        for at, digit in enumerate(digits)
        if digit != "9"
    ]
    return "|".join([longer, *same])


# In text, too, now and then.
_OUT_OF_REACH = re.compile(rf"(?<![\d.eE+-])(?:{_above(2**64 - 1)}|-(?:{_above(2**63)}))(?![\d.eE])".encode())


def in_reach(digits: str) -> bool:
    """Whether orjson and ormsgpack take the integer written so."""
    return len(digits) <= 20 and -(2**63) <= int(digits) < 2**64


def shape_of(data: bytes) -> bytes:
    """JSON with 0 for each digit, [ for each [ and {, blanks for the rest but minus signs: four times as fast to look
    through as the JSON itself."""
    return data.translate(_SHAPE)


def may_have_some(data: bytes, shape: bytes | None = None) -> bool:
    """False: no number in this JSON is an integer out of reach. `shape`: its shape, if the caller has it."""
    if shape is None:
        shape = shape_of(data)
    if _ANY not in shape or (_MANY not in shape and _MANY_NEGATIVE not in shape):
        return False
    return _OUT_OF_REACH.search(data) is not None


def loads(data: bytes, instead: Callable[[str], Any]) -> Any:
    """The value of this JSON, with `instead(digits)` for every integer out of reach.

    Raises:
        ValueError: it is not JSON.
    """
    if not may_have_some(data):
        return orjson.loads(data)
    return json.loads(data, parse_int=lambda digits: int(digits) if in_reach(digits) else instead(digits))
