"""What the events of the store change in `store_items` and `store_vectors`."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from threadlog.engine.domain.store_namespace import namespace_text
from threadlog.engine.domain.text import storable
from threadlog.projections.fold.batch import ProjectionBatch, StoreWrite, time_of


def put(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _put(rows, event["namespace"], (event,), at, p)


def put_together(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    _put(rows, event["namespace"], event["items"], at, p)


def _put(rows: ProjectionBatch, labels: list[str], items: Iterable[dict[str, Any]], at: datetime, p: int) -> None:
    namespace = _text(labels)
    rows.store_namespaces.add(namespace)
    write = StoreWrite(namespace, p, at, at, at)
    puts = rows.store_puts
    for item in items:
        place = namespace, storable(item["key"])
        of_item = write
        if (earlier := puts.get(place)) is not None and earlier[0].created_at != at:
            of_item = write._replace(created_at=earlier[0].created_at)
        ttl, vectors = item.get("ttl"), item.get("vectors")
        embedded = [(storable(path), numbers_of(data)) for path, data in vectors] if vectors else ()
        puts[place] = of_item, item["value"], ttl, embedded
        if ttl is not None:
            rows.store_expiring.add(place)


def deleted(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    item = _item(event["namespace"], event["key"])
    rows.store_puts.pop(item, None)
    rows.store_expiring.discard(item)
    rows.store_touches.pop(item, None)
    rows.store_gone.add(item)
    rows.store_namespaces.add(item[0])


def touched(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    for key in event["keys"]:
        item = _item(event["namespace"], key)
        if (row := rows.store_puts.get(item)) is not None:
            rows.store_puts[item] = row[0]._replace(ttl_from=at), *row[1:]
        elif item not in rows.store_gone:
            rows.store_touches[item] = at
        rows.store_namespaces.add(item[0])


def expired(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.store_sweeps.append((_text(event["namespace"]), time_of(event["before"])))


def must_flush_before(rows: ProjectionBatch, event: dict[str, Any]) -> bool:
    """Whether this fold's rows must be in the tables first: the event depends on when they expire, which only the
    database computes, so that it is the same in a batch and in two."""
    kind = event["type"]
    if kind == "store.items_expired":
        return _text(event["namespace"]) in rows.store_namespaces
    if kind == "store.item_put":
        return bool(rows.store_expiring) and _item(event["namespace"], event["key"]) in rows.store_expiring
    if kind == "store.items_put" and rows.store_expiring:
        return any(_item(event["namespace"], item["key"]) in rows.store_expiring for item in event["items"])
    return False


def one_by_one(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The events that change the same, of which one that the read models can't take leaves out as little as can be."""
    if event["type"] != "store.items_put":
        return [event]
    return [{**item, "type": "store.item_put", "namespace": event["namespace"]} for item in event["items"]]


def numbers_of(data: str) -> list[float]:
    """The numbers of a vector as it travels: Base64 of 32-bit floats, little-endian. Raises ValueError."""
    packed = base64.b64decode(data, validate=True)
    if len(packed) % 4 or not packed:
        raise ValueError("a vector is not a list of 32-bit floats")
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


def _text(namespace: list[str]) -> str:
    return storable(namespace_text(namespace))


def _item(namespace: list[str], key: str) -> tuple[str, str]:
    return _text(namespace), storable(key)


HANDLERS = {
    "store.item_put": put,
    "store.items_put": put_together,
    "store.item_deleted": deleted,
    "store.items_touched": touched,
    "store.items_expired": expired,
}
