"""Message ids: what a node returns without one gets it before it is stored and streamed, not right after.

`add_messages` gives messages their ids in place, when the superstep is over; streams show what nodes returned before
that, and clients that merge by id would take the message in the state for another one. LangGraph does for
`DeltaChannel`, at the same place, what this module does for channels with `add_messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from langchain_core.messages import BaseMessage
from langgraph.channels import BinaryOperatorAggregate
from langgraph.graph.message import add_messages

from threadlog.engine.executor.langgraph_internals import PregelLoop

_reducers: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # whether a reducer gives ids


def install() -> None:
    """From now on every graph of this process does so. Once is enough, more does no harm."""
    original = PregelLoop.put_writes
    if getattr(original, "__wrapped__", None) is not None:
        return

    def put_writes(self: PregelLoop, task_id: str, writes: Any, **options: Any) -> None:
        give_ids(self.specs, writes)
        original(self, task_id, writes, **options)

    put_writes.__wrapped__ = original  # type: ignore[attr-defined]
    PregelLoop.put_writes = put_writes  # type: ignore[method-assign]


def give_ids(channels: Mapping[str, Any], writes: Iterable[tuple[str, Any]]) -> None:
    """An id for each message that is written to a channel whose reducer would give it one."""
    for name, value in writes:
        channel = channels.get(name)
        if isinstance(channel, BinaryOperatorAggregate) and _gives_ids(channel.operator):
            for message in value if isinstance(value, list) else (value,):
                if isinstance(message, BaseMessage) and message.id is None:
                    message.id = str(uuid4())


def _gives_ids(reducer: Any) -> bool:
    try:
        known = _reducers.get(reducer)
        if known is None:
            known = _reducers[reducer] = _calls_add_messages(reducer)
    except TypeError:  # neither hashed nor referred to weakly
        return _calls_add_messages(reducer)
    return known


def _calls_add_messages(reducer: Any) -> bool:
    """Whether it is `add_messages`, with options or without, or a function whose own code names it."""
    if isinstance(reducer, partial):
        reducer = reducer.func
    if _is_add_messages(reducer):
        return True
    code = getattr(reducer, "__code__", None)
    names = getattr(reducer, "__globals__", {})
    return code is not None and any(_is_add_messages(names.get(name)) for name in code.co_names)


def _is_add_messages(function: Any) -> bool:
    """Either what LangGraph exports under that name, or what is inside: `add_messages(format=…)` is a partial of it."""
    return function is add_messages or (
        getattr(function, "__module__", None) == add_messages.__module__
        and getattr(function, "__name__", None) == "add_messages"
    )
