"""Usage and run metrics: what events add up to, once, whatever comes twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.subscribers.logs import append, decided, start
from tests.subscribers.systems import System, running
from tests.waiting import eventually
from threadlog.engine.domain.events import (
    Event,
    RunCreated,
    RunDeleted,
    RunFailed,
    RunInterrupted,
    RunReleased,
    RunScheduled,
    RunStarted,
    RunStopped,
    RunSucceeded,
    ThreadDeleted,
)
from threadlog.engine.domain.wire import event_to_wire
from threadlog.projections.derived import queries
from threadlog.projections.derived.app import AtWork, counting, reset
from threadlog.projections.derived.prices import BadPrices, PriceTable
from threadlog.projections.derived.tables import DerivedTables
from threadlog.projections.derived.usage import BUCKET_GROWTH, BUCKET_SECONDS, Counts, bucket_of, seconds_of
from threadlog.projections.subscribers.accepted import AcceptedRecord

T, R1, R2, R3, R4 = (f"00000000-0000-4000-8000-00000000000{n}" for n in range(5))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PRICES = {"gpt-*": {"input": 2, "output": 10, "cache_read": 0.5}}


def created(run_id: str, *tags: str, graph: str = "g") -> RunCreated:
    run = {"assistant_id": "A", "metadata": {}, "kwargs": {"config": {"tags": list(tags)}}}
    return RunCreated(thread_id=T, run_id=run_id, graph_id=graph, run=run)


def started(run_id: str, attempt: int = 1) -> RunStarted:
    return RunStarted(thread_id=T, run_id=run_id, attempt=attempt, executor="x")


def used(tokens: int, model: str = "gpt-5") -> dict[str, Any]:
    return {model: {"calls": 1, "input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}}


def of(run_id: str, attempt: int = 1) -> dict[str, Any]:
    return {"thread_id": T, "run_id": run_id, "attempt": attempt}


# Seconds after noon, and what was decided then.
STORY: list[tuple[int, list[Event]]] = [
    (0, [created(R1, "red", "red", "blue"), RunScheduled(**of(R1))]),
    (10, [started(R1)]),
    (20, [RunReleased(**of(R1), usage=used(1_000_000)), RunScheduled(**of(R1, 2))]),
    (30, [started(R1, 2)]),
    (70, [RunSucceeded(**of(R1, 2), usage=used(2_000_000))]),
    (80, [created(R2, "red", graph="h")]),
    (90, [started(R2), RunFailed(**of(R2), error={}, usage=used(7, "free"))]),
    (3590, [created(R3)]),
    (3595, [started(R3), RunInterrupted(thread_id=T, run_id=R3, stopping=True)]),
    (3605, [RunStopped(**of(R3), usage=used(5))]),
    (3606, [created(R4)]),
    (3607, [RunDeleted(thread_id=T, run_id=R2), RunDeleted(thread_id=T, run_id=R1)]),
    (3608, [ThreadDeleted(thread_id=T)]),
]


def records(story: list[tuple[int, list[Event]]] = STORY, partition: int = 1) -> list[AcceptedRecord]:
    return [
        AcceptedRecord(
            partition, n + 1, T, (NOON + timedelta(seconds=second)).isoformat(), "user:ann", f"c{n}",
            [event_to_wire(event) for event in events],
        )
        for n, (second, events) in enumerate(story)
    ]  # fmt: skip


def prices(tmp_path: Path) -> PriceTable:
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    return PriceTable.load(tmp_path / "prices.json")


def test_a_story_adds_up(tmp_path: Path) -> None:
    counts = Counts(prices(tmp_path), {})
    for record in records():
        counts.add(record.events, at=record.at, actor=record.actor)
    runs = counts.runs
    assert [(runs[r].status, runs[r].attempts) for r in (R1, R2, R3, R4)] == [
        ("success", 2), ("error", 1), ("interrupted", 1), ("deleted", 0)
    ]  # fmt: skip
    assert runs[R1].usage == {
        "gpt-5": {"calls": 2, "input_tokens": 3_000_000, "output_tokens": 2, "total_tokens": 3_000_002}
    }
    assert runs[R1].cost == Decimal("6.00002") and runs[R1].tags == ["blue", "red"] and runs[R1].actor == "user:ann"
    hour = counts.of_runs[NOON, "all", ""]
    assert (hour["runs"], hour["succeeded"], hour["failed"], hour["attempts"]) == (2, 1, 1, 3)
    assert (hour["wait_seconds"], hour["run_seconds"], hour["wait_max"], hour["run_max"]) == (20, 60, 10, 60)
    assert (hour["timed_out"], hour["interrupted"]) == (0, 0)
    assert counts.of_runs[NOON + timedelta(hours=1), "all", ""]["interrupted"] == 1
    waits = {bucket: n for ((_, *of), kind, bucket), n in _hours(counts) if kind == "wait" and of == ["all", ""]}
    assert waits == {bucket_of(10): 2}
    assert counts.of_runs[NOON + timedelta(hours=1), "all", ""]["runs"] == 2
    assert counts.of_runs[NOON, "tag", "red"]["runs"] == 2 and counts.of_runs[NOON, "graph", "h"]["failed"] == 1
    assert counts.of_usage[(NOON, "tag", "blue"), "gpt-5"]["calls"] == 2
    assert counts.of_usage[(NOON, "all", ""), "free"]["unpriced_calls"] == 1


@pytest.mark.parametrize(
    ("at", "waited", "ran"),
    [(8, 8, 12), (None, 20, 0), (-60, 0, 20), (60, 20, 0)],
    ids=["its own time", "without one", "a clock that is behind", "a clock that is ahead"],
)
def test_a_short_run_began_when_its_executor_says(at: int | None, waited: float, ran: float) -> None:
    """Its start is reported with its end."""
    began = None if at is None else (NOON + timedelta(seconds=at)).isoformat()
    ended = [RunStarted(thread_id=T, run_id=R1, attempt=1, executor="x", at=began), RunSucceeded(**of(R1))]
    counts = Counts(PriceTable(), {})
    for record in records([(0, [created(R1)]), (20, ended)]):
        counts.add(record.events, at=record.at, actor=record.actor)
    assert (counts.of_runs[NOON, "all", ""]["wait_seconds"], counts.of_runs[NOON, "all", ""]["run_seconds"]) == (
        waited,
        ran,
    )


def _hours(counts: Counts) -> Any:
    return [item for item in counts.durations.items() if item[0][0][0] == NOON]


@pytest.mark.parametrize("seconds", [0, 0.001, 0.0011, 0.02, 0.9999, 1, 1.0001, 59, 3600, 86400 * 30])
def test_a_bucket_is_right_to_a_fifth(seconds: float) -> None:
    longest = seconds_of(bucket_of(seconds))
    assert longest / BUCKET_GROWTH - 1e-9 <= max(seconds, BUCKET_SECONDS) <= longest + 1e-9


def test_cached_tokens_have_their_price(tmp_path: Path) -> None:
    tokens = {"input_tokens": 1_000_000, "cache_read_tokens": 400_000, "output_tokens": 100_000}
    assert prices(tmp_path).cost("gpt-5", tokens) == Decimal("2.4")
    assert prices(tmp_path).cost("claude", tokens) is None


@pytest.mark.parametrize(
    "said",
    [
        "[]", "{", '{"m": 3}', '{"m": {"input": 1}}', '{"m": {"input": 1, "output": -1}}',
        '{"m": {"input": 1, "output": NaN}}', '{"m": {"input": 1, "output": 1, "tax": 1}}',
    ],
)  # fmt: skip
def test_what_is_no_price_table_is_refused(said: str, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text(said)
    with pytest.raises(BadPrices, match=r"prices\.json"):
        PriceTable.load(tmp_path / "prices.json")


@pytest.fixture
async def tables(empty_database: str, tmp_path: Path) -> AsyncIterator[DerivedTables]:
    opened = await DerivedTables.open(empty_database, prices(tmp_path))
    yield opened
    await opened.aclose()


async def report(dsn: str, by: str = "all", window: str = "all") -> list[dict[str, Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        since, until = NOON - timedelta(days=1), NOON + timedelta(days=1)
        return await queries.usage(connection, by=by, window=window, since=since, until=until)
    finally:
        await connection.close()


async def test_records_are_counted_once_however_they_are_cut_and_repeated(
    empty_database: str, tables: DerivedTables
) -> None:
    story = records()
    assert await tables.count(story[:4]) == 4
    assert await tables.count(story[2:7]) == 3
    assert await tables.count(story) == len(story) - 7
    assert await tables.count(story) == 0
    (row,) = await report(empty_database)
    assert (row["runs"], row["succeeded"], row["failed"], row["calls"], row["unpriced_calls"]) == (4, 1, 1, 4, 1)
    assert (row["total_tokens"], round(row["cost"], 5)) == (3_000_016, 6.00004)
    assert row["models"]["free"]["total_tokens"] == 8
    assert (row["wait_median"], row["wait_max"], row["run_max"]) == (pytest.approx(5, rel=0.2), 10, 60)
    assert row["run_p95"] == pytest.approx(60, rel=0.2) and row["interrupted"] == 1
    hours = await report(empty_database, window="hour")
    assert [(hour["start"], hour["runs"]) for hour in hours] == [(NOON, 2), (NOON + timedelta(hours=1), 2)]
    assert {row["value"]: row["runs"] for row in await report(empty_database, by="tag")} == {"red": 2, "blue": 1}
    assert {row["value"]: row["runs"] for row in await report(empty_database, by="user", window="day")} == {
        "user:ann": 4
    }


async def test_workers_that_have_a_partition_in_turn_count_once(empty_database: str, tables: DerivedTables) -> None:
    stories = [records(partition=1), records(partition=2)]
    both = sorted((r for story in stories for r in story[:1]), key=lambda r: r.partition)
    await asyncio.gather(*(tables.count(each) for each in (stories[0], both, stories[1], both[::-1], stories[1])))
    (row,) = await report(empty_database)
    assert row["attempts"] > 0
    connection = await asyncpg.connect(empty_database)
    assert await queries.positions(connection) == {1: len(STORY) + 1, 2: len(STORY) + 1}
    await connection.close()


async def test_old_runs_are_forgotten_and_sums_are_kept(empty_database: str, tables: DerivedTables) -> None:
    await tables.count(records())
    connection = await asyncpg.connect(empty_database)
    runs = [row async for row in queries.ended_runs(connection, since=NOON, until=NOON + timedelta(days=1))]
    assert [row["run_id"] for row in runs] == [R1, R2, R3, R4] and runs[0]["usage"]["gpt-5"]["calls"] == 2
    await tables.forget_runs(timedelta(seconds=-(10**9)))
    assert not [row async for row in queries.ended_runs(connection, since=NOON, until=NOON + timedelta(days=1))]
    await connection.close()
    assert (await report(empty_database))[0]["runs"] == 4


async def test_the_app_counts_and_counts_anew(system: System, database: str, tmp_path: Path) -> None:
    story = records()
    values = [decided(1, n, n - 1, *record.events, at=record.at, actor=record.actor) for n, record in enumerate(story)]
    await append(system.log, 1, start(1), *values[:6])
    await append(system.log, 1, values[5])  # a duplicate

    async def deriving(*, anew: bool, until: int, busy: bool = False) -> None:
        app = system.app("derive")
        if anew:
            await reset(app)
        tables = await DerivedTables.open(database, prices(tmp_path), anew=anew)
        counting(app, tables, keep_runs=timedelta(days=90))
        async with running(app):
            await eventually(lambda: report(database), lambda rows: sum(row["runs"] for row in rows) == until)
            if busy:
                with pytest.raises(AtWork, match="stop it first"):
                    await reset(app)
        await tables.aclose()

    await deriving(anew=False, until=1)
    await append(system.log, 1, *values[6:])
    await deriving(anew=False, until=4, busy=True)
    before = await report(database, by="tag", window="hour")
    await deriving(anew=True, until=4)
    assert await report(database, by="tag", window="hour") == before
