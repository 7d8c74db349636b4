"""The aggregate of the store: a namespace. Its items are in the events and the read models; a put needs none of them.

One key per namespace: writes of an item keep their order, namespaces do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from threadlog.engine.domain.commands import Command, ExpireItems, TouchItems, WriteItems
from threadlog.engine.domain.events import CommandRepeated, Event, ItemDeleted, ItemPut, ItemsExpired, ItemsTouched

PREFIX = "store:"
"""Before the namespace in the aggregate's key."""


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
            return [_written(namespace, op) for op in ops]
        case TouchItems(namespace=namespace, keys=keys):
            return [ItemsTouched(namespace=namespace, keys=keys)] if keys else []
        case ExpireItems(namespace=namespace, before=before):
            return [ItemsExpired(namespace=namespace, before=before)]
    raise KeyError(command.type)


def _written(namespace: list[str], op: dict[str, Any]) -> Event:
    if "delete" in op:
        return ItemDeleted(namespace=namespace, key=op["key"])
    return ItemPut(
        namespace=namespace, key=op["key"], value=op["value"], ttl=op.get("ttl"), vectors=op.get("vectors") or []
    )


def evolve(s: StoreNamespace, event: Event, at: str) -> StoreNamespace:
    return s


def dump(s: StoreNamespace) -> dict[str, Any]:
    return {"recent": list(s.recent)}


def load(key: str, stored: dict[str, Any]) -> StoreNamespace:
    return StoreNamespace(key, recent=tuple(stored["recent"]))
