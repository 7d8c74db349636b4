"""Log reader, `threadlog events`: prints the events of the log, read with the acceptance rule of every reader."""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import click
import orjson

from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import Settings
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.port import Log, Record, Topic
from threadlog.engine.log.records import ENGINE, EXECUTOR, EventRecord, partition_of
from threadlog.engine.log.unreadable import UNREADABLE, event_in

_TEXT_LIMIT = 72
_IDS = ("run_id", "job_id", "checkpoint_id", "parent_id", "assistant_id", "task_id", "executor")
_BULKY = ("checkpoint", "metadata", "blobs", "out", "task_path", "info", "digest", "config", "kwargs", "thread_config")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An accepted event record at its place in the log."""

    partition: int
    offset: int
    timestamp_ms: int
    record: EventRecord


class LoggedHistory:
    """Accepted records of some partitions, from the beginning of the log."""

    def __init__(self, log: Log, partitions: Iterable[int], key: str | None) -> None:
        self._log, self._key = log, key
        self._acceptance = {p: Acceptance() for p in partitions}
        self._next: dict[int, int] = {}

    async def until_now(self) -> AsyncIterator[LoggedEvent]:
        """What is in the log at this moment, in the order of the log's clock."""
        sources = []
        for partition in self._acceptance:
            first, end = await self._log.bounds(Topic.EVENTS, partition)
            self._next[partition] = first
            sources.append(self._partition(partition, first, end))
        heads: list[tuple[int, int, int, LoggedEvent]] = []
        for number, source in enumerate(sources):
            await _push(heads, number, source)
        while heads:
            _, number, _, happened = heapq.heappop(heads)
            yield happened
            await _push(heads, number, sources[number])

    async def _partition(self, partition: int, start: int, end: int) -> AsyncIterator[LoggedEvent]:
        while start < end:
            records = await self._log.read(Topic.EVENTS, partition, start, end=end)
            if not records:
                break
            for record in records:
                if (happened := self._accept(record)) is not None:
                    yield happened
            start = records[-1].offset + 1
        self._next[partition] = max(self._next[partition], start)

    async def from_now(self) -> AsyncIterator[LoggedEvent]:
        """What follows, for ever; call it after `until_now` is exhausted."""
        positions = {(Topic.EVENTS, partition): offset for partition, offset in self._next.items()}
        async with aclosing(self._log.tail(positions)) as batches:
            async for batch in batches:
                for record in batch:
                    if (happened := self._accept(record)) is not None:
                        yield happened

    def _accept(self, record: Record) -> LoggedEvent | None:
        decoded = event_in(record)
        if not self._acceptance[record.partition].accepts(decoded):
            return None
        if self._key is not None and decoded.key != self._key:
            return None
        return LoggedEvent(record.partition, record.offset, record.timestamp_ms, decoded)


async def _push(
    heads: list[tuple[int, int, int, LoggedEvent]], number: int, source: AsyncIterator[LoggedEvent]
) -> None:
    async for happened in source:
        heapq.heappush(heads, (happened.timestamp_ms, number, happened.offset, happened))
        return


async def show(settings: Settings, *, thread_id: str | None, follow: bool, as_json: bool) -> int:
    """Print the events of a thread, or of all; with `follow` until interrupted. Returns the exit code."""
    async with existing_log(settings) as log:
        partitions = range(log.partitions) if thread_id is None else [partition_of(thread_id, log.partitions)]
        history = LoggedHistory(log, partitions, thread_id)
        seen = 0
        async with aclosing(history.until_now()) as past:  # type: ignore[type-var]
            async for happened in past:
                seen += 1
                _print(happened, as_json=as_json, with_key=thread_id is None)
        if not follow:
            if not seen and thread_id is not None:
                click.echo(f"threadlog: the log knows nothing of thread {thread_id}", err=True)
                return 1
            return 0
        sys.stdout.flush()
        try:
            async with aclosing(history.from_now()) as future:  # type: ignore[type-var]
                async for happened in future:
                    _print(happened, as_json=as_json, with_key=thread_id is None)
                    sys.stdout.flush()
        except asyncio.CancelledError:
            pass
        return 0


