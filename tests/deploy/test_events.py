"""`threadlog events` shows what counts in the log, in order, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import click
import orjson
import pytest

from threadlog.deploy.commands.events import EventSelection as Selection
from threadlog.deploy.commands.events import lines_of
from threadlog.deploy.commands.export import export, exported
from threadlog.deploy.commands.verify import verify
from threadlog.deploy.compose.storage import opened_log
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.log_cli import Time
from threadlog.deploy.settings import Settings
from threadlog.engine.log.history import LoggedEvent, LoggedHistory
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import EventRecord

AT = "2026-01-02T03:04:05.678901+00:00"


def record(epoch: int, cmd_off: int, key: str, *events: dict, start: bool = False) -> EventRecord:
    return EventRecord(epoch, cmd_off, f"cmd-{cmd_off}", key, AT, list(events), start)


async def append(log: MemoryLog, partition: int, *records: EventRecord) -> None:
    await log.append([Append(Topic.EVENTS, partition, r.key, r.encode()) for r in records])


async def types(history: LoggedHistory) -> list[str]:
    async with aclosing(history.until_now()) as past:
        return [event["type"] async for happened in past for event in happened.record.events]


async def test_what_zombies_wrote_and_what_was_written_twice_is_not_shown() -> None:
    log = MemoryLog(1)
    await append(
        log,
        0,
        record(1, -1, "", start=True),
        record(1, 0, "t", {"type": "a"}),
        record(1, 0, "t", {"type": "a again"}),
        record(2, -1, "", start=True),
        record(1, 1, "t", {"type": "of a zombie"}),
        record(2, 1, "t", {"type": "b"}, {"type": "c"}),
    )
    assert await types(LoggedHistory(log, [0])) == ["a", "b", "c"]


async def test_one_thread_is_shown_alone() -> None:
    log = MemoryLog(1)
    await append(log, 0, record(1, 0, "mine", {"type": "a"}), record(1, 1, "other", {"type": "b"}))
    assert await types(LoggedHistory(log, [0], wanted=Selection(thread_id="mine").wants)) == ["a"]


async def test_partitions_are_shown_in_the_order_of_the_clock() -> None:
    log = MemoryLog(2)
    for number, partition in enumerate([0, 1, 1, 0, 1]):
        await append(log, partition, record(1, number, "t", {"type": str(number)}))
        await asyncio.sleep(0.002)  # the log's clock has milliseconds
    assert await types(LoggedHistory(log, [0, 1])) == ["0", "1", "2", "3", "4"]


async def test_following_goes_on_where_the_list_ended() -> None:
    log = MemoryLog(1)
    await append(log, 0, record(1, 0, "t", {"type": "before"}))
    history = LoggedHistory(log, [0], wanted=Selection(thread_id="t").wants)
    assert await types(history) == ["before"]
    async with aclosing(history.from_now()) as future:
        await append(log, 0, record(1, 0, "t", {"type": "repeated"}), record(1, 1, "t", {"type": "after"}))
        happened = await asyncio.wait_for(anext(future), 10)
    assert [event["type"] for event in happened.record.events] == ["after"]


def test_a_line_says_when_where_what_and_the_short_of_it() -> None:
    event = {
        "type": "run.failed",
        "thread_id": "0199b2c0-0000-7000-8000-000000000000",
        "run_id": "0199b2c1-0000-7000-8000-0000deadbeef",
        "attempt": 2,
        "error": {"error": "ValueError", "message": "no such order"},
        "frames": 0,
        "interrupts": {},
    }
    happened = LoggedEvent(3, 17, 0, record(1, 5, "key", event))
    assert lines_of(happened, as_json=False, with_key=False) == [
        "03:04:05.678     3@17  run.failed             run=…deadbeef attempt=2 error=ValueError: no such order frames=0"
    ]


def test_events_are_selected_by_what_they_say() -> None:
    run = "0199b2c1-0000-7000-8000-0000deadbeef"
    about = EventRecord(
        1, 5, "c", "key", AT, [{"type": "run.ready", "run_id": run}, {"type": "thread.updated"}], actor="user:ada"
    )
    early = datetime.fromisoformat("2026-01-02T00:00:00+00:00")
    late = datetime.fromisoformat("2026-01-02T04:04:06+01:00")
    for right in (
        Selection(), Selection(run_id=run), Selection(types=("run.*",)), Selection(types=("thread.updated",)),
        Selection(actor="user:*"), Selection(since=early, until=late), Selection(thread_id="key", since=early),
    ):  # fmt: skip
        assert right.wants(about), right
    for wrong in (
        Selection(run_id="0" * 36), Selection(types=("run.",)), Selection(actor="engine"), Selection(since=late),
        Selection(until=early), Selection(thread_id="other"),
    ):  # fmt: skip
        assert not wrong.wants(about), wrong
    lines = lines_of(LoggedEvent(3, 17, 0, about), as_json=True, with_key=False, types=("thread.*",))
    assert [orjson.loads(line)["event"]["type"] for line in lines] == ["thread.updated"]


@pytest.mark.parametrize("value", ["yesterday", "7y", "2026-13-01", "99999999999999d", ""])
def test_a_time_that_is_none_is_refused_in_a_sentence(value: str) -> None:
    with pytest.raises(click.BadParameter, match="neither a time"):
        Time().convert(value, None, None)


def test_times_are_iso_or_how_long_ago() -> None:
    assert Time().convert("2026-01-31", None, None) == datetime(2026, 1, 31, tzinfo=UTC)
    assert Time().convert("2026-01-31T12:00:00+02:00", None, None).utcoffset() == timedelta(hours=2)
    assert timedelta(days=6) < datetime.now(UTC) - Time().convert("7d", None, None) < timedelta(days=8)


def test_json_lines_are_complete() -> None:
    event = {"type": "run.failed", "interrupts": {}, "text": "x" * 500}
    [line] = lines_of(LoggedEvent(3, 17, 0, record(1, 5, "key", event)), as_json=True, with_key=False)
    assert orjson.loads(line) == {
        "partition": 3, "offset": 17, "at": AT, "key": "key", "epoch": 1, "command_id": "cmd-5", "actor": None,
        "event": event,
    }  # fmt: skip


def test_a_json_line_has_the_trace_if_there_is_one() -> None:
    traced = replace(record(1, 5, "key", {"type": "run.failed"}), trace="00-a-b-01")
    [line] = lines_of(LoggedEvent(3, 17, 0, traced), as_json=True, with_key=False)
    assert orjson.loads(line)["trace"] == "00-a-b-01"


@pytest.mark.parametrize("as_json", [False, True])
async def test_verify_says_what_is_not_in_the_read_models(
    database: str, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    settings = Settings.load(database_uri=database)
    async with opened_log(settings):
        pass
    assert await verify(settings, as_json=as_json) == 0
    capsys.readouterr()
    connection = await asyncpg.connect(database)
    row = (3, 17, 0, "key", "assistant.created", "DataError: no", AT)
    await connection.execute("INSERT INTO projection_skips VALUES ($1, $2, $3, $4, $5, $6, $7)", *row)
    await connection.close()
    assert await verify(settings, as_json=as_json) == 1
    first = capsys.readouterr().out.splitlines()[0]
    if as_json:
        assert orjson.loads(first)["not_projected"]["error"] == "DataError: no"
    else:
        assert first == "3@17: assistant.created of key is not in the read models: DataError: no"


async def test_an_export_has_what_counts_and_its_large_values() -> None:
    log = MemoryLog(1)
    (at,) = await log.append([Append(Topic.VALUES, 0, "t", b"large")])
    saved = {
        "type": "checkpoint.saved",
        "blobs": [{"h": "x", "t": "msgpack", "at": at}, {"h": "y", "t": "null", "b": ""}],
    }
    await append(log, 0, record(1, 0, "t", saved), record(1, 0, "t", {"type": "b"}), record(1, 1, "u", {"type": "b"}))
    lines = [line async for line in exported(log, Selection())]
    assert [(line["offset"], line["key"], line["events"]) for line in lines] == [
        (0, "t", [saved]),
        (2, "u", [{"type": "b"}]),
    ]
    assert lines[0]["values"] == {str(at): base64.b64encode(b"large").decode()} and "values" not in lines[1]
    assert [line["key"] async for line in exported(log, Selection(thread_id="u"))] == ["u"]


async def test_an_exported_file_is_whole_or_not_there(database: str, tmp_path: Path) -> None:
    settings = Settings.load(database_uri=database)
    async with opened_log(settings) as log:
        await log.append([Append(Topic.EVENTS, 0, "t", record(1, 0, "t", {"type": "a"}).encode())])
    file = tmp_path / "all.jsonl.gz"
    assert await export(settings, Selection(), file) == 0
    header, *lines, end = map(orjson.loads, gzip.decompress(file.read_bytes()).splitlines())
    assert [line["key"] for line in lines] == ["t"]
    assert header["export"]["format"] == 2 and end == {"end": {"records": 1}}
    with pytest.raises(CannotRun, match="is there already"):
        await export(settings, Selection(), file)
    with pytest.raises(CannotRun, match="can't be written"):
        await export(settings, Selection(), tmp_path / "nowhere" / "all.jsonl")
    assert os.listdir(tmp_path) == ["all.jsonl.gz"]
