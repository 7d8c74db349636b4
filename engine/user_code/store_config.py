"""The section `store` of `langgraph.json`: the index for semantic search, and the time to live of items. Pure but for
the look whether a named file is there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INDEX_KEYS = ("dims", "embed", "fields")
_TTL_KEYS = ("refresh_on_read", "default_ttl", "sweep_interval_minutes")
SWEEP_MINUTES = 5.0
"""LangGraph's default."""

MAX_DIMENSIONS = 4000
"""Numbers of a vector: pgvector indexes no more."""


class StoreConfigError(ValueError):
    """A key that can't be used; `key` is its dotted name, the message says what to do."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """Which texts of a value are embedded (`fields`: paths, `$` the whole value), and how. `embed`: a provider string
    (`openai:text-embedding-3-small`), or else `source` is a file or module and `attribute` the function in it."""

    dims: int
    embed: str
    fields: tuple[str, ...] = ("$",)
    source: str | None = None
    attribute: str = ""
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Times are minutes. `default_ttl`: of items put without one, None: for ever."""

    index: IndexConfig | None = None
    default_ttl: float | None = None
    refresh_on_read: bool = True
    sweep_interval_minutes: float = SWEEP_MINUTES


def store_config(section: Any, folder: Path) -> StoreConfig:
    """The checked section. Raises StoreConfigError."""
    if section in (None, False, "", [], {}):
        return StoreConfig()
    if not isinstance(section, dict):
        raise StoreConfigError("store", 'expected an object such as {"ttl": {"default_ttl": 60}}.')
    ttl = _object(section, "ttl", _TTL_KEYS)
    refresh = ttl.get("refresh_on_read")
    if refresh is not None and not isinstance(refresh, bool):
        raise StoreConfigError("store.ttl.refresh_on_read", "expected true or false.")
    return StoreConfig(
        index=_index(section, folder),
        default_ttl=_minutes(ttl, "default_ttl"),
        refresh_on_read=refresh is not False,
        sweep_interval_minutes=_minutes(ttl, "sweep_interval_minutes") or SWEEP_MINUTES,
    )


def _index(section: Mapping[str, Any], folder: Path) -> IndexConfig | None:
    index = _object(section, "index", _INDEX_KEYS)
    if not index:
        return None
    dims, embed, fields = index.get("dims"), index.get("embed"), index.get("fields")
    if isinstance(dims, bool) or not isinstance(dims, int) or not 1 <= dims <= MAX_DIMENSIONS:
        raise StoreConfigError(
            "store.index.dims", f"expected how many numbers `embed` returns per text: 1 to {MAX_DIMENSIONS}."
        )
    if fields is not None and not (isinstance(fields, list) and all(isinstance(path, str) for path in fields)):
        raise StoreConfigError("store.index.fields", 'expected a list of paths such as ["text", "notes[*].title"].')
    if not isinstance(embed, str) or ":" not in embed.strip(":"):
        raise StoreConfigError(
            "store.index.embed", 'expected "provider:model" or "path/to/file.py:function" (texts to lists of numbers).'
        )
    paths = tuple(fields) if fields else ("$",)
    source, _, attribute = embed.rpartition(":")
    if not source.endswith(".py") and "/" not in source:
        return IndexConfig(dims, embed, paths)
    location = (folder / source).resolve()
    if not location.is_file():
        raise StoreConfigError("store.index.embed", f"{location} does not exist. Correct the path.")
    if not attribute.isidentifier():
        raise StoreConfigError("store.index.embed", f'"{attribute}" is not the name of a function.')
    return IndexConfig(dims, embed, paths, str(location), attribute, True)


def _object(section: Mapping[str, Any], name: str, known: tuple[str, ...]) -> dict[str, Any]:
    value = section.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StoreConfigError(f"store.{name}", f"expected an object with {', '.join(known)}.")
    for key in value:
        if key not in known:
            raise StoreConfigError(f"store.{name}.{key}", f"there is no such key. There are: {', '.join(known)}.")
    return value


def _minutes(ttl: Mapping[str, Any], name: str) -> float | None:
    value = ttl.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise StoreConfigError(f"store.ttl.{name}", "expected a number of minutes above 0.")
    return float(value)
