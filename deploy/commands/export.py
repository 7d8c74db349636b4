"""Export, `threadlog export`: event records as JSON lines, with the large values that they refer to, and the keys of
what is encrypted (`export_format`)."""

from __future__ import annotations

import base64
import errno
import gzip
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, cast

import asyncpg
import click
import orjson

from threadlog.deploy.commands.events import EventSelection
from threadlog.deploy.commands.export_format import FORMAT, Header, KeyLine, end_line
from threadlog.deploy.commands.export_parquet import ParquetWriter
from threadlog.deploy.commands.terminal import closed_pipe, progress_bar
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.clock import utc_now
from threadlog.engine.log.history import LoggedEvent, LoggedHistory
from threadlog.engine.log.port import Log, Topic
from threadlog.engine.log.records import partition_of


async def export(settings: Settings, selection: EventSelection, path: Path | None, *, as_parquet: bool = False) -> int:
    """Write the selected records to a new file, gzip'ed if it is called so, or to the output. Returns the exit code, 1
    when there are none."""
    count = 0
    assert settings.database_uri is not None
    async with existing_log(settings) as log:
        header = await header_of(log, selection)
        with _opened(path) as file, _writer(file, header, as_parquet) as write:
            write(header.line())
            told: set[bytes] = set()
            async for key in _data_keys(settings.database_uri, selection, told):
                write(key.line())
            async with aclosing(exported(log, selection, prints=path is None)) as lines:
                async for line in lines:
                    count += 1
                    write(line)
            async for key in _data_keys(settings.database_uri, selection, told):  # of threads that were made meanwhile
                write(key.line())
            write(end_line(count))
    click.echo(f"threadlog: {count:,} event records exported", err=True)
    return 0 if count else 1


async def header_of(log: Log, selection: EventSelection) -> Header:
    since, until = selection.since, selection.until
    return Header(
        format=FORMAT,
        installation=await installation_of(log),
        partitions=log.partitions,
        exported_at=utc_now(),
        threadlog=version("threadlog"),
        thread_id=selection.thread_id,
        since=None if since is None else since.isoformat(),
        until=None if until is None else until.isoformat(),
    )


async def installation_of(log: Log) -> str:
    """A name of the installation that its log has: a digest of its first event record, the announcement of an engine.
    Raises `CannotRun`: nothing has happened yet."""
    first, _ = await log.bounds(Topic.EVENTS, 0)
    records = await log.read(Topic.EVENTS, 0, first, end=first + 1, max_bytes=1)
    if not records:
        raise CannotRun("the log is empty: nothing has happened yet")
    return blake2b(records[0].value, digest_size=16).hexdigest()


async def exported(log: Log, selection: EventSelection, *, prints: bool = True) -> AsyncGenerator[dict[str, Any], None]:
    """The records as objects, in the order of the log's clock. Of what ends before now nothing of a thread follows what
    is left out: clocks differ."""
    thread_id, until = selection.thread_id, selection.until
    partitions = range(log.partitions) if thread_id is None else [partition_of(thread_id, log.partitions)]
    since_ms = None if selection.since is None else int(selection.since.timestamp() * 1000)
    wanted = replace(selection, until=None) if until is not None else selection
    history = LoggedHistory(log, partitions, wanted=wanted.wants, since_ms=since_ms)
    over: set[str] = set()
    with progress_bar("records", await history.open(), prints=prints) as done:
        async with aclosing(history.until_now(done)) as past:
            async for logged in past:
                if until is not None and (logged.record.key in over or not selection.wants(logged.record)):
                    over.add(logged.record.key)
                    continue
                yield await _line(log, logged)


async def _data_keys(uri: str, selection: EventSelection, told: set[bytes]) -> AsyncGenerator[KeyLine, None]:
    """Those that were not told yet. They are encrypted with the installation's key, and stay so."""
    connection = await asyncpg.connect(uri)
    try:
        async with connection.transaction(readonly=True):
            query = (
                "SELECT owner, key_id, wrapped, wrapped_by, context FROM data_keys WHERE $1::text IS NULL OR owner = $1"
            )
            async for row in connection.cursor(query, selection.thread_id, prefetch=1000):
                if (id := bytes(row["key_id"])) not in told:
                    told.add(id)
                    context = None if row["context"] is None else orjson.loads(row["context"])
                    yield KeyLine(0, row["owner"], id, bytes(row["wrapped"]), row["wrapped_by"], context)
    finally:
        await connection.close()


async def _line(log: Log, logged: LoggedEvent) -> dict[str, Any]:
    record = logged.record
    line: dict[str, Any] = {
        "partition": logged.partition,
        "offset": logged.offset,
        "key": record.key,
        "at": record.at,
        "command_id": record.cmd_id,
        "actor": record.actor,
        "events": record.events,
    }
    if record.trace is not None:
        line["trace"] = record.trace
    offsets = {blob["at"] for event in record.events for blob in event.get("blobs") or () if "at" in blob}
    if offsets:
        line["values"] = {str(offset): await _value(log, logged.partition, offset) for offset in sorted(offsets)}
    return line


async def _value(log: Log, partition: int, offset: int) -> str | None:
    """In Base64; None if the log has it no more."""
    records = await log.read(Topic.VALUES, partition, offset, end=offset + 1)
    return base64.b64encode(records[0].value).decode() if records else None


@contextmanager
def _writer(file: IO[bytes], header: Header, as_parquet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes lines."""
    if as_parquet:
        parquet = ParquetWriter(file, header)
        yield parquet.write
        parquet.close()
        return

    def write(line: dict[str, Any]) -> None:
        try:
            file.write(orjson.dumps(line) + b"\n")
        except BrokenPipeError:
            closed_pipe()

    yield write


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[bytes]]:
    """The output, or a file that is there when all of it is written."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists():
        raise CannotRun(f"{path} is there already: remove it, or name another file")
    partial = path.with_name(path.name + ".partial")
    try:
        with cast(IO[bytes], gzip.open(partial, "wb", 6) if path.suffix == ".gz" else partial.open("wb")) as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # it is not the file's
        raise CannotRun(f"{path} can't be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
