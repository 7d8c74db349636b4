"""A thread's checkpoints, writes and values as report items: what a copy is made of."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any, Protocol

import asyncpg
import orjson

from threadlog.engine.stored.row_codec import PARTS, loaded, whole_channels, whole_checkpoint, whole_metadata
from threadlog.engine.stored.value_refs import Reference, needed

Item = dict[str, Any]

_CHECKPOINTS = f"""SELECT c.ns, c.checkpoint_id, c.parent_id, c.metadata::text, c.checkpoint::text, c.channels::text,
        c.tasks::text, c.out::text, c.shown::text, c.created_at, c.run_id::text, c.parts, {PARTS} AS found, (
            SELECT json_agg(json_build_array(w.task_id, w.task_path, w.idx, w.channel, w.value)
                ORDER BY w.task_id, w.idx)::text
            FROM checkpoint_writes w
            WHERE w.thread_id = c.thread_id AND w.ns = c.ns AND w.checkpoint_id = c.checkpoint_id
        ) AS writes
    FROM checkpoints c WHERE c.thread_id = $1 AND (c.checkpoint_id, c.ns) > ($2, $3)
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
        items = [item for row in rows for item in _items(row, thread_id, target_id)]
        wanted = needed(ref for item in items for ref in _references(item)) - sent
        values = {row["hash"]: row for row in await conn.fetch(_VALUES, thread_id, list(wanted))}
        for item in items:
            names = needed(_references(item)) & values.keys()
            if names:
                item["blobs"] = [_blob(values.pop(name)) for name in sorted(names)]
            yield item
        sent |= wanted
        after = (rows[-1]["checkpoint_id"], rows[-1]["ns"])


def _items(row: asyncpg.Record, thread_id: str, target_id: str) -> list[Item]:
    at = {"ns": row["ns"], "checkpoint_id": row["checkpoint_id"]}
    parts, found = row["parts"], loaded(row["found"])
    metadata = whole_metadata(orjson.loads(row["metadata"]), parts, found, row["run_id"])
    if metadata.get("thread_id") == thread_id:
        metadata["thread_id"] = target_id
    items: list[Item] = [
        {
            "kind": "checkpoint",
            **at,
            "parent_id": row["parent_id"],
            "metadata": metadata,
            "checkpoint": whole_checkpoint(orjson.loads(row["checkpoint"]), row["checkpoint_id"], row["created_at"]),
            "channels": whole_channels(orjson.loads(row["channels"]), parts, found),
        }
    ]
    if row["tasks"] is not None:
        plan = {name: orjson.loads(row[name]) for name in ("tasks", "out", "shown") if row[name] is not None}
        items.append({"kind": "tasks", **at, **{k: v for k, v in plan.items() if v is not None}})
    by_task: dict[tuple[str, str], list[Any]] = {}
    for task_id, task_path, idx, channel, value in orjson.loads(row["writes"]) if row["writes"] else ():
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
