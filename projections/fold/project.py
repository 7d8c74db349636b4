"""Event records to rows: folds a batch and writes it with one call per fold (nearly always one).

What the read models can't take raises `Unprojectable`; `project_singly` then leaves out the events at fault. Live
projection and rebuild find the same ones: both try a record's events one by one on what the records before it left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg

from threadlog.engine.domain.keyed_request import KEYED
from threadlog.engine.domain.text import storable
from threadlog.engine.log.large import longer
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.postgres.errors import FAILED
from threadlog.engine.postgres.staging import may_stage, staged
from threadlog.engine.processor.ports import Accepted, Unprojectable
from threadlog.projections.fold import (
    assistants,
    checkpoints,
    crons,
    imports,
    keyed_requests,
    runs,
    store,
    threads,
    webhooks,
)
from threadlog.projections.fold.batch import ProjectionBatch, ReadValue, time_of
from threadlog.projections.fold.large_rows import without_large

log = logging.getLogger(__name__)

Handler = Callable[[ProjectionBatch, dict[str, Any], datetime, int], None]

_HANDLERS: dict[str, Handler] = {
    **threads.HANDLERS,
    **runs.HANDLERS,
    **checkpoints.HANDLERS,
    **webhooks.HANDLERS,
    **assistants.HANDLERS,
    **store.HANDLERS,
    **crons.HANDLERS,
    **keyed_requests.HANDLERS,
}
# Replies to a command, and what only the history tells; they change no read model.
_SILENT = frozenset({
    "command.rejected", "command.repeated", "report.fenced", "run.refused", "state.migrated", "history.imported",
    "history.closed",
})  # fmt: skip
_TOMBSTONES = frozenset({"thread.deleted", "assistant.deleted", "cron.deleted"})

PROJECT_PRIORITIES = "SELECT project_priorities($1, $2, $3)"
PROJECT_ENDS = "SELECT project_ends($1)"
STORE_ARGUMENTS = 9
PROJECT_STORE = "SELECT project_store(" + ", ".join(f"${i}" for i in range(1, STORE_ARGUMENTS + 1)) + ")"
PROJECT_PUTS = "SELECT project_puts(" + ", ".join(f"${i}" for i in range(1, 11)) + ")"
PROJECT_WEBHOOKS = "SELECT project_webhooks($1, $2, $3, $4, $5)"
PROJECT_ROWS = "SELECT project_rows(" + ", ".join(f"${i}" for i in range(1, 21)) + ")"
ARGUMENTS = 20


_ERROR_SHOWN = 2000  # characters of an error that are kept

# What rows of ours can be refused for: the same rows would be refused again.
UNSTORABLE = (
    Unprojectable, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError,
)  # fmt: skip


class UnknownEvent(Exception):
    """The log holds an event this version does not know: a newer one wrote it. Upgrade this process."""


def fold(batches: Iterable[tuple[int, Sequence[Accepted]]]) -> list[ProjectionBatch]:
    """Fold the accepted records of each partition to as few batches as their order allows (mostly one).

    Raises:
        UnknownEvent: an event's type is not in the catalogue.
    """
    rows = ProjectionBatch()
    done = [rows]
    for p, accepted in batches:
        for item in accepted:
            record = item.record
            if record.cmd_id.startswith("due:"):  # whatever it was decided to, the timer has fired
                rows.timers.pop(record.cmd_id, None)
                rows.removed_timers.add(record.cmd_id)
            at = deleted_at = None
            imported = record.imported
            for event in record.events:
                kind = event["type"]
                if kind in _SILENT:  # also of what was refused because it has no proper time
                    continue
                if at is None:
                    at = time_of(record.at)
                if (
                    (kind in runs.DELETIONS and rows.must_flush_before_deletion(event["thread_id"]))
                    or (kind in runs.ENDS and runs.changes_tasks(event)
                        and rows.must_flush_before_end(event["thread_id"]))
                    or (kind in store.HANDLERS and store.must_flush_before(rows, event))
                ):  # fmt: skip
                    rows = rows.next()
                    done.append(rows)
                rows.offset = item.offset
                handler = _HANDLERS.get(kind)
                if handler is None:
                    raise UnknownEvent(f"{kind} in events[{p}] at offset {item.offset}")
                handler(rows, event, at, p)
                if imported:
                    imports.without_effects(rows, event)
                if kind in _TOMBSTONES:
                    deleted_at = at
            if at is not None and record.cmd_id.startswith(KEYED):
                keyed_requests.sent(rows, record, at, p)
            if item.state is not None:
                rows.aggregates[record.key] = (p, item.state, deleted_at)
    return done


def fold_by_key(p: int, accepted: Sequence[Accepted]) -> list[ProjectionBatch]:
    """`fold` of many records of a partition, key by key, with the same effect: a deletion in one thread does not divide
    the fold of the others, and deleted rows are looked up among those of their own thread only.

    Raises:
        UnknownEvent: an event's type is not in the catalogue.
    """
    by_key: dict[str, list[Accepted]] = {}
    for item in accepted:
        by_key.setdefault(item.record.key, []).append(item)
    done: list[ProjectionBatch] = []
    for items in by_key.values():
        folds = fold([(p, items)])
        for into, rows in zip(done, folds, strict=False):
            into.take(rows)
        done += folds[len(done) :]
    for rows in done[:-1]:
        rows.hand_on(done[-1])
    return done


@contextmanager
def unprojectable() -> Iterator[None]:
    """Raise what an event's content can be blamed for as `Unprojectable`: neither a database or log that is away nor an
    event of a newer version."""
    try:
        yield
    except UNSTORABLE as error:
        raise _unprojectable(error) from error
    except asyncpg.InternalServerError as error:
        if "invalid memory alloc request size" not in str(error):  # of a value beyond the limits of its type
            raise
        raise _unprojectable(error) from error
    except FAILED:
        raise
    except (LogUnavailable, UnknownEvent):
        raise
    except Exception as error:
        raise _unprojectable(error) from error


def _unprojectable(error: Exception) -> Unprojectable:
    return error if isinstance(error, Unprojectable) else Unprojectable(f"{type(error).__name__}: {error}")


async def project(
    conn: asyncpg.Connection,
    batches: Iterable[tuple[int, Sequence[Accepted]]],
    read_value: ReadValue,
    *,
    applied: str | None = None,
    quiet: bool = False,
) -> None:
    """Fold and write within the caller's transaction. Raises `Unprojectable`.

    `applied`: the payload for the channel `threadlog_applied`; `quiet`: no notifications at all, as in a rebuild.
    """
    with unprojectable():
        folds = fold(batches)
    await write(conn, folds, read_value, applied=applied, quiet=quiet)


async def write(
    conn: asyncpg.Connection,
    folds: Sequence[ProjectionBatch],
    read_value: ReadValue,
    *,
    applied: str | None = None,
    quiet: bool = False,
) -> None:
    """Write what was folded, in order, within the caller's transaction; as `project`."""
    with unprojectable():
        for rows in folds:
            if rows.deferred_values:
                await rows.fetch(read_value)
        for rows in folds:
            for sql, arguments in statements(rows, applied if rows is folds[-1] else None, quiet=quiet):
                if sql is PROJECT_ROWS:
                    await write_rows(conn, arguments)
                else:
                    await conn.execute(sql, *arguments)


