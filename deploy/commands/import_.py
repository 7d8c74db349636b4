"""Import, `threadlog import`: the history of another installation, as `threadlog export` has written it.

Each record is a command that the engine decides, like any other (`engine.domain.history`); what was sent before changes
nothing, so that an import that was ended by whatever goes on when it is begun anew.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import click
import orjson

from threadlog.deploy.commands.export import installation_of
from threadlog.deploy.commands.export_format import ExportFile, KeyLine, RecordLine
from threadlog.deploy.commands.export_parquet import MAGIC, ParquetExport
from threadlog.deploy.commands.terminal import progress_bar, table, write
from threadlog.deploy.compose.encryption import KeyAccess, key_store
from threadlog.deploy.compose.storage import existing_log, pool_of
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.backoff import Backoff
from threadlog.engine.clock import now, utc_now
from threadlog.engine.domain import cron, decider, graph, keyed_request
from threadlog.engine.domain.commands import CloseImport, Command, ImportHistory
from threadlog.engine.domain.events import ANSWERS, CommandRejected
from threadlog.engine.domain.wire import is_time, to_body
from threadlog.engine.encryption.cipher import WrongKey
from threadlog.engine.encryption.handlers import HandlerFailed
from threadlog.engine.encryption.keys import WrappedKey
from threadlog.engine.gateway.event_tail import EventTail
from threadlog.engine.ids import default_assistant_id, fired_run_id, new_id, stateless_thread_id
from threadlog.engine.log.port import Append, AppendUnknown, Log, LogUnavailable, RecordRefused, Topic
from threadlog.engine.log.records import CommandEnvelope, EventRecord, partition_of
from threadlog.engine.schedules import ScheduleError, next_due
from threadlog.projections.commit.applied import PostgresApplied

BATCH_RECORDS = 500
BATCH_BYTES = 8 * 1024 * 1024
"""Of large values, and of lines: what is in memory at a time, or one line that is larger."""
_SECONDS = 60.0
_SHOWN = 20

# What begins an aggregate: an export of a time has some of which it lacks the beginning.
_BEGINNINGS = frozenset({"thread.created", "assistant.created", "cron.created", "request.begun"})

_THERE = "SELECT key, state -> 'history' AS history FROM aggregates WHERE key = ANY ($1::text[])"
_OPEN = """
SELECT key, state FROM aggregates
WHERE state -> 'history' ->> 'open' = 'true' AND ($1::text IS NULL OR state -> 'history' ->> 'source' = $1)
"""


@dataclass
class ImportCounts:
    """What an import amounts to. `records`: of the file; `imported`: now; `there`: that were imported before;
    `left_out`: what is no history of an agent's, see the docs; `ended`: what was in flight; `refused`: why, by the
    aggregate's key."""

    source: str
    records: int = 0
    imported: int = 0
    there: int = 0
    left_out: int = 0
    values: int = 0
    aggregates: int = 0
    ended: int = 0
    seconds: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)


async def import_file(
    settings: Settings, path: Path, *, by: str | None, dry_run: bool, more_follows: bool, as_json: bool
) -> int:
    """Import a file; returns the exit code, 1 when something was refused. `dry_run`: only look whether that is
    possible. `more_follows`: what is imported takes no commands until a later import."""
    assert settings.database_uri is not None
    file = await asyncio.to_thread(_opened, path)
    began = time.monotonic()
    async with (
        existing_log(settings) as log,
        pool_of(settings.database_uri, name="import", size=4, seconds=_SECONDS) as pool,
        key_store(settings, pool) as keys,
    ):
        if await installation_of(log) == file.header.installation:
            raise CannotRun("this export is of this installation: there is nothing to import")
        done = ImportCounts(file.header.installation)
        importer = Importer(log, pool, file, done, by or _operator(), keys)
        with progress_bar("records", file.lines, prints=False) as progress:
            if dry_run:
                await importer.look(progress)
            else:
                async with importer.deciding():
                    await importer.run(progress)
                    if not more_follows:
                        await importer.close()
    done.seconds = round(time.monotonic() - began, 3)
    _show(done, dry_run=dry_run, as_json=as_json)
    return 1 if done.refused else 0


def _opened(path: Path) -> ExportFile | ParquetExport:
    with path.open("rb") as file:
        is_parquet = file.read(len(MAGIC)) == MAGIC
    return ParquetExport(path) if is_parquet else ExportFile(path)


def _operator() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()


