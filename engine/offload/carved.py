"""JSON whose payloads are left as text: a small skeleton to work with, and `orjson.Fragment`s in it that are passed on.

On the wire: the skeleton's length (8 bytes), the skeleton `[value, [[path, length], …]]`, then the payloads' JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

import orjson

Place = tuple[str | int, ...]
"""Keys and indices from the outermost value to a payload."""

SMALL_BYTES = 4096
"""A payload below stays in the skeleton: most of an object's members are small."""

_LENGTH_BYTES = 8


def carve(value: Any, places: Iterable[Place]) -> list[bytes]:
    """The parts to write: the skeleton's length, the skeleton, the payloads. `value` is used up.

    Raises TypeError, as orjson does, for what can't be written."""
    cuts: list[tuple[Place, int]] = []
    payloads: list[bytes] = []
    for place in places:
        holder = _at(value, place[:-1])
        payload = orjson.dumps(holder[place[-1]])
        if len(payload) >= SMALL_BYTES:
            holder[place[-1]] = None
            cuts.append((place, len(payload)))
            payloads.append(payload)
    skeleton = orjson.dumps([value, cuts])
    return [len(skeleton).to_bytes(_LENGTH_BYTES), skeleton, *payloads]


def restore(file: BinaryIO) -> Any:
    """The value, with `orjson.Fragment`s for its payloads. Raises OSError when the file ends too early."""
    value, cuts = orjson.loads(_exactly(file, int.from_bytes(_exactly(file, _LENGTH_BYTES))))
    for place, length in cuts:
        _at(value, place[:-1])[place[-1]] = orjson.Fragment(_exactly(file, length))
    return value


def _at(value: Any, place: Iterable[str | int]) -> Any:
    for key in place:
        value = value[key]
    return value


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    while len(data) < length:  # a raw file may return less
        more = file.read(length - len(data))
        if not more:
            raise OSError("the result is cut off")
        data += more
    return data
