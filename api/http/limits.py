"""What one request may hold at most. Whatever is beyond is a 422 that names the field, the limit and the number.

Two reasons: what can't be stored must not be asked of the engine (those numbers are `engine.domain.limits`), and one
request must not keep a process from the others' (docs/operations.md, "Limits of a request").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from threadlog.engine.domain.limits import DEPTH, INDEXED_BYTES, METADATA_BYTES
from threadlog.engine.log.encodable import WRITABLE_LEVELS

VALUES = 500_000
"""Values in a body, at all levels. To read as many from JSON takes a core some 40 ms, in which a loop does nothing
else."""

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

NAME_CHARACTERS = 1000
"""The name of a node, a tag, a field; a path."""

TEXT_CHARACTERS = 100_000
"""A description."""

CHECKPOINT_CHARACTERS = INDEXED_BYTES // 4
"""The id of a checkpoint, or its namespace, which are in one index."""

_SHOWN = 100
_LEVELS_ABOVE = WRITABLE_LEVELS - DEPTH  # with so many more around it, what is too deep can't be written


def check_unread(raw: bytes) -> str | None:
    """The same before it is read, as far as that can be told: objects are what takes longest to read.

    A quote inside a text is escaped, so what stands before a colon without being escaped ends a key.
    """
    if len(raw) <= VALUES:
        return None
    keys = raw.count(b'":') - raw.count(b'\\":')
    return None if keys <= VALUES else f"The request body has {keys} values or more; at most {VALUES} are allowed"


def check_body(raw: bytes, value: Any) -> str | None:
    """What is wrong with a body as a whole, None if nothing is. `value`: what `raw` was read to."""
    opened = raw.count(b"{") + raw.count(b"[")
    if len(raw) > VALUES and opened + raw.count(b",") >= VALUES and (count := count_values(value)) > VALUES:
        return f"The request body has {count} values; at most {VALUES} are allowed"
    if opened > DEPTH and deeper_than_allowed(value):
        return too_deep()
    return None


def too_deep() -> str:
    return f"The request body is nested too deeply: at most {DEPTH} lists and objects may be inside each other"


def deeper_than_allowed(value: Any) -> bool:
    """Whether more than `DEPTH` lists and objects are inside each other."""
    for _ in range(_LEVELS_ABOVE):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


def count_values(value: Any) -> int:
    """How many values there are at all levels; keys are none."""
    count, left = 1, [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            item = item.values()
        count += len(item)
        left += [inner for inner in item if isinstance(inner, dict | list) and inner]
    return count


def shown(text: str) -> str:
    """A client's text in a sentence to it: quoted, and short however long it is."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}… ({len(text)} characters)"


# --- of fields; the sentence begins with the field's name


@dataclass(frozen=True, slots=True)
class AtMost:
    """Annotates a list, an object or a string that has at most so many `unit`s: checked before its items are."""

    limit: int
    unit: str = "elements"

    def check(self, value: Any) -> Any:
        if isinstance(value, list | dict | str) and len(value) > self.limit:
            raise ValueError(f"has {len(value)} {self.unit}; at most {self.limit} are allowed")
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
            raise ValueError(f"has {keys} keys and list elements; at most {limit} are allowed")
        if size > METADATA_BYTES:
            raise ValueError(f"has {size} bytes of text; at most {METADATA_BYTES} are allowed")
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
