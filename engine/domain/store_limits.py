"""What an item of the store may be: the rules of namespaces, and what the read models can hold. Pure.

The deciders' gate refuses what is beyond; the api's bodies and the graphs' store check with the same functions, so that
a client or a node gets the sentence before anything is sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from threadlog.engine.domain.commands import Command, ExpireItems, TouchItems, WriteItems

NAMESPACE_BYTES = 1024
"""UTF-8 of a namespace, its labels joined by periods: with a key it is a row of an index (2704 bytes)."""

ITEM_KEY_BYTES = 1024
"""UTF-8 of an item's key: see `NAMESPACE_BYTES`."""

NAMESPACE_LABELS = 64
"""Labels of a namespace."""

RESERVED_LABEL = "langgraph"
"""No namespace begins with it."""

ITEM_VALUE_BYTES = 16 * 1024 * 1024
"""Strings of an item's value, keys included: what Postgres holds in one jsonb value, with room to spare."""

ITEM_VALUE_KEYS = 10_000
"""Keys of an item's value at its outermost level: each that holds a scalar is an entry of the index for filters."""

ITEMS_PER_COMMAND = 1000
"""Items written or touched by one command, so that others of its partition have their turn."""

TTL_MINUTES = 60.0 * 24 * 366 * 100
"""The longest time to live, a hundred years: a time that far ahead still fits into a timestamp."""

ITEM_VECTORS = 1000
"""Texts of one item that are embedded."""

VECTOR_DIMENSIONS = 4000
"""Numbers of a vector: pgvector indexes no more, and those above 2000 with half the precision."""

PATH_BYTES = 256
"""UTF-8 of a path to an embedded text, which is in an index row with the namespace and the key."""


class NamespaceError(ValueError):
    """A namespace that breaks the rules; `empty`, `reserved`, `label` or `size` says which, for the status a client
    gets."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def check_namespace(namespace: Sequence[Any]) -> None:
    """Raise NamespaceError when no item can be written under this namespace. The sentences are LangGraph's."""
    if not namespace:
        raise NamespaceError("empty", "Namespace cannot be empty.")
    check_labels(namespace)
    if namespace[0] == RESERVED_LABEL:
        raise NamespaceError("reserved", f'Root label for namespace cannot be "{RESERVED_LABEL}". Got: {namespace[0]}')


def check_labels(namespace: Sequence[Any]) -> None:
    """Raise NamespaceError when no item can be under this prefix of a namespace."""
    size = len(namespace) - 1
    for label in namespace:
        if not isinstance(label, str) or not label or "." in label:
            shown = label if not isinstance(label, str) or len(label) <= 100 else f"{label[:100]}…"
            raise NamespaceError("label", f"Namespace label '{shown}' must be a non-empty string without periods")
        size += len(label.encode("utf-8", "replace"))
    if len(namespace) > NAMESPACE_LABELS:
        raise NamespaceError("size", f"Namespace has {len(namespace)} labels; at most {NAMESPACE_LABELS} are allowed")
    if size > NAMESPACE_BYTES:
        raise NamespaceError("size", f"Namespace has {size} bytes; at most {NAMESPACE_BYTES} are allowed")


def check_item_key(key: Any) -> None:
    """Raise ValueError when it can't be the key of an item."""
    if not isinstance(key, str):
        raise ValueError("`key` must be a string")
    if len(key) * 4 > ITEM_KEY_BYTES and len(key.encode("utf-8", "replace")) > ITEM_KEY_BYTES:
        raise ValueError(f"`key` is longer than {ITEM_KEY_BYTES} bytes")


def check_ttl(ttl: Any) -> None:
    """Raise ValueError when it is not a time to live in minutes, or None for ever."""
    if ttl is None:
        return
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not math.isfinite(ttl):
        raise ValueError("`ttl` must be a number of minutes")
    if not 0 < ttl <= TTL_MINUTES:
        raise ValueError(f"`ttl` must be above 0 and at most {TTL_MINUTES:.0f} minutes")


def check_value(value: Any) -> None:
    """Raise ValueError when the read models can't hold it as an item's value."""
    if not isinstance(value, dict):
        raise ValueError("`value` must be an object")
    if len(value) > ITEM_VALUE_KEYS:
        raise ValueError(f"`value` has {len(value)} keys; at most {ITEM_VALUE_KEYS} are allowed")


def check_value_size(value: Any) -> None:
    """Raise ValueError when the strings of an item's value are too large, keys included."""
    size = 0
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += part
            left += part.values()
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str):
            size += len(part) if part.isascii() else len(part.encode("utf-8", "replace"))
            if size > ITEM_VALUE_BYTES:
                raise ValueError(f"`value` is larger than {ITEM_VALUE_BYTES} bytes")


def check_store_command(command: Command) -> None:
    """Raise ValueError, naming the field, when a command of the store can't be decided or its items not be stored."""
    match command:
        case WriteItems(namespace=namespace, ops=ops):
            _check_stored(namespace)
            _check_count(ops)
            if not are_plain_puts(ops):
                for op in ops:
                    _check_op(op)
        case TouchItems(namespace=namespace, keys=keys):
            _check_stored(namespace)
            _check_count(keys)
            for key in keys:
                check_item_key(key)
        case ExpireItems(namespace=namespace):
            _check_stored(namespace)


def _check_stored(namespace: Sequence[Any]) -> None:
    """What the read models can hold: `RESERVED_LABEL` is a rule of the doors, which LangGraph's own batches pass by."""
    if not namespace:
        raise NamespaceError("empty", "Namespace cannot be empty.")
    check_labels(namespace)


def _check_count(items: Sequence[Any]) -> None:
    if len(items) > ITEMS_PER_COMMAND:
        raise ValueError(f"it has {len(items)} items; at most {ITEMS_PER_COMMAND} are allowed")


def are_plain_puts(ops: Sequence[Any]) -> bool:
    """Whether all are puts with no more than a short key and a value, as they nearly always are: in order at a glance,
    which costs a tenth of looking at each."""
    if set(map(type, ops)) != {dict} or set(map(len, ops)) != {2}:
        return False
    keys, values = [op.get("key") for op in ops], [op.get("value") for op in ops]
    return (
        set(map(type, keys)) == {str}
        and max(map(len, keys)) * 4 <= ITEM_KEY_BYTES
        and set(map(type, values)) == {dict}
        and max(map(len, values)) <= ITEM_VALUE_KEYS
    )


def _check_op(op: Any) -> None:
    if not isinstance(op, dict):
        raise ValueError("`ops` must be a list of objects")
    check_item_key(op.get("key"))
    if "delete" in op:
        return
    check_value(op.get("value"))
    check_ttl(op.get("ttl"))
    vectors = op.get("vectors") or []
    if not isinstance(vectors, list) or len(vectors) > ITEM_VECTORS:
        raise ValueError(f"`vectors` must be a list of at most {ITEM_VECTORS}")
    for vector in vectors:
        if not (isinstance(vector, list) and len(vector) == 2 and all(isinstance(part, str) for part in vector)):
            raise ValueError("`vectors` must be a list of [path, data]")
        path, data = vector
        if len(path) * 4 > PATH_BYTES and len(path.encode("utf-8", "replace")) > PATH_BYTES:
            raise ValueError(f"a path in `vectors` is longer than {PATH_BYTES} bytes")
        if len(data) > (VECTOR_DIMENSIONS * 4 + 2) // 3 * 4:
            raise ValueError(f"a vector has more than {VECTOR_DIMENSIONS} dimensions")
