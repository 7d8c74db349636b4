"""JSON with integers beyond 64 bits: orjson reads them as floats, without their last digits, or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson

_DIGITS_TO_0 = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else 0 for byte in range(256))
_MANY = b"0" * 19  # 2^63 has nineteen digits
_NUMBER = re.compile(rb"(?<![\d.eE+])-?\d{19,}(?![\d.eE])")  # also in text, now and then


def in_reach(digits: str) -> bool:
    """Whether orjson and ormsgpack take the integer written so."""
    return len(digits) <= 20 and -(2**63) <= int(digits) < 2**64


def may_have_some(data: bytes) -> bool:
    """False: no number in this JSON is an integer out of reach."""
    if _MANY not in data.translate(_DIGITS_TO_0):  # four times as fast as looking for the numbers
        return False
    return any(not in_reach(number.group().decode()) for number in _NUMBER.finditer(data))


def loads(data: bytes, instead: Callable[[str], Any]) -> Any:
    """The value of this JSON, with `instead(digits)` for every integer out of reach.

    Raises:
        ValueError: it is not JSON.
    """
    if not may_have_some(data):
        return orjson.loads(data)
    return json.loads(data, parse_int=lambda digits: int(digits) if in_reach(digits) else instead(digits))
