"""A thread as clients receive it."""

from __future__ import annotations

from typing import Any

import asyncpg

from threadlog.api.http.responses import raw, time_text


def thread_to_json(row: asyncpg.Record, values: Any) -> dict[str, Any]:
    """`row`: of `projections.queries.threads`. `values`: rendered values of its newest checkpoint, if it has one."""
    return {
        "thread_id": str(row["thread_id"]),
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
        "state_updated_at": time_text(row["state_updated_at"]),
        "metadata": raw(row["metadata"]),
        "status": row["status"],
        "config": raw(row["config"]),
        "values": values,
        "error": raw(row["error"]),
        "interrupts": raw(row["interrupts"]),
    }


def new_thread_to_json(thread_id: str, metadata: dict[str, Any], at: str) -> dict[str, Any]:
    """The thread that `CreateThread` has just created without a state, as its row would show it; `at`: when."""
    return {
        "thread_id": thread_id,
        "created_at": at,
        "updated_at": at,
        "state_updated_at": at,
        "metadata": metadata,
        "status": "idle",
        "config": {},
        "values": None,
        "error": None,
        "interrupts": {},
    }
