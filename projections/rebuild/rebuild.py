"""Rebuild: folds the log into empty tables, as fast as one process can; `threadlog verify` compares with them.

Much larger folds than the live projection's, with the records of each key together (keys have no rows in common), so
that most rows are written once, as they are in the end; records are read and decoded while Postgres writes.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from threadlog.engine.domain import decider
from threadlog.engine.domain.decider import EMPTY, States
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.port import Log, Record, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.engine.log.unreadable import event_in
from threadlog.engine.processor.ports import Accepted, Unprojectable
from threadlog.projections.fold.batch import ProjectionBatch, ReadValue
from threadlog.projections.fold.project import add_skip, fold_by_key, project_singly, unprojectable, write

# The size of a fold: at most so many records, bytes of records, and values in the `values` topic (over 32 KiB each).
FOLD_RECORDS = 4_000
FOLD_BYTES = 16 * 1024 * 1024
FOLD_VALUES = 100
_YIELD_RECORDS = 32

Skip = tuple[Any, ...]
"""A row of `projection_skips`."""

Progress = Callable[[int, int], None]
"""Receives how many records are done, and how many there are, with every fold."""


def reader_of_values(source: Log) -> ReadValue:
    """A function that reads a value from the `values` topic by partition and offset; it raises `LookupError` when the
    value is missing."""

    async def read_value(p: int, offset: int) -> bytes:
        records = await source.read(Topic.VALUES, p, offset, end=offset + 1)
        if not records:
            raise LookupError(f"values[{p}] has nothing at offset {offset}")
        return records[0].value

    return read_value


@dataclass(slots=True)
class Rebuilt:
    """How far a rebuild has come, so that it can go on: by partition the last offset, the acceptance rule, and the
    decider states by key."""

    upto: dict[int, int] = field(default_factory=dict)
    acceptance: dict[int, Acceptance] = field(default_factory=dict)
    states: dict[int, dict[str, States]] = field(default_factory=dict)


async def rebuild(
    conn: asyncpg.Connection,
    source: Log,
    upto: Mapping[int, int],
    *,
    rebuilt: Rebuilt | None = None,
    only: str | None = None,
    progress: Progress | None = None,
    fold_records: int = FOLD_RECORDS,
    skips: Sequence[Skip] = (),
) -> None:
    """Fill the empty tables in the connection's search_path from the log, up to these offsets of each partition.

    `fold_records`: at most so many records are folded at a time.
    `skips`: rows of `projection_skips`: these events are left out, besides others that can't be projected. Whether one
    can may depend on what was in the tables when it came, and records are folded here that came one after the other.
    `rebuilt`: go on from there, and remember where this ended. `only`: what has this key.

    Raises:
        LookupError: the log lacks records before these offsets, or values they point at.
    """
    read_value = reader_of_values(source)
    begin = {} if rebuilt is None else {p: end + 1 for p, end in rebuilt.upto.items()}
    done, total = 0, sum(end + 1 - begin.get(p, 0) for p, end in upto.items())
    positions: list[tuple[int, int, int | None, int]] = []
    writing: asyncio.Task[None] | None = None
    try:
        with _without_cyclic_gc():
            for p, end in upto.items():
                acceptance = Acceptance()
                states: dict[str, States] = {}
                if rebuilt is not None:
                    acceptance = rebuilt.acceptance.setdefault(p, acceptance)
                    states = rebuilt.states.setdefault(p, states)
                    rebuilt.upto[p] = end
                left_out = {(row[1], row[2]) for row in skips if row[0] == p}
                async with aclosing(_chunks(source, p, begin.get(p, 0), end, fold_records)) as chunks:
                    async for records in chunks:
                        accepted = await _accepted(records, acceptance, states, left_out, only)
                        try:
                            with unprojectable():
                                folds = fold_by_key(p, accepted)
                        except Unprojectable:
                            folds = None
                        if writing is not None:
                            await writing
                        writing = asyncio.create_task(_write(conn, p, accepted, folds, read_value))
                        done += len(records)
                        if progress is not None:
                            progress(done, total)
                positions.append((p, end, acceptance.cmd_off, acceptance.epoch))
            if writing is not None:
                await writing
    finally:
        if writing is not None:
            writing.cancel()
            with suppress(asyncio.CancelledError, Exception):  # what it raised has been raised, or something before it
                await writing
    for row in skips:
        await add_skip(conn, *row)
    await conn.executemany("UPDATE partitions SET ev_off = $2, cmd_off = $3, log_epoch = $4 WHERE p = $1", positions)


async def _write(
    conn: asyncpg.Connection,
    p: int,
    accepted: Sequence[Accepted],
    folds: Sequence[ProjectionBatch] | None,
    read_value: ReadValue,
) -> None:
    """Write these records; if that fails, halve them until the events at fault are found, and leave those out."""
    try:
        async with conn.transaction():
            if folds is None:
                with unprojectable():
                    folds = fold_by_key(p, accepted)
            await write(conn, folds, read_value, quiet=True)
    except Unprojectable:
        if len(accepted) == 1:
            return await project_singly(conn, p, accepted[0], read_value, quiet=True)
        middle = len(accepted) // 2
        for half in (accepted[:middle], accepted[middle:]):
            await _write(conn, p, half, None, read_value)


async def _accepted(
    records: list[Record],
    acceptance: Acceptance,
    states: dict[str, States],
    left_out: Collection[tuple[int, int]],
    only: str | None,
) -> list[Accepted]:
    """The accepted records, without the events whose `(offset, index)` is left out; the last record of each key carries
    the decider state after it."""
    accepted: list[tuple[int, EventRecord]] = []
    last: dict[str, int] = {}
    for n, raw in enumerate(records):
        if n % _YIELD_RECORDS == 0:
            await asyncio.sleep(0)  # what is being sent to Postgres and read from the log goes on
        record = event_in(raw)
        if not acceptance.accepts(record) or (only is not None and record.key != only):
            continue
        before = states.get(record.key, EMPTY)
        after = decider.fold_wire(before, record.key, record.cmd_id, record.at, record.events)
        if after is not before:
            states[record.key] = after
            last[record.key] = len(accepted)
        if left_out:
            remaining = [event for idx, event in enumerate(record.events) if (raw.offset, idx) not in left_out]
            if len(remaining) < len(record.events):
                record = replace(record, events=remaining)
        accepted.append((raw.offset, record))
    return [
        Accepted(offset, record, decider.dump(states[record.key]) if last.get(record.key) == n else None)
        for n, (offset, record) in enumerate(accepted)
    ]


async def _chunks(source: Log, p: int, start: int, end: int, fold_records: int) -> AsyncGenerator[list[Record], None]:
    """The records of a partition from `start` to `end`, so many as are to be folded at a time; the next are read
    meanwhile."""
    chunk: list[Record] = []
    size = values = 0
    reading: asyncio.Task[list[Record]] | None = None
    try:
        while start <= end:
            if reading is None:
                reading = asyncio.create_task(source.read(Topic.EVENTS, p, start, end=end + 1))
            records = await reading
            reading = None
            if not records:
                raise LookupError(f"events[{p}] ends before {end}, up to which the read models are")
            start = records[-1].offset + 1
            if start <= end:
                reading = asyncio.create_task(source.read(Topic.EVENTS, p, start, end=end + 1))
            for record in records:
                chunk.append(record)
                size += len(record.value)
                values += record.value.count(b'"at":') - 1  # the record's own; a few others are counted that are none
                if len(chunk) >= fold_records or size >= FOLD_BYTES or values >= FOLD_VALUES:
                    yield chunk
                    chunk, size, values = [], 0, 0
        if chunk:
            yield chunk
    finally:
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reading


@contextmanager
def _without_cyclic_gc() -> Iterator[None]:
    """Disable the cyclic garbage collector: a rebuild allocates many long-lived objects that are in no cycle."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
