"""A run as clients receive it."""

from __future__ import annotations

from typing import Any

import asyncpg

from threadlog.api.http.responses import raw, time_text
from threadlog.engine.domain.commands import CreateRun


def run_to_json(row: asyncpg.Record) -> dict[str, Any]:
    """`row`: of `projections.queries.runs`."""
    return {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "assistant_id": str(row["assistant_id"]) if row["assistant_id"] is not None else None,
        "metadata": raw(row["metadata"]),
        "status": row["status"],
        "kwargs": raw(row["kwargs"]),
        "multitask_strategy": row["multitask_strategy"],
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
        "cancel_reason": row["cancel_reason"],
        "langsmith_session_name": None,
    }


def new_run_to_json(command: CreateRun, at: str) -> dict[str, Any]:
    """The run that this command has created, as its row would show it before an executor claims it; `at`: when."""
    return {
        "run_id": command.run_id,
        "thread_id": command.thread_id,
        "assistant_id": command.run["assistant_id"],
        "metadata": command.run["metadata"],
        "status": "pending",
        "kwargs": command.run["kwargs"],
        "multitask_strategy": command.multitask_strategy,
        "created_at": at,
        "updated_at": at,
        "cancel_reason": None,
        "langsmith_session_name": None,
    }
