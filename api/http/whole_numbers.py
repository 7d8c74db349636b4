"""Integer check: refuses integers beyond 64 bits, whose digits would be lost on the way to the graph."""

from __future__ import annotations

from typing import Any

from threadlog.api.http.errors import ApiError
from threadlog.engine.stored import long_integers


class _Long:
    """An integer out of reach, where it stood."""


_HOLDERS = (_Long, dict, list)


def refuse_long_integers(raw: bytes) -> None:
    """422 that names the place of the first integer beyond 64 bits in this JSON text."""
    if not long_integers.may_have_some(raw):
        return
    try:
        value = long_integers.loads(raw, lambda _: _Long())
    except (ValueError, RecursionError):
        return  # it is not JSON, or too deep: others say so
    place = _place(value)
    if place is not None:
        name = place.lstrip(".") or "the body"
        raise ApiError(422, f"{name}: an integer beyond 64 bits can't be kept exactly: send it as a string")


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
