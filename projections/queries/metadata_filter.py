"""Metadata filter: which rows a caller may see, as a condition of SQL and as a predicate on metadata in memory.

The form is that of `langgraph_sdk.Auth` (contract 8): `{"owner": "ann"}`, `{"owner": {"$eq": "ann"}}`,
`{"members": {"$contains": "ann"}}`, `{"$or": [filter, …]}`, `{"$and": [filter, …]}`; keys are combined with AND.
Both readings of a filter agree on every metadata (tests/projections/test_metadata_filter.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from threadlog.engine.log.encodable import encodable
from threadlog.projections.queries.jsonb_match import contains, same

_LEVELS = 16  # of $or and $and inside each other: far more than anybody writes, far less than Postgres' parser takes


class InvalidMetadataFilter(ValueError):
    """It is not a filter. The message says which part of it is not."""


@dataclass(frozen=True, slots=True)
class _Equal:
    key: str
    value: Any

    def sql(self, column: str, args: list[Any]) -> str:
        args.append(orjson.dumps({self.key: self.value}).decode())
        condition = f"{column} @> ${len(args)}::text::jsonb"
        if not isinstance(self.value, dict | list):
            return condition  # of a scalar, containment is equality
        args.append(self.key)
        return f"({condition} AND {column} -> ${len(args)}::text = ${len(args) - 1}::text::jsonb -> ${len(args)}::text)"

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return self.key in metadata and same(metadata[self.key], self.value)


@dataclass(frozen=True, slots=True)
class _Contains:
    """The list under `key` has all of these."""

    key: str
    values: list[Any]

    def sql(self, column: str, args: list[Any]) -> str:
        args.append(orjson.dumps({self.key: self.values}).decode())
        return f"{column} @> ${len(args)}::text::jsonb"

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return contains(metadata.get(self.key), self.values)


@dataclass(frozen=True, slots=True)
class _Several:
    every: bool
    parts: Sequence[_Part]

    def sql(self, column: str, args: list[Any]) -> str:
        if not self.parts:
            return "true" if self.every else "false"
        return f"({(' AND ' if self.every else ' OR ').join(part.sql(column, args) for part in self.parts)})"

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return (all if self.every else any)(part.matches(metadata) for part in self.parts)


_Part = _Equal | _Contains | _Several


@dataclass(frozen=True, slots=True)
class MetadataFilter:
    """A checked filter. `None` in its place, as all queries take it, lets every row through."""

    _root: _Part

    @staticmethod
    def parse(value: Mapping[str, Any]) -> MetadataFilter | None:
        """Returns None for an empty filter. Raises `InvalidMetadataFilter`."""
        return MetadataFilter(_all_of(value, _LEVELS)) if value else None

    @property
    def names(self) -> frozenset[str]:
        """Of the fields of metadata that it looks at."""
        return frozenset(_names(self._root))

    def sql(self, column: str, args: list[Any]) -> str:
        """A condition on a jsonb column; appends its parameters to `args`, in whose order they are numbered."""
        return self._root.sql(column, args)

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return self._root.matches(metadata)


def _names(part: _Part) -> Iterator[str]:
    if isinstance(part, _Several):
        for inner in part.parts:
            yield from _names(inner)
    else:
        yield part.key


def _all_of(value: Any, levels: int) -> _Part:
    if not isinstance(value, Mapping):
        raise InvalidMetadataFilter(f"a filter is an object, not {type(value).__name__}")
    if not levels:
        raise InvalidMetadataFilter(f"$or and $and are nested deeper than {_LEVELS} levels")
    parts = [_part(key, item, levels - 1) for key, item in value.items()]
    return parts[0] if len(parts) == 1 else _Several(True, parts)


def _part(key: Any, value: Any, levels: int) -> _Part:
    if key in ("$or", "$and"):
        if not isinstance(value, list | tuple):
            raise InvalidMetadataFilter(f"{key} takes a list of filters, not {type(value).__name__}")
        return _Several(key == "$and", [_all_of(item, levels) for item in value])
    if not isinstance(key, str) or key.startswith("$"):
        raise InvalidMetadataFilter(f"{key!r} is not an operator. There are $eq, $contains, $or and $and")
    key = encodable(key)
    if not isinstance(value, Mapping) or not any(str(name).startswith("$") for name in value):
        return _Equal(key, encodable(value))
    parts: list[_Part] = []
    for operator, operand in value.items():
        if operator == "$eq":
            parts.append(_Equal(key, encodable(operand)))
        elif operator == "$contains":
            parts.append(_Contains(key, encodable(operand if isinstance(operand, list | tuple | set) else [operand])))
        else:
            raise InvalidMetadataFilter(f"{operator!r} is not an operator. There are $eq and $contains")
    return parts[0] if len(parts) == 1 else _Several(True, parts)


def only_sql(only: MetadataFilter | None, column: str, args: list[Any]) -> str:
    """` AND <condition>`, empty without a filter."""
    return "" if only is None else f" AND {only.sql(column, args)}"


def of_thread_sql(only: MetadataFilter | None, thread_id: str, args: list[Any]) -> str:
    """` AND` the thread with the id of this column or parameter passes the filter; empty without a filter."""
    if only is None:
        return ""
    return f" AND EXISTS (SELECT FROM threads o WHERE o.thread_id = {thread_id} AND {only.sql('o.metadata', args)})"
