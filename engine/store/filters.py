"""Filters of a search as SQL conditions on `store_items.value`; what a client sends travels as parameters only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from threadlog.engine.domain.text import without_nul

_ORDERED = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_OPERATORS = ("$eq", "$ne", *_ORDERED)
_TYPES: Mapping[type, str] = {bool: "boolean", int: "number", float: "number", str: "string"}
_THERE_ARE = f"There are: {', '.join(_OPERATORS)}"
_MISPLACED = frozenset({"$and", "$or", "$not", "$nor", *_OPERATORS})
"""Where a field's name is expected: as such they would find nothing, without a word."""
_LEVELS = 20


class FilterError(ValueError):
    """A filter that can't be applied; the message says why, for its sender."""


def conditions(filter: Mapping[str, Any], arguments: list[Any]) -> list[str]:
    """Conditions that all have to hold, in terms of `i.value`; their values are appended to `arguments`.

    A field is compared with a value, with operators (`{"$gt": 3}`), or with an object of more fields, which the item's
    may exceed. An item that lacks the field matches `$ne` alone. Raises FilterError.
    """
    return _fields(filter, (), arguments)


def _fields(filter: Mapping[str, Any], above: Sequence[str], arguments: list[Any]) -> list[str]:
    if len(above) > _LEVELS:
        raise FilterError(f"filter: is nested deeper than {_LEVELS} levels")
    found: list[str] = []
    for key, wanted in filter.items():
        if not isinstance(key, str):
            raise FilterError("filter: its keys must be strings")
        if key in _MISPLACED:
            raise FilterError(
                f"Unsupported operator: {key}. All fields of a filter have to match; {_THERE_ARE}, of a field"
            )
        path = (*above, key)
        if not isinstance(wanted, Mapping):
            found += _equal(path, wanted, arguments)
        elif any(isinstance(name, str) and name.startswith("$") for name in wanted):
            for operator, value in wanted.items():
                found += _operator(path, operator, value, arguments)
        else:
            found.append(f"jsonb_typeof({_at(path, arguments)}) = 'object'")
            found += _fields(wanted, path, arguments)
    return found


def _operator(path: Sequence[str], operator: str, value: Any, arguments: list[Any]) -> list[str]:
    if operator == "$eq":
        return _equal(path, value, arguments)
    if operator == "$ne":
        return [f"{_at(path, arguments)} IS DISTINCT FROM {_json(value, arguments)}"]
    if operator not in _ORDERED:
        raise FilterError(f"Unsupported operator: {str(operator)[:100]}. {_THERE_ARE}")
    kind = _TYPES.get(type(value))
    if kind is None:
        raise FilterError(f"filter: {operator} compares with a number, a string or a boolean")
    field = _at(path, arguments)
    return [f"(jsonb_typeof({field}) = '{kind}' AND {field} {_ORDERED[operator]} {_json(value, arguments)})"]


def _equal(path: Sequence[str], value: Any, arguments: list[Any]) -> list[str]:
    found = [f"{_at(path, arguments)} = {_json(value, arguments)}"]
    if len(path) == 1 and not isinstance(value, Mapping | list | tuple):  # what the index of scalars tells
        found.append(f"store_scalars(i.value) @> {_json({path[0]: value}, arguments)}")
    return found


def _at(path: Sequence[str], arguments: list[Any]) -> str:
    arguments.append(list(path))
    return f"i.value #> ${len(arguments)}::text[]"


def _json(value: Any, arguments: list[Any]) -> str:
    try:
        arguments.append(without_nul(orjson.dumps(value)).decode())
    except TypeError as error:
        raise FilterError(f"filter: {error}") from None
    return f"${len(arguments)}::jsonb"
