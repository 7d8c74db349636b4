"""Items of the store, as clients receive them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict

from threadlog.api.http.models import AnyObject, Time
from threadlog.api.http.responses import raw, time_text


class ItemResponse(TypedDict):
    """An item."""

    namespace: list[str]
    key: str
    value: AnyObject
    created_at: Time
    updated_at: Time


class FoundItem(ItemResponse):
    """An item that a search has found; `score`: how near it is to what was asked, null if that was not asked."""

    score: float | None


class ItemsResponse(TypedDict):
    """What a search has found."""

    items: list[FoundItem]


class NamespacesResponse(TypedDict):
    """Namespaces, each a list of labels."""

    namespaces: list[list[str]]


def item_to_json(row: Mapping[str, Any]) -> ItemResponse:
    """`row`: as `engine.store.reading` has it."""
    return {
        "namespace": row["namespace"].split("."),
        "key": row["key"],
        "value": raw(row["value"]),
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
    }


def found_to_json(row: Mapping[str, Any]) -> FoundItem:
    """The same, with the row's score."""
    return {**item_to_json(row), "score": row["score"]}
