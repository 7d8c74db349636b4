"""Commands that write items: one per namespace, however many of its items are written together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from threadlog.engine.domain.commands import TouchItems, WriteItems
from threadlog.engine.domain.store_limits import ITEMS_PER_COMMAND

COMMAND_BYTES = 1024 * 1024
"""Of the values of one command; one that is larger has a command of its own."""


@dataclass(slots=True)
class ItemWrite:
    """A put, or a deletion (`value` None). `ttl`: minutes, None for ever; `vectors`: `[[path, data], …]`; `size`:
    bytes of the value's JSON, as far as known."""

    namespace: tuple[str, ...]
    key: str
    value: Any = None
    ttl: float | None = None
    vectors: Sequence[Any] = field(default=())
    size: int = 0

    def op(self) -> dict[str, Any]:
        """As it stands in a command."""
        if self.value is None:
            return {"key": self.key, "delete": True}
        op: dict[str, Any] = {"key": self.key, "value": self.value}
        if self.ttl is not None:
            op["ttl"] = self.ttl
        if self.vectors:
            op["vectors"] = list(self.vectors)
        return op


def write_commands(writes: Iterable[ItemWrite]) -> list[WriteItems]:
    """In order per namespace, and at most so much in each that others of its partition have their turn."""
    commands: list[WriteItems] = []
    filling: dict[tuple[str, ...], tuple[WriteItems, int]] = {}
    for write in writes:
        command, size = filling.get(write.namespace, (None, 0))
        if command is None or len(command.ops) == ITEMS_PER_COMMAND or size + write.size > COMMAND_BYTES:
            command, size = WriteItems(namespace=list(write.namespace), ops=[]), 0
            commands.append(command)
        command.ops.append(write.op())
        filling[write.namespace] = command, size + write.size
    return commands


def touch_commands(rows: Iterable[Mapping[str, Any]]) -> list[TouchItems]:
    """For those of the rows read (`engine.store.reading.Row`) whose time to live is to begin anew."""
    keys: dict[str, list[str]] = {}
    for row in rows:
        if row["stale"]:
            keys.setdefault(row["namespace"], []).append(row["key"])
    return [
        TouchItems(namespace=text.split("."), keys=of_namespace[n : n + ITEMS_PER_COMMAND])
        for text, of_namespace in keys.items()
        for n in range(0, len(of_namespace), ITEMS_PER_COMMAND)
    ]
