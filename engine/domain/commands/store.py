"""Commands for items of the store; key: the namespace (`engine.domain.store_namespace.key_of_namespace`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from threadlog.engine.domain.commands.base import Command, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteItems(Command):
    """Put and delete items of one namespace, in order: all of them, or none when one can't be stored."""

    type: ClassVar[str] = "store.write"
    namespace: list[str]
    ops: list[Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchItems(Command):
    """Items were read: their time to live begins anew."""

    type: ClassVar[str] = "store.touch"
    namespace: list[str]
    keys: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireItems(Command):
    """Remove the items of a namespace whose time to live has passed. Sent by the partition's owner."""

    type: ClassVar[str] = "store.expire"
    namespace: list[str]
    before: str


STORE_COMMANDS: tuple[type[Command], ...] = (WriteItems, TouchItems, ExpireItems)
