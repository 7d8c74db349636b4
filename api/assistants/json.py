"""An assistant as clients receive it."""

from __future__ import annotations

from typing import Any

import asyncpg

from threadlog.api.http.responses import raw, time_text


def assistant_to_json(row: asyncpg.Record, *, with_updated_at: bool = True) -> dict[str, Any]:
    """`row`: of `projections.queries.assistants`, the current version or (`with_updated_at=False`) a former one."""
    item = {
        "assistant_id": str(row["assistant_id"]),
        "graph_id": row["graph_id"],
        "config": raw(row["config"]),
        "context": raw(row["context"]),
        "metadata": raw(row["metadata"]),
        "name": row["name"],
        "description": row["description"],
        "version": row["version"],
        "created_at": time_text(row["created_at"]),
    }
    if with_updated_at:
        item["updated_at"] = time_text(row["updated_at"])
    return item
