"""What the events of the store change in `store_items` and `store_vectors`."""

from __future__ import annotations

import base64
import struct
from datetime import datetime
from typing import Any

from threadlog.engine.domain.store_namespace import namespace_text
from threadlog.engine.domain.text import storable
from threadlog.projections.fold.batch import ProjectionBatch, StoreItemRow, clean_text, time_of


def put(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    labels, namespace = rows.store_last
    if event["namespace"] is not labels:  # a command's puts share the list
        namespace = _text(event["namespace"])
        rows.store_last = event["namespace"], namespace
        rows.store_namespaces.add(namespace)
    item = (namespace, storable(event["key"]))
    earlier = rows.store_puts.get(item)
    created_at = at if earlier is None else earlier.created_at
    ttl, vectors = event.get("ttl"), event.get("vectors")
    embedded = [(storable(path), numbers_of(data)) for path, data in vectors] if vectors else []
    rows.store_puts[item] = StoreItemRow(p, clean_text(event["value"]), created_at, at, ttl, at, embedded)
    if ttl is not None:
        rows.store_expiring.add(item)


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
            row.ttl_from = at
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
    return False


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
    "store.item_deleted": deleted,
    "store.items_touched": touched,
    "store.items_expired": expired,
}
