"""What is claimed next: the most urgent, by turns of fairness groups, at a cost that does not grow with what waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import asyncpg
import pytest

from tests.engine.engine_harness import EngineHarness, create_run, engine_harness, new_id
from threadlog.engine.executor.queue import RunQueue


@pytest.fixture
async def harness(database: str) -> AsyncIterator[EngineHarness]:
    async with engine_harness("postgres", database) as harness:
        yield harness


@pytest.fixture
async def queue(harness: EngineHarness) -> AsyncIterator[RunQueue]:
    queue = RunQueue(harness.dsn, graphs=["g"], durable=True, held=lambda: ())
    yield queue
    await queue.aclose()


async def waiting(conn: asyncpg.Pool, rows: Sequence[tuple[int, str]], *, graph_id: str = "g") -> list[str]:
    """Attempts that wait, in the order in which they became due: `(priority, group)` of each."""
    ids = [str(uuid4()) for _ in rows]
    await conn.executemany(
        "INSERT INTO run_queue (run_id, thread_id, p, graph_id, attempt, scheduled_at, priority, fairness_group) "
        "VALUES ($1, $1, 0, $5, 1, now() + $2 * interval '1 ms', $3, $4)",
        [
            (run_id, n, priority, group, graph_id)
            for n, (run_id, (priority, group)) in enumerate(zip(ids, rows, strict=True))
        ],
    )
    return ids


async def claimed(queue: RunQueue, limit: int) -> list[str]:
    return [claim.run_id for claim in await queue.claim("x", limit)]


async def test_the_most_urgent_comes_first_however_long_others_wait(harness: EngineHarness, queue: RunQueue) -> None:
    ids = await waiting(
        harness.pool, [(0, "default"), (5, "default"), (-5, "default"), (0, "default"), (-1, "default")]
    )
    order = [ids[2], ids[4], ids[0], ids[3], ids[1]]
    assert await claimed(queue, 2) == order[:2]
    assert await claimed(queue, 10) == order[2:]
    assert await claimed(queue, 1) == []


async def test_without_priorities_the_order_is_that_in_which_runs_became_due(
    harness: EngineHarness, queue: RunQueue
) -> None:
    ids = await waiting(harness.pool, [(0, "default")] * 9)
    assert await claimed(queue, 4) == ids[:4]
    assert await claimed(queue, 100) == ids[4:]


async def test_a_group_does_not_starve_another(harness: EngineHarness, queue: RunQueue) -> None:
    many = await waiting(harness.pool, [(0, "many")] * 50)
    few = await waiting(harness.pool, [(0, "few")] * 3)
    order = [(await claimed(queue, 1))[0] for _ in range(6)]
    assert [run_id for run_id in order if run_id in few] == few and [r for r in order if r in many] == many[:3]
    # Many at a time are shared out; what a group does not use is another's.
    await waiting(harness.pool, [(0, "few")] * 2)
    assert len(await claimed(queue, 8)) == 8


async def test_more_groups_than_slots_have_their_turns(harness: EngineHarness, queue: RunQueue) -> None:
    groups = [f"g{n}" for n in range(7)]
    ids = await waiting(harness.pool, [(0, group) for group in groups for _ in range(3)])
    group_of = dict(zip(ids, [group for group in groups for _ in range(3)], strict=True))
    turns = [group_of[run_id] for _ in range(7) for run_id in await claimed(queue, 2)]
    assert sorted(turns[:7]) == sorted(turns[7:]) == groups


async def test_what_another_executor_holds_or_can_run_alone_is_passed_over(
    harness: EngineHarness, queue: RunQueue
) -> None:
    await waiting(harness.pool, [(-5, "a"), (-5, "b")], graph_id="elsewhere")
    (locked, mine) = await waiting(harness.pool, [(0, "a"), (0, "b")])
    async with harness.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT FROM run_queue WHERE run_id = $1 FOR UPDATE", locked)
        assert await claimed(queue, 10) == [mine]
    assert await claimed(queue, 10) == [locked]


async def test_what_a_claim_reads_does_not_grow_with_what_waits(harness: EngineHarness) -> None:
    """The plan of its largest part: `claim_runs` finds groups in the same index, one after the other."""
    await waiting(harness.pool, [(0, f"g{n % 100}") for n in range(2_000)])
    await harness.pool.execute("ANALYZE run_queue")
    plan = await harness.pool.fetch(
        "EXPLAIN SELECT run_id FROM run_queue WHERE owner IS NULL AND cancel IS NULL AND priority = 0 "
        "AND fairness_group = 'g1' AND graph_id = ANY ('{g}') ORDER BY scheduled_at LIMIT 5"
    )
    text = "\n".join(row[0] for row in plan)
    assert "run_queue_free" in text and "Sort" not in text, text


async def test_attempts_are_queued_with_the_priority_of_their_thread_and_rebuilt_so(harness: EngineHarness) -> None:
    one = await harness.engine()
    urgent, usual = new_id(), new_id()
    await one.submit(create_run(new_id(), urgent, priority={"priority": -2, "fairness_group": "a\x00b"}))
    await one.submit(create_run(new_id(), usual))
    rows = await harness.rows("SELECT run_id::text, priority, fairness_group FROM run_queue")
    assert {row[0]: tuple(row)[1:] for row in rows} == {urgent: (-2, "a\ufffdb"), usual: (0, "default")}
    assert await harness.verify() == []
