"""Lookups of threads that handlers of threads and runs share: existence, rendered values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api
from threadlog.api.http.errors import ApiError
from threadlog.projections.queries import state, threads
from threadlog.projections.queries.connection import Reader
from threadlog.projections.queries.metadata_filter import MetadataFilter


def thread_not_found(thread_id: str) -> ApiError:
    return ApiError(404, f"Thread with ID {thread_id} not found", code="thread_not_found")


async def require_thread(api: Api, thread_id: str, only: MetadataFilter | None = None) -> None:
    """Raises `ApiError` 404 unless the thread exists, and passes the filter."""
    if not await threads.exists(api.pool, thread_id, only):
        raise thread_not_found(thread_id)


async def require_allowed(api: Api, thread_id: str, only: MetadataFilter | None) -> None:
    """Raises `ApiError` 404 unless the thread passes the filter. Without a filter what follows finds out by itself
    whether the thread exists."""
    if only is not None:
        await require_thread(api, thread_id, only)


async def readable(request: web.Request, api: Api, thread_id: str) -> MetadataFilter | None:
    """Ask for `threads.read`; raises `ApiError` 404 unless the caller may see the thread."""
    only = await allowed(request, "threads.read", {"thread_id": thread_id})
    await require_allowed(api, thread_id, only)
    return only


async def values_of(db: Reader, rows: Sequence[asyncpg.Record]) -> dict[str, Any]:
    """The rendered values of these threads, by thread id; a thread without a checkpoint has no entry."""
    thread_ids = [str(row["thread_id"]) for row in rows if row["checkpoint_id"] is not None]
    return await state.get_values(db, thread_ids) if thread_ids else {}
