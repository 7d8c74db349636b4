"""Event records to rows: folds a batch and writes it with one call per fold (nearly always one)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from engine.ports import Accepted
from projections import assistants, checkpoints, runs, threads
from projections.rows import ReadValue, Rows, time_of

Handler = Callable[[Rows, dict[str, Any], datetime, int], None]

_HANDLERS: dict[str, Handler] = {
    **threads.HANDLERS,
    **runs.HANDLERS,
    **checkpoints.HANDLERS,
    **assistants.HANDLERS,
}
# Answers; they change no read model.
_SILENT = frozenset({"command.rejected", "command.repeated", "report.fenced"})
_TOMBSTONES = frozenset({"thread.deleted", "assistant.deleted"})

PROJECT_ROWS = "SELECT project_rows(" + ", ".join(f"${i}" for i in range(1, 21)) + ")"
ARGUMENTS = 20


class UnknownEvent(Exception):
    """The log holds an event this version does not know: a newer one wrote it. Upgrade this process."""


def fold(batches: Iterable[tuple[int, Sequence[Accepted]]]) -> list[Rows]:
    """Fold the accepted records of each partition to as few `Rows` as their order allows (mostly one).

    Raises:
        UnknownEvent: an event's type is not in the catalogue.
    """
    rows = Rows()
    done = [rows]
    for p, accepted in batches:
        for item in accepted:
            record = item.record
            if record.cmd_id.startswith("due:"):  # whatever it was decided to, the timer has fired
                rows.timers.pop(record.cmd_id, None)
                rows.fired.add(record.cmd_id)
            at = deleted_at = None
            for event in record.events:
                kind = event["type"]
                if kind in _SILENT:  # also of what was refused because it has no proper time
                    continue
                if at is None:
                    at = time_of(record.at)
                if kind in runs.LOSSES and rows.must_flush_before_loss(event["thread_id"]):
                    rows = Rows()
                    done.append(rows)
                handler = _HANDLERS.get(kind)
                if handler is None:
                    raise UnknownEvent(f"{kind} in events[{p}] at offset {item.offset}")
                handler(rows, event, at, p)
                if kind in _TOMBSTONES:
                    deleted_at = at
            if item.state is not None:
                rows.aggregates[record.key] = (p, item.state, deleted_at)
    return done


def fold_by_key(p: int, accepted: Sequence[Accepted]) -> list[Rows]:
    """`fold` of many records of a partition, key by key: a loss in one thread does not divide the fold of the others,
    and what vanishes again is looked for among the rows of its own thread only. What it leads to is the same.

    Raises:
        UnknownEvent: an event's type is not in the catalogue.
    """
    by_key: dict[str, list[Accepted]] = {}
    for item in accepted:
        by_key.setdefault(item.record.key, []).append(item)
    done: list[Rows] = []
    for items in by_key.values():
        folds = fold([(p, items)])
        for into, rows in zip(done, folds, strict=False):
            into.take(rows)
        done += folds[len(done) :]
    return done


async def project(
    conn: asyncpg.Connection,
    batches: Iterable[tuple[int, Sequence[Accepted]]],
    read_value: ReadValue,
    *,
    applied: str | None = None,
    quiet: bool = False,
) -> None:
    """Fold and write within the caller's transaction.

    `applied`: what to tell the listeners of `threadlog_applied`; `quiet`: notify nobody, it is a rebuild.
    """
    await write(conn, fold(batches), read_value, applied=applied, quiet=quiet)


async def write(
    conn: asyncpg.Connection,
    folds: Sequence[Rows],
    read_value: ReadValue,
    *,
    applied: str | None = None,
    quiet: bool = False,
) -> None:
    """Write what was folded, in order, within the caller's transaction; as `project`."""
    for rows in folds:
        if rows.awaited:
            await rows.fetch(read_value)
    for rows in folds:
        await conn.execute(PROJECT_ROWS, *rows.arguments(applied if rows is folds[-1] else None, quiet=quiet))
