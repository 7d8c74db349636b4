"""Verify finds what differs from the log, and nothing while the engine is at work."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.engine_harness import (
    PARTITIONS,
    EngineHarness,
    create_run,
    create_thread,
    engine_harness,
    finish,
    new_id,
)
from tests.projections.run_script import ckpt
from threadlog.engine.domain.commands import (
    CreateAssistant,
    DeleteRun,
    DeleteThread,
    ReportRun,
    UpdateAssistant,
    UpdateThread,
)
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import partition_of
from threadlog.projections.rebuild.swap import swap
from threadlog.projections.rebuild.verify import Difference, verify


@pytest.fixture
async def harness(database: str):
    async with engine_harness("postgres", database) as harness:
        yield harness


def checkpoint(n: int) -> dict[str, object]:
    return {
        "kind": "checkpoint", "ns": "", "checkpoint_id": ckpt(n), "parent_id": None, "metadata": {"step": n},
        "checkpoint": {"v": 4, "id": ckpt(n)}, "channels": {"c": {"h": f"hash-{n}"}},
        "blobs": [{"h": f"hash-{n}", "t": "msgpack", "b": "aGVsbG8="}],
    }  # fmt: skip


async def some_history(harness: EngineHarness) -> str:
    """Threads, runs, checkpoints, assistants; answers a thread with a finished run."""
    engine = await harness.engine()
    kept, deleted = create_run(new_id()), create_run(new_id())
    for run in (kept, deleted):
        await engine.submit(run)
        report = ReportRun(thread_id=run.thread_id, run_id=run.run_id, attempt=1, items=[checkpoint(0), checkpoint(1)])
        await engine.submit(report)
        await engine.submit(finish(run.thread_id, run.run_id))
    again = create_run(kept.thread_id)
    await engine.submit(again)
    items = [checkpoint(2)]
    await engine.submit(ReportRun(thread_id=kept.thread_id, run_id=again.run_id, attempt=1, items=items))
    await engine.submit(DeleteRun(thread_id=kept.thread_id, run_id=again.run_id))
    await engine.submit(DeleteThread(thread_id=deleted.thread_id))
    assistant = CreateAssistant(assistant_id=new_id(), graph_id="g")
    await engine.submit(assistant)
    await engine.submit(UpdateAssistant(assistant_id=assistant.assistant_id, metadata={"a": 1}))
    return kept.thread_id


async def test_live_and_rebuilt_tables_are_equal(harness: EngineHarness) -> None:
    await some_history(harness)
    assert await harness.verify() == []
    assert await harness.rows("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild%'") == []


@pytest.mark.parametrize(
    ("tamper", "table", "column"),
    [
        ("UPDATE threads SET metadata = '{\"x\": 1}'", "threads", "metadata"),
        ("UPDATE runs SET status = 'error' WHERE status = 'success'", "runs", "status"),
        ("UPDATE checkpoints SET channels = '{}'", "checkpoints", "channels"),
        ("UPDATE channel_values SET data = 'x'", "channel_values", "data"),
        ("UPDATE aggregates SET deleted_at = NULL WHERE deleted_at IS NOT NULL", "aggregates", "deleted_at"),
        ("UPDATE partitions SET cmd_off = cmd_off + 1", "partitions", "cmd_off"),
    ],
)
async def test_a_tampered_row_is_found(harness: EngineHarness, tamper: str, table: str, column: str) -> None:
    await some_history(harness)
    await harness.engines[0].processor.stop()
    await harness.pool.execute(tamper)
    differences = await harness.verify()
    assert differences and {d.table for d in differences} == {table}
    assert all(d.live is not None and d.rebuilt is not None for d in differences)
    assert all(list(d.live or {}) == [column] and d.live != d.rebuilt for d in differences)


async def test_a_missing_and_an_invented_row_are_found(harness: EngineHarness) -> None:
    thread_id = await some_history(harness)
    await harness.engines[0].processor.stop()
    invented = "INSERT INTO graphs VALUES ('invented', 'd', '{}', now())"
    await harness.pool.execute(invented)
    await harness.pool.execute("DELETE FROM threads WHERE thread_id = $1", thread_id)
    found = {d.table: d for d in await harness.verify()}
    assert found["graphs"].live is not None and found["graphs"].rebuilt is None
    assert found["threads"].live is None and found["threads"].rebuilt is not None
    assert str(found["threads"].key["thread_id"]) == thread_id


async def test_a_rebuild_tells_how_far_it_is(harness: EngineHarness) -> None:
    await some_history(harness)
    await harness.engines[0].processor.stop()
    total = await harness.pool.fetchval("SELECT sum(ev_off + 1) FROM partitions")
    told: list[tuple[int, int]] = []
    found = await verify(harness.dsn, harness.log, progress=lambda *at: told.append(at), fold_records=3)
    assert found == []
    done = [at for at, _ in told]
    assert len(done) > PARTITIONS, "once for every fold, of which some partitions need several"
    assert done == sorted(set(done)) and done[-1] == total
    assert {of for _, of in told} == {total}


async def test_leases_are_not_history(harness: EngineHarness) -> None:
    await some_history(harness)
    await harness.engines[0].submit(create_run(new_id()))
    await harness.pool.execute("INSERT INTO executors VALUES ('me', now() + interval '1 hour', 1)")
    await harness.pool.execute("UPDATE run_queue SET owner = 'me'")
    assert await harness.verify() == []


async def test_a_large_value_is_read_from_the_values_topic(harness: EngineHarness) -> None:
    engine = await harness.engine()
    run = create_run(new_id())
    p = partition_of(run.thread_id, PARTITIONS)
    [offset] = await harness.log.append([Append(Topic.VALUES, p, run.thread_id, b"large")])
    item = {**checkpoint(0), "blobs": [{"h": "hash-0", "t": "msgpack+zstd", "at": offset}]}
    await engine.submit(run)
    await engine.submit(ReportRun(thread_id=run.thread_id, run_id=run.run_id, attempt=1, items=[item]))
    assert [bytes(row["data"]) for row in await harness.rows("SELECT data FROM channel_values")] == [b"large"]
    assert await harness.verify() == []


async def test_nothing_differs_while_the_engine_is_at_work(harness: EngineHarness) -> None:
    engine = await harness.engine()
    done = False

    async def work() -> None:
        while not done:
            run = create_run(new_id())
            await engine.submit(run)
            await engine.submit(finish(run.thread_id, run.run_id))
            await engine.submit(create_thread())

    workers = [asyncio.create_task(work()) for _ in range(4)]
    found: list[Difference] = []
    for _ in range(3):
        found += await harness.verify()
    done = True
    await asyncio.gather(*workers)
    assert found == []


async def test_a_swap_makes_the_live_rows_what_the_log_says(harness: EngineHarness) -> None:
    thread_id = await some_history(harness)
    for damage in (
        "UPDATE threads SET metadata = '{\"x\": 1}'", "DELETE FROM runs", "DELETE FROM checkpoints",
        "UPDATE aggregates SET state = '{}'", "UPDATE channel_values SET data = 'x'",
        "INSERT INTO graphs VALUES ('never', 'd', '{}', now())",
    ):  # fmt: skip
        await harness.pool.execute(damage)
    assert {d.table for d in await verify(harness.dsn, harness.log)} == {
        "threads", "runs", "checkpoints", "aggregates", "channel_values", "graphs"
    }  # fmt: skip
    only = await swap(harness.dsn, harness.log, ["graphs"])
    assert [(each.table, each.removed, each.written) for each in only] == [("graphs", 1, 0)]
    assert {each.table for each in await swap(harness.dsn, harness.log, fold_records=3)} == {
        "threads", "runs", "checkpoints", "aggregates", "channel_values"
    }  # fmt: skip
    assert await verify(harness.dsn, harness.log) == []
    assert await swap(harness.dsn, harness.log) == []
    assert await harness.rows("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild%'") == []
    await harness.engines[0].submit(UpdateThread(thread_id=thread_id, metadata={"goes": "on"}))
    assert await harness.verify() == []


async def test_a_swap_keeps_leases_and_what_happens_meanwhile(harness: EngineHarness) -> None:
    await some_history(harness)
    engine = harness.engines[0]
    waiting = create_run(new_id())
    await engine.submit(waiting)
    await harness.pool.execute("INSERT INTO executors VALUES ('x', now() + interval '1 hour', 10)")
    await harness.pool.execute(
        "UPDATE run_queue SET owner = 'x', graph_id = 'damaged' WHERE run_id = $1", waiting.run_id
    )
    going_on = True

    async def more() -> int:
        count = 0
        while going_on:
            await engine.submit(create_thread())
            count += 1
        return count

    work = asyncio.create_task(more())
    try:
        await swap(harness.dsn, harness.log, fold_records=3)
    finally:
        going_on = False
        assert await work
    (row,) = await harness.rows(f"SELECT owner, graph_id FROM run_queue WHERE run_id = '{waiting.run_id}'")
    assert row["owner"] == "x" and row["graph_id"] != "damaged"
    assert await harness.verify() == []