async def write_rows(conn: Any, arguments: Sequence[Any], *, seconds: float = 30.0) -> None:
    """`project_rows` within the caller's transaction; what is large in it in pieces, so that others get their turn."""
    large = without_large(arguments)
    if not large.values or not await may_stage(conn):
        await conn.execute(PROJECT_ROWS, *arguments, timeout=seconds)
        return
    seconds = longer(seconds, sum(len(value.value) for value in large.values))
    async with staged(conn, large.values, seconds):
        await conn.execute(PROJECT_ROWS, *large.arguments, timeout=seconds)
        for sql in large.fill:
            await conn.execute(sql, timeout=seconds)


def statements(
    rows: ProjectionBatch, applied: str | None, *, quiet: bool = False, wakes: bool = True
) -> list[tuple[str, list[Any]]]:
    """The statements that write a fold, with their arguments: `project_puts` if that can do it alone, else
    `project_rows`, before it `project_ends` if runs end in it and `project_webhooks` if webhooks change, and after it
    `project_priorities` if attempts have some and what the store, crons and keyed requests write, if there is
    something of theirs."""
    if (puts := rows.put_arguments(None if quiet else applied)) is not None:
        return [(PROJECT_PUTS, puts)]
    written = [(PROJECT_ROWS, rows.arguments(applied, quiet=quiet, wakes=wakes))]
    if rows.changes_webhooks:
        written.insert(0, (PROJECT_WEBHOOKS, rows.webhook_arguments()))
    if rows.ends:
        written.insert(0, (PROJECT_ENDS, [rows.end_arguments()]))
    if priorities := rows.priority_arguments():
        written.append((PROJECT_PRIORITIES, priorities))
    if rows.changes_store:
        written.append((PROJECT_STORE, rows.store_arguments()))
    if rows.crons:
        written.append((crons.PROJECT_CRONS, [rows.crons]))
    if rows.keyed:
        written.append((keyed_requests.PROJECT_KEYED, [keyed_requests.in_order(rows.keyed)]))
    return written


