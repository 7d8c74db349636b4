"""A thread's checkpoints, writes and values as report items: what a copy is made of."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any, Protocol

import asyncpg

from threadlog.engine.stored.row_codec import COLUMNS, SavedCheckpoint, decode
from threadlog.engine.stored.value_refs import Reference, needed

Item = dict[str, Any]

_CHECKPOINTS = f"""SELECT {COLUMNS} FROM checkpoints c
    WHERE c.thread_id = $1 AND (c.checkpoint_id, c.ns) > ($2, $3)
    ORDER BY c.checkpoint_id, c.ns LIMIT 100"""
_VALUES = "SELECT hash, type, data FROM channel_values WHERE thread_id = $1 AND hash = ANY ($2::text[])"


class CheckpointReader(Protocol):
    """A connection in a repeatable-read transaction."""

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]: ...


async def export_items(conn: CheckpointReader, thread_id: str, target_id: str) -> AsyncIterator[Item]:
    """Everything stored of a thread as `ImportCheckpoints` items for a copy, oldest first.

    Each value comes with the first item that refers to it, of whatever size. Two queries per hundred checkpoints.
    """
    sent: set[str] = set()
    after = ("", "")
    while rows := await conn.fetch(_CHECKPOINTS, thread_id, *after):
        items = [item for row in rows for item in _items(decode(row), thread_id, target_id)]
        wanted = needed(ref for item in items for ref in _references(item)) - sent
        values = {row["hash"]: row for row in await conn.fetch(_VALUES, thread_id, list(wanted))}
        for item in items:
            names = needed(_references(item)) & values.keys()
            if names:
                item["blobs"] = [_blob(values.pop(name)) for name in sorted(names)]
            yield item
        sent |= wanted
        after = (rows[-1]["checkpoint_id"], rows[-1]["ns"])


def _items(saved: SavedCheckpoint, thread_id: str, target_id: str) -> list[Item]:
    at = {"ns": saved.ns, "checkpoint_id": saved.checkpoint_id}
    metadata = saved.metadata
    if metadata.get("thread_id") == thread_id:
        metadata["thread_id"] = target_id
    items: list[Item] = [
        {
            "kind": "checkpoint",
            **at,
            "parent_id": saved.parent_id,
            "metadata": metadata,
            "checkpoint": saved.checkpoint,
            "channels": saved.values.channels,
        }
    ]
    if saved.tasks is not None:
        plan = {"tasks": saved.tasks, "out": saved.values.out, "shown": saved.values.shown}
        items.append({"kind": "tasks", **at, **{k: v for k, v in plan.items() if v is not None}})
    by_task: dict[tuple[str, str], list[Any]] = {}
    for task_path, task_id, idx, channel, value in saved.writes:
        by_task.setdefault((task_id, task_path), []).append([idx, channel, value])
    items += (
        {"kind": "writes", **at, "task_id": task_id, "task_path": task_path, "writes": writes}
        for (task_id, task_path), writes in by_task.items()
    )
    return items


def _references(item: Item) -> list[Reference]:
    if item["kind"] == "checkpoint":
        return list(item["channels"].values())
    if item["kind"] == "writes":
        return [write[2] for write in item["writes"]]
    return [ref for part in (item.get("shown") or {}).values() for ref in part.values()]


def _blob(row: asyncpg.Record) -> dict[str, str]:
    return {"h": row["hash"], "t": row["type"], "b": b64encode(row["data"]).decode("ascii")}
