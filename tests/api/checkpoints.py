"""Checkpoints as an executor reports them."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import ormsgpack
import uuid_utils
from langgraph.checkpoint.base.id import uuid6


def reference(value: Any) -> dict[str, Any]:
    """A small value, stored where it is referred to."""
    return {"t": "msgpack", "b": b64encode(ormsgpack.packb(value)).decode()}


def checkpoint(
    values: dict[str, Any],
    *,
    step: int = 0,
    parent: str | None = None,
    next_: tuple[str, ...] = (),
) -> tuple[str, list[dict[str, Any]]]:
    """`(checkpoint_id, items)`: a superstep that leaves these values, and these nodes to run next."""
    checkpoint_id = str(uuid6(clock_seq=-2))
    tasks = [{"id": str(uuid_utils.uuid4()), "name": name, "path": ["__pregel_pull", name]} for name in next_]
    items: list[dict[str, Any]] = [
        {
            "kind": "checkpoint",
            "ns": "",
            "checkpoint_id": checkpoint_id,
            "parent_id": parent,
            "metadata": {"source": "loop", "step": step, "parents": {}},
            "checkpoint": {"v": 4, "id": checkpoint_id, "ts": "2026-11-21T01:00:00.000001+00:00"},
            "channels": {name: reference(value) for name, value in values.items()},
        },
        {"kind": "tasks", "ns": "", "checkpoint_id": checkpoint_id, "tasks": tasks, "out": list(values)},
    ]
    return checkpoint_id, items
