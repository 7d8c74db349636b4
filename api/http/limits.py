"""What one request may hold at most. Whatever is beyond is a 422 that names the field, the limit and the number.

Two reasons: what can't be stored must not be asked of the engine (those numbers are `engine.domain.limits`), and one
request must not keep a process from the others' (docs/operations.md, "Limits of a request"). Those of a body as a whole
are in `api.http.json_text`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from threadlog.engine.domain.limits import INDEXED_BYTES, METADATA_BYTES

RUNS = THREADS = 1000
"""Runs or threads that a request creates, names, cancels or deletes, each a command of its own; as many as a page of a
search has at most."""

AT_A_TIME = 64
"""Commands of one request that are under way at the same time, so that those of others come between them."""

UPDATES = 1000
"""Updates of a state in one request, as many as a history shows at most."""

FILTER_KEYS = 1000
"""Keys and list elements of a filter, each of which is looked for."""

NAMES = 1000
"""Nodes, tags, fields or modes in one list."""

FEEDBACK_KEYS = 100
"""Keys of a run's feedback, for each of which LangSmith is asked for a URL."""

NAME_CHARACTERS = 1000
"""The name of a node, a tag, a field; a path."""

TEXT_CHARACTERS = 100_000
"""A description."""

CHECKPOINT_CHARACTERS = INDEXED_BYTES // 4
"""The id of a checkpoint, or its namespace, which are in one index."""

_SHOWN = 100


def shown(text: str) -> str:
    """A client's text in a sentence to it: quoted, and short however long it is."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}… ({len(text)} characters)"


class LimitExceeded(ValueError):
    """A field holds more than its limit."""


# --- of fields; the sentence begins with the field's name


@dataclass(frozen=True, slots=True)
class AtMost:
    """Annotates a list, an object or a string that has at most so many `unit`s: checked before its items are."""

    limit: int
    unit: str = "elements"

    def check(self, value: Any) -> Any:
        if isinstance(value, list | dict | str) and len(value) > self.limit:
            raise LimitExceeded(f"has {len(value)} {self.unit}; at most {self.limit} are allowed")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        described = handler(schema)
        keyword = {"string": "maxLength", "array": "maxItems"}.get(described.get("type", ""), "maxProperties")
        described[keyword] = self.limit
        return described


def small(limit: int) -> Callable[[Any], Any]:
    """A check of an object's keys and list elements at all levels, and of the bytes of its text."""

    def check(value: Any) -> Any:
        keys, size = measured(value, limit)
        if keys > limit:
            raise LimitExceeded(f"has {keys} keys and list elements; at most {limit} are allowed")
        if size > METADATA_BYTES:
            raise LimitExceeded(f"has {size} bytes of text; at most {METADATA_BYTES} are allowed")
        return value

    return check


def measured(value: Any, limit: int) -> tuple[int, int]:
    """Keys and list elements, and bytes of keys and strings, at all levels; counting ends above `limit` keys."""
    keys = size = 0
    left = [value]
    while left and keys <= limit:
        item = left.pop()
        if isinstance(item, str):
            size += len(item) if item.isascii() else len(item.encode("utf-8", "replace"))
        elif isinstance(item, dict):
            keys += len(item)
            left += item
            left += item.values()
        elif isinstance(item, list):
            keys += len(item)
            left += item
    return keys, size
