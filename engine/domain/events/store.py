"""Events of items of the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.events.base import Event, Json, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPut(Event):
    """The item has this value, instead of the one it had. Of several that one command puts it is `store.items_put`."""

    type: ClassVar[str] = "store.item_put"
    namespace: list[str]
    key: str
    value: JsonObject
    ttl: Json = None
    vectors: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsPut(Event):
    """These items have these values, instead of those they had: what one command puts side by side, in order.

    What they leave is what `store.item_put` of each, one after the other, would.
    """

    type: ClassVar[str] = "store.items_put"
    namespace: list[str]
    items: list[Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDeleted(Event):
    """There is no such item any more."""

    type: ClassVar[str] = "store.item_deleted"
    namespace: list[str]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsTouched(Event):
    """These items were read: their time to live begins anew."""

    type: ClassVar[str] = "store.items_touched"
    namespace: list[str]
    keys: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsExpired(Event):
    """The items of this namespace whose time to live ended at this time or before are gone."""

    type: ClassVar[str] = "store.items_expired"
    namespace: list[str]
    before: str


STORE_EVENTS: tuple[type[Event], ...] = (ItemPut, ItemsPut, ItemDeleted, ItemsTouched, ItemsExpired)
