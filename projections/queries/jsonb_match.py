"""Matcher for JSON in memory as Postgres compares jsonb: containment (`@>`), equality (`=`)."""

from __future__ import annotations

from typing import Any


def contains(value: Any, part: Any) -> bool:
    """Whether `value` contains `part` as Postgres' jsonb `@>` means it."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(k in value and contains(value[k], v) for k, v in part.items())
    if isinstance(part, list):
        return isinstance(value, list) and all(any(contains(item, w) for item in value) for w in part)
    if isinstance(part, bool) or isinstance(value, bool):
        return value is part
    return bool(value == part)


def same(value: Any, other: Any) -> bool:
    """Whether the two are equal as Postgres' jsonb `=` means it: 1 is 1.0, and not true."""
    if isinstance(value, dict):
        return (
            isinstance(other, dict)
            and value.keys() == other.keys()
            and all(same(v, other[k]) for k, v in value.items())
        )
    if isinstance(value, list):
        return isinstance(other, list) and len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    return bool(value == other)
