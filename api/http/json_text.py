"""JSON of a request body: its limits as a whole, and how it is read; imports little, as a worker process does so too.

Every scan of its bytes takes some 0.5 ms per MB on the loop. So one tells digits and brackets from the rest, and both
are looked for in what that leaves; backslashes are found much faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

import orjson

from threadlog.engine.domain.limits import DEPTH
from threadlog.engine.domain.text import without_nul
from threadlog.engine.log.encodable import WRITABLE_LEVELS
from threadlog.engine.offload.carved import Place, carve
from threadlog.engine.stored import long_integers

VALUES = 500_000
"""Values in a body, at all levels. To read as many from JSON takes a core some 40 ms, in which a loop does nothing
else."""

REST_BYTES = 20 * 1024 * 1024
"""A body without what is for the graph alone (input, values, command): metadata, config and context, as a rule."""

_WHOLE = frozenset(("input", "response", "update", "goto"))  # opaque as one value, whatever it is

_LEVELS_ABOVE = WRITABLE_LEVELS - DEPTH  # with so many more around it, what is too deep can't be written


class Unreadable(ValueError):
    """Why a body is refused, for its sender; `code`: see `api.http.errors`."""

    def __init__(self, detail: str, code: Literal["invalid_json", "limit_exceeded"] = "limit_exceeded") -> None:
        super().__init__(detail)
        self.code = code


def read(raw: bytes) -> Any:
    """The value of a body. NUL characters become U+FFFD, as Postgres can't hold them.

    Raises:
        Unreadable: it is not JSON, or beyond the limits of every body.
    """
    raw = without_nul(raw)
    if len(raw) > VALUES:
        _check_keys(raw)
    shape = long_integers.shape_of(raw)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if "infinity" in error.msg:  # an integer of more than 308 digits, which orjson does not read at all
            _refuse_long_integers(raw, shape)
        if "depth" in error.msg:
            raise Unreadable(_too_deep()) from None
        raise Unreadable("Invalid JSON in request body", "invalid_json") from None
    opened = shape.count(b"[")
    if len(raw) > VALUES and opened + raw.count(b",") >= VALUES and (count := count_values(value)) > VALUES:
        raise Unreadable(_too_many(count))
    if opened > DEPTH and _deeper_than_allowed(value):
        raise Unreadable(_too_deep())
    _refuse_long_integers(raw, shape)  # takes long of large bodies, so after their limits
    return value


def read_carved(raw: bytes, *opaque: str) -> list[bytes]:
    """The same for the worker process that reads a large body: `{"body"}`, its payloads carved, or `{"refused"}`."""
    try:
        value = read(raw)
        parts = carve({"body": value}, [("body", *place) for place in payloads(value, opaque)])
        if (rest := len(parts[1])) > REST_BYTES:
            beside = f" beside {' and '.join(opaque)}" if opaque else ""
            raise Unreadable(f"The request body has {rest} bytes{beside}; at most {REST_BYTES} are allowed")
    except Unreadable as error:
        return carve({"refused": [str(error), error.code]}, ())
    return parts


def payloads(body: Any, opaque: Collection[str]) -> Iterator[Place]:
    """What of a body is the graph's alone: nobody looks into it before an executor does. `opaque`: where it is, inside
    another member as `params.input`."""
    if isinstance(body, list):  # of runs, or of answers
        for index, item in enumerate(body):
            if isinstance(item, dict):
                yield from ((index, *place) for place in payloads(item, opaque))
    elif isinstance(body, dict):
        for name in opaque:
            outer, _, inner = name.partition(".")
            if inner:
                yield from ((outer, *place) for place in payloads(body.get(outer), (inner,)))
            elif name in _WHOLE:
                yield from [(name,)] * (name in body)
            elif name == "supersteps":
                yield from _updates(body.get(name))
            else:
                yield from _members(body, name)


def _updates(steps: Any) -> Iterator[Place]:
    for i, step in enumerate(steps if isinstance(steps, list) else ()):
        updates = step.get("updates") if isinstance(step, dict) else None
        for j, update in enumerate(updates if isinstance(updates, list) else ()):
            if isinstance(update, dict):
                at = ("supersteps", i, "updates", j)
                yield from [(*at, "values")] * ("values" in update)
                yield from ((*at, *place) for place in _members(update, "command"))


def _members(holder: dict[str, Any], name: str) -> Iterator[Place]:
    """The members of an object, and of objects in a list: that they are such is looked at."""
    value = holder.get(name)
    if isinstance(value, dict):
        yield from ((name, key) for key in value)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield from ((name, index, key) for key in item)
            else:
                yield (name, index)


def _check_keys(raw: bytes) -> None:
    """The same before it is read, as far as that can be told: objects are what takes longest to read.

    A quote inside a text is escaped, so what stands before a colon without being escaped ends a key.
    """
    keys = raw.count(b'":') - raw.count(b'\\":')
    if keys > VALUES:
        raise Unreadable(_too_many(keys))


def _too_many(count: int) -> str:
    return f"The request body has {count} values or more; at most {VALUES} are allowed"


def _too_deep() -> str:
    return f"The request body is nested too deeply: at most {DEPTH} lists and objects may be inside each other"


def _deeper_than_allowed(value: Any) -> bool:
    """Whether more than `DEPTH` lists and objects are inside each other."""
    for _ in range(_LEVELS_ABOVE):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


def count_values(value: Any) -> int:
    """How many values there are at all levels; keys are none. Counting ends above `VALUES`."""
    count, left = 1, [value]
    while left and count <= VALUES:
        item = left.pop()
        if isinstance(item, dict):
            item = item.values()
        count += len(item)
        left += [inner for inner in item if isinstance(inner, dict | list) and inner]
    return count


# --- integers


class _Long:
    """An integer out of reach, where it stood."""


_HOLDERS = (_Long, dict, list)


def _refuse_long_integers(raw: bytes, shape: bytes) -> None:
    """Raises `Unreadable` with the place of the first integer beyond 64 bits, whose digits would be lost on the way to
    the graph."""
    if not long_integers.may_have_some(raw, shape):
        return
    try:
        value = long_integers.loads(raw, lambda _: _Long())
    except (ValueError, RecursionError):
        return  # it is not JSON, or too deep: others say so
    place = _place(value)
    if place is not None:
        name = place.lstrip(".") or "the body"
        raise Unreadable(f"{name}: an integer beyond 64 bits can't be kept exactly: send it as a string")


def _place(value: Any) -> str | None:
    """Where the first such integer is: `input.ids[3]`."""
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        place, found = pending.pop()
        if isinstance(found, _Long):
            return place
        if isinstance(found, dict):
            pending += [(f"{place}.{key}", item) for key, item in found.items() if isinstance(item, _HOLDERS)][::-1]
        elif isinstance(found, list):
            pending += [(f"{place}[{i}]", item) for i, item in enumerate(found) if isinstance(item, _HOLDERS)][::-1]
    return None