def _print(happened: LoggedEvent, *, as_json: bool, with_key: bool) -> None:
    try:
        for line in lines_of(happened, as_json=as_json, with_key=with_key):
            sys.stdout.write(line + "\n")
    except BrokenPipeError:  # piped into `head`
        sys.stderr.close()
        raise SystemExit(0) from None


def lines_of(happened: LoggedEvent, *, as_json: bool, with_key: bool) -> list[str]:
    """One line per event of the record."""
    record = happened.record
    if as_json:
        place = {"partition": happened.partition, "offset": happened.offset, "at": record.at, "key": record.key}
        place |= {"epoch": record.epoch, "command_id": record.cmd_id, "actor": record.actor}
        place |= {} if record.trace is None else {"trace": record.trace}
        return [orjson.dumps({**place, "event": event}).decode() for event in record.events]
    where = f"{happened.partition}@{happened.offset}"
    key = f"{record.key}  " if with_key else ""
    by = "" if record.actor in (None, ENGINE, EXECUTOR) else f" by={_short('', record.actor)}"
    return [
        f"{record.at[11:23]}  {where:>7}  {key}{event['type']:<22} {_summary(event)}".rstrip() + by
        for event in record.events
    ]


def _summary(event: dict[str, Any]) -> str:
    parts = []
    for name, value in event.items():
        if name in ("type", "thread_id", *_BULKY):
            continue
        if (shown := _short(name, value)) != "":
            parts.append(f"{name.removesuffix('_id')}={shown}")
    return " ".join(parts)


def _short(name: str, value: Any) -> str:
    match value:
        case None | "" | []:
            return ""
        case dict() if not value:
            return ""
        case bool() | int() | float():
            return str(value).lower()
        case str() if name in _IDS:
            return value.rsplit(":", 2)[-2] if name == "executor" and value.count(":") > 1 else "…" + value[-8:]
        case str():
            return value if len(value) <= _TEXT_LIMIT else value[: _TEXT_LIMIT - 1] + "…"
        case list() if all(isinstance(item, str) for item in value):
            return _short("", "[" + ", ".join(value) + "]")
        case list() if all(isinstance(item, dict) and "name" in item for item in value):
            return _short("", "[" + ", ".join(str(item["name"]) for item in value) + "]")
        case list():
            return f"[{len(value)}]"
        case dict():
            if "error" in value and isinstance(value.get("message"), str):
                return _short("", f"{value['error']}: {value['message']}")
            return _short("", "{" + ", ".join(value) + "}")
        case _:
            return _short("", str(value))


async def verify(settings: Settings, *, as_json: bool) -> int:
    """Rebuild the read models beside the live ones and print every difference, and every event that the read models
    could not take; 0 when there is none."""
    from threadlog.projections.rebuild.verify import TABLES, skipped
    from threadlog.projections.rebuild.verify import verify as differences_of

    assert settings.database_uri is not None
    async with existing_log(settings) as log:
        found = await differences_of(settings.database_uri, log, progress=lambda line: click.echo(line, err=True))
        skips = await skipped(settings.database_uri)
    for skip in skips:
        if as_json:
            click.echo(orjson.dumps({"not_projected": skip}))
        else:
            where = f"{skip['p']}@{skip['ev_off']}"
            click.echo(f"{where}: {skip['type']} of {skip['key']} is not in the read models: {skip['error']}")
    for (partition, offset), why in sorted(UNREADABLE.places.items()):
        if as_json:
            click.echo(orjson.dumps({"unreadable": {"p": partition, "ev_off": offset, "error": why}}))
        else:
            click.echo(f"{partition}@{offset}: not an event record, it counts for no reader: {why}")
    for difference in found:
        if as_json:
            click.echo(orjson.dumps(difference, default=str))
            continue
        where = f"{difference.table} {', '.join(f'{name}={value}' for name, value in difference.key.items())}"
        if difference.live is None or difference.rebuilt is None:
            missing = "the read models lack it" if difference.live is None else "the log does not know it"
            click.echo(f"{where}: {missing}")
        else:
            for name, value in difference.live.items():
                click.echo(
                    f"{where}: {name} is {_short('', value)}, the log says {_short('', difference.rebuilt[name])}"
                )
    if not found and not as_json:
        click.echo(f"No difference: {len(TABLES)} tables are what the log says.")
    return 1 if found or skips else 0