def _show(done: ImportCounts, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        return write([orjson.dumps({**asdict(done), "dry_run": dry_run}).decode()])
    rows = [(name, f"{value:,}") for name, value in asdict(done).items() if isinstance(value, int)]
    write(table(("would be" if dry_run else "", "count"), [*rows, ("refused", f"{len(done.refused):,}")]))
    for key, why in list(done.refused.items())[:_SHOWN]:
        click.echo(f"threadlog: {key} is not imported: {why}", err=True)
    if (more := len(done.refused) - _SHOWN) > 0:
        click.echo(f"threadlog: and {more:,} more", err=True)


class Decisions:
    """Receives what becomes of commands, by their place in the log; an `engine.processor.ports.EventListener`."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self._heard = asyncio.Event()

    def projected(self, partition: int, offset: int, record: EventRecord) -> None:
        self._found[partition, record.cmd_off] = record.events
        self._heard.set()

    async def of(self, places: Sequence[tuple[int, int]]) -> list[list[dict[str, Any]]]:
        """The events of all these commands, once they are in the read models. Raises `CannotRun`: no engine decides."""
        missing = set(places)
        while missing := {place for place in missing if place not in self._found}:
            self._heard.clear()
            try:
                async with asyncio.timeout(_SECONDS):
                    await self._heard.wait()
            except TimeoutError:
                raise CannotRun(
                    f"{len(missing):,} commands have not been decided in {_SECONDS:g} s: is a server running? The "
                    "import goes on when it is begun anew"
                ) from None
        decided = [self._found[place] for place in places]
        self._found.clear()
        return decided


class Importer:
    """One import. `done` counts."""

    def __init__(
        self,
        log: Log,
        pool: asyncpg.Pool,
        file: ExportFile | ParquetExport,
        done: ImportCounts,
        by: str,
        keys: KeyAccess | None,
    ) -> None:
        self._log, self._pool, self._file, self._done, self._by, self._keys = log, pool, file, done, by, keys
        self._decisions = Decisions()
        self._begun: set[str] = set()  # of an export of a time, what it has from its beginning
        self._requests: set[str] = set()  # keyed requests that have not expired

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[None]:
        """While commands are sent."""
        tail = EventTail(self._log, PostgresApplied(self._pool))
        tail.add_listener(self._decisions)
        await tail.start()
        try:
            yield
        finally:
            await tail.stop()

    async def run(self, progress: Any) -> None:
        """Send all records of the file, in order."""
        for lines, keys in self._batches(progress):
            for key in keys:
                await self._keep(key)
            lines = await self._not_there(lines)
            if lines:
                await self._import(lines)
            await asyncio.sleep(0)

    async def look(self, progress: Any) -> None:
        """Read the file to its end, and compare with what is here."""
        for lines, keys in self._batches(progress):
            for key in keys:
                await self._readable(key)
            for line in await self._not_there(lines):
                if (why := _problem(line)) is not None:
                    self._refuse(line.key, why)
                else:
                    self._done.imported += 1
                    self._done.values += len(line.values)

    def _batches(self, progress: Any) -> Iterator[tuple[list[RecordLine], list[KeyLine]]]:
        lines: list[RecordLine] = []
        keys: list[KeyLine] = []
        read = size = 0
        for line in self._file.read():
            read += 1
            if isinstance(line, KeyLine):
                keys.append(line)
                continue
            self._done.records += 1
            if self._is_history(line):
                lines.append(line)
                size += line.size
            else:
                self._done.left_out += 1
            if len(lines) >= BATCH_RECORDS or size >= BATCH_BYTES or read >= 4 * BATCH_RECORDS:
                yield lines, keys
                if progress is not None:
                    progress(read)
                lines, keys, read, size = [], [], 0, 0
        yield lines, keys
        if progress is not None:
            progress(read)

    def _is_history(self, line: RecordLine) -> bool:
        """Not: what was refused as it had no time, which graphs the executors there knew, what has expired."""
        if not is_time(line.at) or line.key.startswith(graph.PREFIX):
            return False
        if line.key.startswith(keyed_request.PREFIX):
            for event in line.events:
                if event["type"] == "request.begun" and str(event.get("expires_at")) > utc_now():
                    self._requests.add(line.key)
            return line.key in self._requests
        if self._file.header.since is None:
            return True
        if any(event["type"] in _BEGINNINGS for event in line.events):
            self._begun.add(line.key)
        return line.key in self._begun

    async def _not_there(self, lines: list[RecordLine]) -> list[RecordLine]:
        """Those that are still to be sent: not what is here already, or can't be. The engine decides; this saves the
        way."""
        lines = [line for line in lines if line.key not in self._done.refused]
        rows = await self._pool.fetch(_THERE, list({line.key for line in lines}))
        there = {row["key"]: row["history"] for row in rows}
        wanted = []
        for line in lines:
            if line.key in there:
                imported = orjson.loads(there[line.key] or b"{}")
                if imported.get("source") == self._done.source and line.offset <= imported["offset"]:
                    self._done.there += 1
                    continue
                if imported.get("source") != self._done.source:
                    if _says_nothing(line) or _is_default(line):
                        self._done.left_out += 1
                    else:
                        self._refuse(line.key, _why_not(imported.get("source")))
                    continue
            wanted.append(line)
        return wanted

    def _refuse(self, key: str, why: str) -> None:
        self._done.refused.setdefault(key, why)

    # --- keys --------------------------------------------------------------------------------------------------------

    async def _readable(self, line: KeyLine) -> WrappedKey:
        """The key, if it can be decrypted here. Raises `CannotRun`."""
        place = str(self._file.malformed(line.number, "")).removesuffix(": ")
        if self._keys is None:
            raise CannotRun(
                f"{place}: the content of this export is encrypted: set LANGGRAPH_AES_KEY to the key of the "
                "installation that it comes from, or that one beside a key of your own (THREADLOG_AES_OLD_KEYS)"
            )
        key = WrappedKey(line.owner, line.id, line.wrapped, line.wrapped_by, line.context)
        try:
            await self._keys.wrapper.unwrap(key)
        except (WrongKey, HandlerFailed) as error:
            raise CannotRun(
                f"{place}: a key of this export can't be decrypted: {error}. Add the LANGGRAPH_AES_KEY of the "
                "installation that it comes from to THREADLOG_AES_OLD_KEYS"
            ) from None
        return key

    async def _keep(self, line: KeyLine) -> None:
        key = await self._readable(line)
        assert self._keys is not None
        kept = await self._keys.store.add(key, of_thread=False)
        if kept is not None and kept.id != line.id:
            self._refuse(line.owner, "its content is encrypted here with a key of its own")

    # --- records -----------------------------------------------------------------------------------------------------

    async def _import(self, lines: list[RecordLine]) -> None:
        lines = await self._with_values(lines)
        before: dict[str, int] = {}
        envelopes = []
        for line in lines:
            command = ImportHistory(
                key=line.key, source=self._done.source, partition=line.partition, offset=line.offset,
                imported_at=utc_now(), imported_by=self._by, after=before.get(line.key), events=line.events,
            )  # fmt: skip
            before[line.key] = line.offset
            envelopes.append(
                CommandEnvelope(
                    line.command_id, command.type, line.key, line.at, to_body(command), line.actor, line.trace
                )
            )
        for line, events in zip(lines, await self._decided(envelopes), strict=True):
            if not events or events[0]["type"] == CommandRejected.type:
                self._refuse(line.key, events[0]["detail"] if events else "it was not decided")
            elif events[0]["type"] == "command.repeated":
                self._done.there += 1
            else:
                self._done.imported += 1

    async def _with_values(self, lines: list[RecordLine]) -> list[RecordLine]:
        """With large values in the topic `values` here, and named by their offset in it."""
        appends: list[Append] = []
        owners: list[tuple[int, int]] = []
        for n, line in enumerate(lines):
            if any(value is None for value in line.values.values()):
                self._refuse(line.key, f"line {line.number} lacks a large value, which its log had no more")
            for offset, value in line.values.items():
                if value is not None:
                    p = partition_of(line.key, self._log.partitions)
                    appends.append(Append(Topic.VALUES, p, line.key, value))
                    owners.append((n, offset))
        places = dict(zip(owners, await self._appended(appends), strict=True)) if appends else {}
        self._done.values += len(appends)
        return [
            replace(line, events=[_placed(event, n, places) for event in line.events]) if line.values else line
            for n, line in enumerate(lines)
            if line.key not in self._done.refused
        ]

    async def _decided(self, envelopes: list[CommandEnvelope]) -> list[list[dict[str, Any]]]:
        partitions = [partition_of(envelope.key, self._log.partitions) for envelope in envelopes]
        appends = [
            Append(Topic.COMMANDS, p, envelope.key, envelope.encode())
            for p, envelope in zip(partitions, envelopes, strict=True)
        ]
        try:
            offsets = await self._appended(appends)
        except RecordRefused as error:
            if len(envelopes) == 1:
                return [[{"type": CommandRejected.type, "detail": f"the log does not take it: {error}"}]]
            middle = len(envelopes) // 2
            return [*await self._decided(envelopes[:middle]), *await self._decided(envelopes[middle:])]
        return await self._decisions.of(list(zip(partitions, offsets, strict=True)))

    async def _appended(self, appends: list[Append]) -> list[int]:
        """Their offsets. What may be in the log is appended again: twice does no harm."""
        backoff, began = Backoff(), time.monotonic()
        while True:
            try:
                return await self._log.append(appends)
            except (AppendUnknown, LogUnavailable):
                if time.monotonic() - began > _SECONDS:
                    raise
            await backoff.wait()

    # --- the end -----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """What was imported from there takes commands from now on; what was in flight ends."""
        batch: list[CommandEnvelope] = []
        async with self._pool.acquire() as reading, reading.transaction(readonly=True):
            async for row in reading.cursor(_OPEN, self._done.source, prefetch=BATCH_RECORDS):
                command = await self._closing(row["key"], orjson.loads(row["state"]))
                batch.append(
                    CommandEnvelope.of(command, id=new_id(), key=row["key"], at=utc_now(), actor=f"operator:{self._by}")
                )
                if len(batch) == BATCH_RECORDS:
                    await self._closed(batch)
                    batch = []
        await self._closed(batch)

    async def _closed(self, batch: list[CommandEnvelope]) -> None:
        for events in await self._decided(batch) if batch else ():
            self._done.aggregates += bool(events) and events[0]["type"] == "history.closed"
            self._done.ended += sum(event["type"] in _ENDED for event in events)

    async def _closing(self, key: str, state: dict[str, Any]) -> Command:
        due, ran = None, False
        kept = state.get("cron") or {}
        if kept.get("version"):
            cron_id = key.removeprefix(cron.PREFIX)
            row = await self._pool.fetchrow(
                "SELECT schedule, timezone, end_time, thread_id::text FROM crons WHERE cron_id = $1::uuid", cron_id
            )
            if row is not None and kept.get("next_due_at"):
                due = _next_due(row)
            if row is not None and (pending := kept.get("pending")):
                ran = await self._has_run(cron_id, row["thread_id"], pending)
        return CloseImport(key=key, source=self._done.source, next_due_at=due, ran=ran)

    async def _has_run(self, cron_id: str, thread_id: str | None, due_at: str) -> bool:
        thread_id = thread_id or stateless_thread_id(fired_run_id(cron_id, due_at))
        state = await self._pool.fetchval("SELECT state -> 'thread' FROM aggregates WHERE key = $1", thread_id)
        runs = orjson.loads(state).get("crons", ()) if state is not None else ()
        return any(run[:2] == [cron_id, due_at] and len(run) == 2 for run in runs)


def _why_not(other: str | None) -> str:
    if other is not None:
        return f"it was imported from another installation, {other}"
    return "there is one of this id here already, with a history of its own"


def _says_nothing(line: RecordLine) -> bool:
    """Whether its command changed nothing there."""
    return all(event["type"] in _ANSWERS for event in line.events)


def _is_default(line: RecordLine) -> bool:
    """Whether it is how a server makes the default assistant of a graph: every server does."""
    return [event["type"] for event in line.events] == ["assistant.created"] and line.key == default_assistant_id(
        str(line.events[0].get("graph_id"))
    )


_ANSWERS = frozenset(event.type for event in ANSWERS)
_ENDED = frozenset({"run.interrupted", "state.update_failed", "webhook.dead", "cron.run_refused"})


def _next_due(row: asyncpg.Record) -> str | None:
    end: datetime | None = row["end_time"]
    try:
        return next_due(row["schedule"], row["timezone"], now(), None if end is None else end.isoformat())
    except ScheduleError:
        return None


def _placed(event: dict[str, Any], n: int, places: dict[tuple[int, int], int]) -> dict[str, Any]:
    if "blobs" not in event:
        return event
    blobs = [{**blob, "at": places[n, blob["at"]]} if "at" in blob else blob for blob in event["blobs"]]
    return {**event, "blobs": blobs}


def _problem(line: RecordLine) -> str | None:
    """Why the engine would not take this record whatever was before it; None if nothing is known."""
    if any(value is None for value in line.values.values()):
        return f"line {line.number} lacks a large value, which its log had no more"
    command = ImportHistory(
        key=line.key, source="", partition=line.partition, offset=line.offset, imported_at=line.at, events=line.events
    )
    try:
        decider.decide(decider.EMPTY, line.key, command, cmd_id=line.command_id, at=line.at)
    except ValueError as error:
        return f"line {line.number}: {error}"
    return None
