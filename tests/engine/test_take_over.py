"""A take-over that finds much to project does so in pieces: each is in the read models before the next is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.engine.engine_harness import PARTITIONS, EngineHarness, create_run, create_thread, finish, new_id
from threadlog.engine.log.port import LogUnavailable, Record, Topic
from threadlog.engine.log.records import EventRecord
from threadlog.engine.processor.committer import take_over
from threadlog.engine.processor.ports import Batch
from threadlog.engine.processor.term import Term
from threadlog.projections.commit.coordination import PostgresCoordinationStore
from threadlog.projections.rebuild.rebuild import reader_of_values

TABLES = "aggregates, threads, runs, run_queue, timers, checkpoints, checkpoint_writes, channel_values"


class Watched:
    """The log, which tells where its events are read, and is away from the `last` read on."""

    def __init__(self, harness: EngineHarness, last: int | None = None) -> None:
        self._log, self._pool, self._last = harness.log, harness.pool, last
        self.reads = 0
        self.ahead: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read(self, topic: Topic, partition: int, start: int, **names: Any) -> list[Record]:
        if topic is Topic.EVENTS:
            self.reads += 1
            if self._last is not None and self.reads > self._last:
                raise LogUnavailable("as the test wishes")
            projected = await self._pool.fetchval("SELECT ev_off FROM partitions WHERE p = $1", partition)
            if projected != start - 1:
                self.ahead.append((start, projected))
        return await self._log.read(topic, partition, start, **names)


SMALL_PIECES = {"piece_bytes": 1, "least_bytes": 1_000}


@pytest.fixture
async def forgotten(harness: EngineHarness) -> AsyncIterator[EngineHarness]:
    """A log of some hundred records, none of which is projected; pieces are of a few records."""
    engine = await harness.engine()
    for n in range(30):
        run = create_run(new_id())
        await engine.submit(run)
        await engine.submit(finish(run.thread_id, run.run_id))
        if n % 3 == 0:
            await engine.submit(create_run(run.thread_id))
            await engine.submit(create_thread())
    await engine.stop()
    harness.engines.clear()
    await harness.pool.execute(f"TRUNCATE {TABLES}")
    await harness.pool.execute("UPDATE partitions SET ev_off = -1, cmd_off = -1, log_epoch = 0")
    yield harness


async def taken(harness: EngineHarness, source: Any) -> tuple[list[Term], list[Batch]]:
    """Takes everything over; answers the terms and what they projected."""
    coordination = PostgresCoordinationStore(harness.pool, reader_of_values(harness.log))
    terms = [Term(position) for position in await coordination.acquire("two", 60, PARTITIONS, [])]
    batches: list[Batch] = []
    await take_over(source, coordination, terms, lambda batch, _: batches.append(batch), **SMALL_PIECES)
    return terms, batches


async def everything(harness: EngineHarness) -> int:
    """How many records there are but announcements."""
    found = [record for p in range(PARTITIONS) for record in await harness.log.read(Topic.EVENTS, p, 0)]
    return sum(not EventRecord.decode(record.value).start for record in found)


async def test_a_piece_is_projected_before_the_next_is_read(forgotten: EngineHarness) -> None:
    source = Watched(forgotten)
    terms, batches = await taken(forgotten, source)
    assert all(term.ready and not term.dead and not term.unprojected for term in terms)
    assert source.reads > 2 * PARTITIONS and source.ahead == []
    assert sum(len(batch.records) for batch in batches) == await everything(forgotten)
    assert max(len(batch.records) for batch in batches) < 10
    assert await forgotten.verify() == []


async def test_the_next_take_over_goes_on_after_the_last_piece(forgotten: EngineHarness) -> None:
    """The log goes away in the middle, again and again."""
    records = 0
    for last in (PARTITIONS, PARTITIONS + 3, PARTITIONS + 9):
        terms, batches = await taken(forgotten, Watched(forgotten, last))
        records += sum(len(batch.records) for batch in batches)
        assert batches and all(term.dead for term in terms)
        assert await forgotten.verify() == []
    source = Watched(forgotten)
    terms, batches = await taken(forgotten, source)
    assert not any(term.dead for term in terms) and source.ahead == []
    assert records + sum(len(batch.records) for batch in batches) == await everything(forgotten)
    assert await forgotten.verify() == []


async def test_a_take_over_that_is_overtaken_leaves_the_rest_to_the_next(forgotten: EngineHarness) -> None:
    """Another processor takes one of the partitions after the first piece."""
    coordination = PostgresCoordinationStore(forgotten.pool, reader_of_values(forgotten.log))
    terms = [Term(position) for position in await coordination.acquire("two", 60, PARTITIONS, [])]
    stolen: list[int] = []

    class Robbed(Watched):
        async def read(self, topic: Topic, partition: int, start: int, **names: Any) -> list[Record]:
            if self.reads == PARTITIONS and not stolen:
                stolen.append(partition)
                await forgotten.pool.execute("UPDATE partitions SET epoch = epoch + 1 WHERE p = $1", partition)
            return await super().read(topic, partition, start, **names)

    await take_over(Robbed(forgotten), coordination, terms, lambda commit, _: None)
    assert [term.partition for term in terms if term.dead] == stolen
    assert all(term.ready for term in terms if not term.dead)
    assert await forgotten.verify() == []
