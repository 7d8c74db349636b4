"""Lookups of threads that handlers of threads and runs share: existence, rendered values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from threadlog.api.context import Api
from threadlog.api.http.errors import ApiError
from threadlog.projections.queries import state, threads
from threadlog.projections.queries.connection import Reader


def thread_not_found(thread_id: str) -> ApiError:
    return ApiError(404, f"Thread with ID {thread_id} not found")


async def require_thread(api: Api, thread_id: str) -> None:
    """Raises `ApiError` 404 unless the thread exists."""
    if not await threads.exists(api.pool, thread_id):
        raise thread_not_found(thread_id)


async def values_of(db: Reader, rows: Sequence[asyncpg.Record]) -> dict[str, Any]:
    """The rendered values of these threads, by thread id; a thread without a checkpoint has no entry."""
    thread_ids = [str(row["thread_id"]) for row in rows if row["checkpoint_id"] is not None]
    return await state.get_values(db, thread_ids) if thread_ids else {}
