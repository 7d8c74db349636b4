"""Where in the log to look for something, told by the read models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg


@dataclass(frozen=True, slots=True)
class Place:
    """The thread whose partition it is in, and when it began."""

    thread_id: str
    created_at: datetime


async def place_of_run(uri: str, run_id: str) -> Place | None:
    """Of a run; None if the read models have none of that id: it was deleted, or never was."""
    return await _place(uri, "SELECT thread_id::text, created_at FROM runs WHERE run_id = $1", run_id)


async def place_of_thread(uri: str, thread_id: str) -> Place | None:
    """Of a thread; None if the read models have none of that id."""
    return await _place(uri, "SELECT thread_id::text, created_at FROM threads WHERE thread_id = $1", thread_id)


async def _place(uri: str, query: str, id: str) -> Place | None:
    connection = await asyncpg.connect(uri)
    try:
        row = await connection.fetchrow(query, id)
    finally:
        await connection.close()
    return None if row is None else Place(row[0], row[1])
