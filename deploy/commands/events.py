"""Log reader, `threadlog events`: prints the events of the log, read with the acceptance rule of every reader."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import click
import orjson

from threadlog.deploy.commands.places import place_of_run
from threadlog.deploy.commands.terminal import progress_bar, write
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import Settings
from threadlog.engine.log.history import LoggedEvent, LoggedHistory, has_type, is_of_run
from threadlog.engine.log.records import ENGINE, EXECUTOR, EventRecord, partition_of

_TEXT_LIMIT = 72
_IDS = ("run_id", "job_id", "checkpoint_id", "parent_id", "assistant_id", "task_id", "executor")
_BULKY = ("checkpoint", "metadata", "blobs", "out", "task_path", "info", "digest", "config", "kwargs", "thread_config")


@dataclass(frozen=True, slots=True)
class EventSelection:
    """Which events are listed; None, and no type: all."""

    thread_id: str | None = None
    run_id: str | None = None
    types: tuple[str, ...] = ()
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def wants(self, record: EventRecord) -> bool:
        if self.thread_id is not None and record.key != self.thread_id:
            return False
        if self.run_id is not None and not any(is_of_run(event, self.run_id) for event in record.events):
            return False
        if self.actor is not None and not fnmatchcase(record.actor or "", self.actor):
            return False
        if self.types and not any(has_type(event["type"], self.types) for event in record.events):
            return False
        if self.since is None and self.until is None:
            return True
        at = datetime.fromisoformat(record.at)
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    @property
    def is_all(self) -> bool:
        return self == EventSelection()


async def show(settings: Settings, selection: EventSelection, *, follow: bool, as_json: bool) -> int:
    """Print the selected events; with `follow` until interrupted. Returns the exit code."""
    async with existing_log(settings) as log:
        since = selection.since
        if selection.run_id is not None and selection.thread_id is None:
            assert settings.database_uri is not None
            if (place := await place_of_run(settings.database_uri, selection.run_id)) is not None:
                selection = replace(selection, thread_id=place.thread_id)
                since = max(since, place.created_at) if since else place.created_at
        thread_id = selection.thread_id
        partitions = range(log.partitions) if thread_id is None else [partition_of(thread_id, log.partitions)]
        since_ms = None if since is None else int(since.timestamp() * 1000)
        history = LoggedHistory(log, partitions, wanted=selection.wants, since_ms=since_ms)

        def print_(happened: LoggedEvent) -> None:
            write(lines_of(happened, as_json=as_json, with_key=thread_id is None, types=selection.types))

        seen = 0
        with progress_bar("records", await history.open()) as done:
            async with aclosing(history.until_now(done)) as past:
                async for happened in past:
                    seen += 1
                    print_(happened)
        if not follow:
            if not seen and not selection.is_all:
                click.echo(f"threadlog: the log has no such event{_of(selection)}", err=True)
                return 1
            return 0
        sys.stdout.flush()
        try:
            async with aclosing(history.from_now()) as future:
                async for happened in future:
                    print_(happened)
                    sys.stdout.flush()
        except asyncio.CancelledError:
            pass
        return 0


def _of(selection: EventSelection) -> str:
    if selection.run_id is not None:
        return f" of run {selection.run_id}"
    return "" if selection.thread_id is None else f": it knows nothing of thread {selection.thread_id}"


def lines_of(happened: LoggedEvent, *, as_json: bool, with_key: bool, types: tuple[str, ...] = ()) -> list[str]:
    """One line per event of the record, or of these types."""
    record = happened.record
    events = [event for event in record.events if has_type(event["type"], types)]
    if as_json:
        place = {"partition": happened.partition, "offset": happened.offset, "at": record.at, "key": record.key}
        place |= {"epoch": record.epoch, "command_id": record.cmd_id, "actor": record.actor}
        place |= {} if record.trace is None else {"trace": record.trace}
        return [orjson.dumps({**place, "event": event}).decode() for event in events]
    where = f"{happened.partition}@{happened.offset}"
    key = f"{record.key}  " if with_key else ""
    by = "" if record.actor in (None, ENGINE, EXECUTOR) else f" by={short('', record.actor)}"
    return [
        f"{record.at[11:23]}  {where:>7}  {key}{event['type']:<22} {_summary(event)}".rstrip() + by for event in events
    ]


def _summary(event: dict[str, Any]) -> str:
    parts = []
    for name, value in event.items():
        if name in ("type", "thread_id", *_BULKY):
            continue
        if (shown := short(name, value)) != "":
            parts.append(f"{name.removesuffix('_id')}={shown}")
    return " ".join(parts)


def short(name: str, value: Any) -> str:
    """A value in a line; "" for one that says nothing."""
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
            return short("", "[" + ", ".join(value) + "]")
        case list() if all(isinstance(item, dict) and "name" in item for item in value):
            return short("", "[" + ", ".join(str(item["name"]) for item in value) + "]")
        case list():
            return f"[{len(value)}]"
        case dict():
            if "error" in value and isinstance(value.get("message"), str):
                return short("", f"{value['error']}: {value['message']}")
            return short("", "{" + ", ".join(value) + "}")
        case _:
            return short("", str(value))
