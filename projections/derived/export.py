"""Exporter: finished runs and closed windows as JSON lines in a folder, for other systems to load.

Files appear whole (they are renamed into place) and are never changed, but for a window's to which something late is
added. A run is a line of one file, whatever crashes in between: which runs a file has is committed before it is
written.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from threadlog.projections.derived import queries

RUNS_OF_A_FILE = 50_000
WINDOWS_AT_A_TIME = 200
LATE = timedelta(minutes=1)
"""How long after its end a window is written: what ended in it is mostly counted by then."""
_LOCK = 0x7468_6578  # "thex": one exporter at a time
_HOUR = timedelta(hours=1)


class Exporter:
    """Writes what `DerivedTables` has noted. Methods raise what asyncpg raises, and `OSError` of the folder."""

    def __init__(self, pool: asyncpg.Pool, folder: Path) -> None:
        self._pool, self._folder = pool, folder

    def prepare(self) -> None:
        """Make the folders. Raises `OSError`."""
        for name in ("runs", "windows"):
            place = self._folder / name
            place.mkdir(parents=True, exist_ok=True)
            for left in place.rglob(".*.part"):
                left.unlink()
            probe = place / ".writable"
            probe.write_bytes(b"")
            probe.unlink()

    async def export(self, now: datetime | None = None) -> list[Path]:
        """Write all that is due; returns the files written. Nothing while another process exports."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                return []
            try:
                return await self._runs(connection) + await self._windows(connection, now or datetime.now(UTC))
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)

    async def _runs(self, connection: Any) -> list[Path]:
        written: list[Path] = []
        while True:
            row = await connection.fetchrow("SELECT * FROM threadlog_derived.export_batches ORDER BY batch LIMIT 1")
            if row is None:
                row = await self._next_batch(connection)
            if row is None:
                return written
            lines = await connection.fetch(_LINES, row["batch"])
            at = row["at"].astimezone(UTC)
            path = self._folder / "runs" / f"{at:%Y-%m-%d}" / f"{at:%Y%m%dT%H%M%SZ}-{row['batch']:08}.jsonl"
            await asyncio.to_thread(_write_whole, path, "".join(f"{line['line']}\n" for line in lines).encode())
            written.append(path)
            async with connection.transaction():
                await connection.execute("DELETE FROM threadlog_derived.ended_runs WHERE batch = $1", row["batch"])
                await connection.execute("DELETE FROM threadlog_derived.export_batches WHERE batch = $1", row["batch"])

    async def _next_batch(self, connection: Any) -> Any:
        async with connection.transaction():
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM threadlog_derived.ended_runs WHERE batch IS NULL)"
            ):
                return None
            row = await connection.fetchrow("INSERT INTO threadlog_derived.export_batches DEFAULT VALUES RETURNING *")
            await connection.execute(_INTO_BATCH, row["batch"], RUNS_OF_A_FILE)
            return row

    async def _windows(self, connection: Any, now: datetime) -> list[Path]:
        starts = await connection.fetch(_CLOSED, now - _HOUR - LATE, WINDOWS_AT_A_TIME)
        written: list[Path] = []
        for (start,) in starts:
            # The row goes first and the file comes before the commit: who counts for the window waits, then adds a row.
            async with connection.transaction():
                await connection.execute("DELETE FROM threadlog_derived.changed_windows WHERE start = $1", start)
                lines = await _window(connection, start)
                path = self._folder / "windows" / f"{start:%Y-%m-%d}" / f"{start:%Y-%m-%dT%H}.jsonl"
                await asyncio.to_thread(_write_whole, path, lines)
            written.append(path)
        return written


async def _window(connection: Any, start: datetime) -> bytes:
    lines: list[bytes] = []
    for dimension in queries.DIMENSIONS:
        rows = await queries.usage(connection, by=dimension, window="hour", since=start, until=start + _HOUR)
        lines += [
            orjson.dumps({"start": start, "dimension": dimension, **row}, option=orjson.OPT_UTC_Z) + b"\n"
            for row in ({name: value for name, value in row.items() if name != "start"} for row in rows)
        ]
    return b"".join(lines)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also when the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{path.name}.part"
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    for folder in (path.parent, path.parent.parent):
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LINES = 'SELECT line FROM threadlog_derived.ended_runs WHERE batch = $1 ORDER BY partition, "offset", idx'
_INTO_BATCH = """
UPDATE threadlog_derived.ended_runs e SET batch = $1 FROM (
    SELECT partition, "offset", idx FROM threadlog_derived.ended_runs WHERE batch IS NULL
    ORDER BY partition, "offset", idx LIMIT $2
) n WHERE (e.partition, e."offset", e.idx) = (n.partition, n."offset", n.idx)
"""
_CLOSED = "SELECT start FROM threadlog_derived.changed_windows WHERE start <= $1 ORDER BY start LIMIT $2"
