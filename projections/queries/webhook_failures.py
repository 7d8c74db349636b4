"""Reads of webhooks that failed: dead ones, and those of which another attempt follows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import asyncpg

from threadlog.projections.queries.connection import Reader
from threadlog.projections.queries.metadata_filter import MetadataFilter, of_thread_sql

FailureState = Literal["dead", "failed"]


async def search(
    db: Reader,
    *,
    state: FailureState | None = None,
    since: datetime | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int,
    only: MetadataFilter | None = None,
) -> Sequence[asyncpg.Record]:
    """The last failure of each, newest first; `after`: those behind this `(failed_at, run_id)`. `only`: of threads
    whose metadata passes this filter."""
    args: list[Any] = [limit]
    conditions = {None: "true", "dead": "due_at IS NULL", "failed": "due_at IS NOT NULL"}[state]
    if since is not None:
        args.append(since)
        conditions += f" AND failed_at >= ${len(args)}"
    if after is not None:
        args += after
        conditions += f" AND (failed_at, run_id) < (${len(args) - 1}, ${len(args)}::uuid)"
    conditions += of_thread_sql(only, "webhook_failures.thread_id", args)
    return await db.fetch(
        f"SELECT * FROM webhook_failures WHERE {conditions} ORDER BY failed_at DESC, run_id DESC LIMIT $1", *args
    )
