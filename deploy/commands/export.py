"""Export, `threadlog export`: event records as JSON lines, with the large values that they refer to."""

from __future__ import annotations

import base64
import errno
import gzip
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import click
import orjson

from threadlog.deploy.commands.events import EventSelection
from threadlog.deploy.commands.terminal import closed_pipe, progress_bar
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.log.history import LoggedEvent, LoggedHistory
from threadlog.engine.log.port import Log, Topic
from threadlog.engine.log.records import partition_of


async def export(settings: Settings, selection: EventSelection, path: Path | None) -> int:
    """Write the selected records to a new file, gzip'ed if it is called so, or to the output. Returns the exit code, 1
    when there are none."""
    count = 0
    async with existing_log(settings) as log:
        with _opened(path) as file:
            async with aclosing(exported(log, selection)) as lines:
                async for line in lines:
                    count += 1
                    try:
                        file.write(orjson.dumps(line) + b"\n")
                    except BrokenPipeError:
                        closed_pipe()
    click.echo(f"threadlog: {count:,} event records exported", err=True)
    return 0 if count else 1


async def exported(log: Log, selection: EventSelection) -> AsyncGenerator[dict[str, Any], None]:
    """The records as objects, in the order of the log's clock."""
    thread_id = selection.thread_id
    partitions = range(log.partitions) if thread_id is None else [partition_of(thread_id, log.partitions)]
    since_ms = None if selection.since is None else int(selection.since.timestamp() * 1000)
    history = LoggedHistory(log, partitions, wanted=selection.wants, since_ms=since_ms)
    with progress_bar("records", await history.open()) as done:
        async with aclosing(history.until_now(done)) as past:
            async for logged in past:
                yield await _line(log, logged)


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
    offsets = {blob["at"] for event in record.events for blob in event.get("blobs") or () if "at" in blob}
    if offsets:
        line["values"] = {str(offset): await _value(log, logged.partition, offset) for offset in sorted(offsets)}
    return line


async def _value(log: Log, partition: int, offset: int) -> str | None:
    """In Base64; None if the log has it no more."""
    records = await log.read(Topic.VALUES, partition, offset, end=offset + 1)
    return base64.b64encode(records[0].value).decode() if records else None


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
