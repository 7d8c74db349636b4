"""Staging table: large arguments of a statement, sent before it in pieces.

A driver encodes all arguments of a statement in one turn of the loop, 2 to 6 ms for each MB. What others would wait for
goes into a temporary table first, a piece in each turn, and the statement takes it from there.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

TOTAL_BYTES = 1024 * 1024
"""Nothing is staged of arguments that are smaller than this together: a table and two round trips cost 2 ms."""
VALUE_BYTES = 64 * 1024
"""Arguments smaller than this go with their statement."""
_PIECE_BYTES = 512 * 1024  # about 1 ms of the loop

_CREATE = """
CREATE TEMP TABLE staged (place text, key text, value bytea) ON COMMIT DROP;
ALTER TABLE pg_temp.staged ALTER COLUMN value SET STORAGE EXTERNAL;
"""
_DROP = "DROP TABLE pg_temp.staged"
# The role may lack it; what is large then goes with its statement.
_MAY = "SELECT has_database_privilege(current_database(), 'TEMP')"

_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_COPY_END = struct.pack("!h", -1)


class StagedValue(NamedTuple):
    """A value in `pg_temp.staged`; statements find it by `place` and `key`."""

    place: str
    key: str
    value: bytes


def is_large(sizes: Iterable[int]) -> bool:
    """Whether values of these sizes are worth staging."""
    return sum(size for size in sizes if size >= VALUE_BYTES) >= TOTAL_BYTES


async def may_stage(conn: Any) -> bool:
    return bool(await conn.fetchval(_MAY))


@asynccontextmanager
async def staged(conn: Any, values: Sequence[StagedValue], seconds: float) -> AsyncIterator[None]:
    """`pg_temp.staged` has these values for the block, in the caller's transaction; the copy may take `seconds`."""
    if not values:
        yield
        return
    await conn.execute(_CREATE)
    await conn.copy_to_table("staged", schema_name="pg_temp", source=_binary(values), format="binary", timeout=seconds)
    yield
    await conn.execute(_DROP)


async def _binary(values: Sequence[StagedValue]) -> AsyncIterator[bytes | memoryview]:
    """The values in COPY's binary format, a piece at a time."""
    yield _COPY_HEADER
    for place, key, value in values:
        names = b"".join(struct.pack("!i", len(data)) + data for data in (place.encode(), key.encode()))
        yield struct.pack("!h", 3) + names + struct.pack("!i", len(value))
        view = memoryview(value)
        for start in range(0, len(value), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]
            await asyncio.sleep(0)
    yield _COPY_END
