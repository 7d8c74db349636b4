"""Hypothesis strategies for commands and events of every type, made from the declared field types."""

from __future__ import annotations

from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.events import Event

IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(6)]
TIMES = [f"2026-11-21T10:00:{s:02d}.000000+00:00" for s in range(0, 60, 7)]

texts = st.text(max_size=8)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, json, max_size=3)


def _values(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name in ("thread_id", "run_id", "job_id", "assistant_id", "cron_id"):
        some: st.SearchStrategy[Any] = st.sampled_from(IDS)
        return some | st.none() if hint == str | None else some
    if name in ("due_at", "next_due_at", "end_time", "cron_due_at", "begun_at", "expires_at", "imported_at"):
        return st.sampled_from(TIMES if hint is str else [None, *TIMES])
    if name == "before":
        return st.sampled_from(TIMES)
    if get_origin(hint) in (Union, UnionType):
        return st.one_of(*(_values("", option) for option in get_args(hint)))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is list:
        (item,) = get_args(hint)
        return st.lists(_values("", item), max_size=3)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: texts,
        int: st.integers(0, 5),
        bool: st.booleans(),
        type(None): st.none(),
        dict[str, Any]: objects,
        Any: json,
    }
    return simple[hint]


def of(kind: type[Command] | type[Event], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Messages of a type with any values its fields may have; fields with a default are left out now and then."""
    hints = get_type_hints(kind)
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for f in fields(kind):
        has_default = f.default is not MISSING or f.default_factory is not MISSING
        chosen = fixed[f.name] if f.name in fixed else _values(f.name, hints[f.name])
        (optional if has_default and f.name not in fixed else required)[f.name] = chosen
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: kind(**values))
