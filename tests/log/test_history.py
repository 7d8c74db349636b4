"""Readers that begin in the middle of a partition see what those see that began with it."""

from __future__ import annotations

from random import Random

import pytest

from threadlog.engine.log.acceptance import Acceptance, MidwayAcceptance
from threadlog.engine.log.history import PartitionHistory, has_type, is_of_run, offset_at
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, Record, Topic
from threadlog.engine.log.records import EventRecord

AT = "2026-01-02T03:04:05+00:00"


def start(epoch: int) -> EventRecord:
    return EventRecord(epoch, -1, "", "", AT, start=True)


def record(epoch: int, cmd_off: int, after: int | None) -> EventRecord:
    return EventRecord(epoch, cmd_off, f"c{cmd_off}", "t", AT, [{"type": "a"}], after=after)


def some_log(random: Random, length: int) -> list[EventRecord]:
    """With take-overs, what their predecessors still wrote, duplicates and orphans."""
    log = [start(1)]
    epoch, last = 1, -1
    while len(log) < length:
        happens = random.random()
        if happens < 0.05:
            epoch += 1
            log.append(start(epoch))
        elif happens < 0.1 and epoch > 1:
            late = [record(epoch - 1, last + 1, last), record(epoch - 1, last + 2, last + 1)]
            log += late[: random.randint(1, 2)]
        elif happens < 0.15:
            log.append(record(epoch, last, last - 1))
        elif happens < 0.2:
            log.append(record(epoch, last + 9, last + 8))
        else:
            last, before = last + random.randint(1, 3), last
            log.append(record(epoch, last, before))
    return log


@pytest.mark.parametrize("seed", range(40))
def test_after_some_records_a_reader_in_the_middle_takes_what_all_take(seed: int) -> None:
    random = Random(seed)
    log = some_log(random, 120)
    rule = Acceptance()
    counted = [n for n, r in enumerate(log) if rule.accepts(r)]
    for begin in range(0, 60, 7):
        midway = MidwayAcceptance()
        taken = [n for n, r in enumerate(log) if n >= begin and midway.accepts(r)]
        assert [n for n in taken if n >= begin + 40] == [n for n in counted if n >= begin + 40]


def test_a_zombie_that_comes_first_is_found_out_by_a_higher_epoch() -> None:
    midway = MidwayAcceptance()
    records = [record(3, 7, 6), record(3, 8, 7), record(4, 7, 6), record(4, 8, 7), record(3, 9, 8), record(4, 9, 8)]
    assert [midway.accepts(r) for r in records] == [True, True, True, True, False, True]


def test_what_comes_first_is_taken_on_trust_until_a_record_follows_it() -> None:
    midway = MidwayAcceptance()
    records = [record(4, 9, 8), record(4, 7, 6), record(4, 8, 7), record(4, 12, 11), record(4, 9, 8)]
    assert [midway.accepts(r) for r in records] == [True, True, True, False, True]


async def in_memory(count: int) -> MemoryLog:
    log = MemoryLog(1)
    await log.append([Append(Topic.EVENTS, 0, "t", start(1).encode())])
    await log.append([Append(Topic.EVENTS, 0, "t", record(1, n, n - 1).encode()) for n in range(count)])
    kept = log._records[Topic.EVENTS, 0]
    kept[:] = [Record(r.topic, r.partition, r.offset, r.key, r.value, 1000 * r.offset) for r in kept]
    return log


async def test_a_place_is_found_by_the_logs_clock() -> None:
    log = await in_memory(300)
    for at_ms, offset in ((-5, 0), (0, 0), (1, 1), (77_000, 77), (77_001, 78), (300_000, 300), (999_000, 301)):
        assert await offset_at(log, 0, at_ms) == offset
    assert await offset_at(MemoryLog(1), 0, 5) == 0


@pytest.mark.parametrize(("options", "first"), [({}, 1), ({"offset": 200}, 200), ({"since_ms": 260_000}, 200)])
async def test_a_history_begins_where_it_is_asked_to(options: dict[str, int], first: int) -> None:
    history = await PartitionHistory.open(await in_memory(300), 0, **options)
    seen: list[int] = []
    while (events := await history.read(max_bytes=500)) is not None:
        seen += [event.offset for event in events]
    assert seen == list(range(first, 301)) and history.next == 301


def test_types_and_runs_of_events() -> None:
    assert has_type("run.failed", ()) and has_type("run.failed", ("x", "run.*")) and not has_type("runs", ("run.*",))
    assert (
        is_of_run({"job_id": "r"}, "r") and is_of_run({"run_ids": ["r"]}, "r") and not is_of_run({"run_id": "q"}, "r")
    )