def one_statement(head: str, arguments: int, projections: Iterable[str]) -> str:
    """A SELECT that has so many arguments, followed by what projects a fold (the SQL of its `statements`), whose
    arguments come behind: functions in the list of a SELECT are called in order, in one round trip."""
    columns = [head]
    for projection in projections:
        function, own = projection.removeprefix("SELECT ").split("(")[0], projection.count("$")
        columns.append(f"{function}({', '.join(f'${arguments + i}' for i in range(1, own + 1))})")
        arguments += own
    return ", ".join(columns)


def holds_large(written: Iterable[tuple[str, list[Any]]]) -> bool:
    """Whether a value among these `statements` is worth a way of its own (`without_large`)."""
    return any(without_large(arguments).values for sql, arguments in written if sql is PROJECT_ROWS)


async def project_singly(
    conn: asyncpg.Connection, p: int, item: Accepted, read_value: ReadValue, *, quiet: bool = False
) -> None:
    """Write one record event by event within the caller's transaction; those that the read models can't take are left
    out and recorded in `projection_skips`."""
    record = item.record
    if record.cmd_id.startswith("due:"):
        await write(conn, fold([(p, [Accepted(item.offset, replace(record, events=[]), None)])]), read_value)
    deleted_at = None
    origin = record.events[:1] if record.imported else []
    apart = [one for event in record.events for one in store.one_by_one(event)]
    for idx, event in enumerate(apart):
        try:
            async with conn.transaction():
                alone = Accepted(item.offset, replace(record, events=[*origin, event]), None)
                await project(conn, [(p, [alone])], read_value, quiet=quiet)
        except Unprojectable as error:
            await _skip(conn, p, item, idx, event["type"], error)
        else:
            if event["type"] in _TOMBSTONES:
                deleted_at = time_of(record.at)
    if item.state is not None:
        rows = ProjectionBatch()
        rows.aggregates[record.key] = (p, item.state, deleted_at)
        try:
            async with conn.transaction():
                await write(conn, [rows], read_value, quiet=quiet)
        except Unprojectable as error:
            await _skip(conn, p, item, -1, "the decider's state", error)


async def _skip(conn: asyncpg.Connection, p: int, item: Accepted, idx: int, kind: str, error: Exception) -> None:
    record = item.record
    log.error(
        "%s of %s in events[%d] at offset %d (command %s) can't be projected and is left out: %s",
        kind, record.key, p, item.offset, record.cmd_id, error,
        extra={"partition": p, "offset": item.offset, "command_id": record.cmd_id, "key": record.key},
    )  # fmt: skip
    shown = str(error)[:_ERROR_SHOWN].encode("utf-8", "replace").decode()
    await add_skip(conn, p, item.offset, idx, record.key, kind, shown, record.at)


async def add_skip(conn: asyncpg.Connection, *row: Any) -> None:
    """`row`: as the columns of `projection_skips`."""
    row = tuple(storable(value) if isinstance(value, str) else value for value in row)
    await conn.execute("INSERT INTO projection_skips VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING", *row)
