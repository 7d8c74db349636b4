"""The aggregate of the store: a namespace. Its items are in the events and the read models; a put needs none of them.

One key per namespace: writes of an item keep their order, namespaces do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from threadlog.engine.domain.commands import Command, ExpireItems, TouchItems, WriteItems
from threadlog.engine.domain.events import (
    CommandRepeated,
    Event,
    ItemDeleted,
    ItemPut,
    ItemsExpired,
    ItemsPut,
    ItemsTouched,
)

PREFIX = "store:"
"""Before the namespace in the aggregate's key."""

_PUT = frozenset({"key", "value", "ttl", "vectors"})  # fields of an operation that an event keeps


class StoreNamespace(NamedTuple):
    key: str
    recent: tuple[str, ...] = ()


def namespace_text(namespace: Sequence[str]) -> str:
    """A namespace as the read models hold it: its labels, which have no periods, joined by periods."""
    return ".".join(namespace)


def key_of_namespace(namespace: Sequence[str]) -> str:
    """The aggregate's key. Labels that are not strings, which `limits` refuses, stand for themselves."""
    return PREFIX + ".".join(label if isinstance(label, str) else repr(label) for label in namespace)


def initial(key: str) -> StoreNamespace:
    return StoreNamespace(key)


def decide(s: StoreNamespace, command: Command, *, cmd_id: str, at: str) -> list[Event]:
    """The events of one command, whose shape `engine.domain.limits` has checked."""
    if cmd_id in s.recent:
        return [CommandRepeated()]
    match command:
        case WriteItems(namespace=namespace, ops=ops):
            return _written(namespace, ops)
        case TouchItems(namespace=namespace, keys=keys):
            return [ItemsTouched(namespace=namespace, keys=keys)] if keys else []
        case ExpireItems(namespace=namespace, before=before):
            return [ItemsExpired(namespace=namespace, before=before)]
    raise KeyError(command.type)


def _written(namespace: list[str], ops: list[dict[str, Any]]) -> list[Event]:
    """An event for each deletion, and one for all puts between two of them: what an event costs, from here to its rows,
    is mostly the same for a hundred items as for one."""
    events: list[Event] = []
    puts: list[dict[str, Any]] = []
    for op in ops:
        if "delete" not in op:
            puts.append(op if op.keys() <= _PUT else {name: op[name] for name in _PUT & op.keys()})
            continue
        if puts:
            events.append(_put(namespace, puts))
            puts = []
        events.append(ItemDeleted(namespace=namespace, key=op["key"]))
    if puts:
        events.append(_put(namespace, puts))
    return events


def _put(namespace: list[str], puts: list[dict[str, Any]]) -> Event:
    if len(puts) > 1:
        return ItemsPut(namespace=namespace, items=puts)
    (op,) = puts
    return ItemPut(
        namespace=namespace, key=op["key"], value=op["value"], ttl=op.get("ttl"), vectors=op.get("vectors") or []
    )


def evolve(s: StoreNamespace, event: Event, at: str) -> StoreNamespace:
    return s


def dump(s: StoreNamespace) -> dict[str, Any]:
    return {"recent": list(s.recent)}


def load(key: str, stored: dict[str, Any]) -> StoreNamespace:
    return StoreNamespace(key, recent=tuple(stored["recent"]))
