"""Leases, cancellations that race, draining, and a database that goes away."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually
from threadlog.engine.executor import heartbeat
from threadlog.engine.executor.checkpointer.retrying_pool import RetryingPool
from threadlog.engine.executor.queue import Claim, RunQueue
from threadlog.engine.executor.worker import Executor
from threadlog.engine.log.postgres.log import PostgresLog


async def test_an_executor_has_a_row_while_it_lives(harness: ExecutorHarness, serving) -> None:
    executor = await serving("noop", slots=7)
    (row,) = await harness.connection.fetch("SELECT * FROM executors")
    assert (row["executor_id"], row["slots"], row["graphs"]) == (executor.executor_id, 7, ["noop"])
    executor.hurry()
    await executor.drain()
    await executor.aclose()
    assert await harness.connection.fetch("SELECT * FROM executors") == []


async def test_the_lease_is_renewed(harness: ExecutorHarness, serving) -> None:
    await serving("noop", lease_seconds=2.0, renew_seconds=0.05)
    first = await harness.connection.fetchval("SELECT lease_until FROM executors")

    async def renewed() -> bool:
        return await harness.connection.fetchval("SELECT lease_until > $1 FROM executors", first)

    await eventually(renewed)


async def test_an_executor_at_rest_says_at_once_that_work_begins_and_is_watched_from_then_on(
    harness: ExecutorHarness, serving, monkeypatch
) -> None:
    monkeypatch.setattr(heartbeat, "CALM_SECONDS", 0.0)
    monkeypatch.setattr(heartbeat, "IDLE_SECONDS", 4000.0)
    signs: list[str] = []
    executor = await serving("noop", alive=signs.append)
    await eventually(lambda: len(signs) == 2)  # one as it registers, one as it comes to rest
    await harness.enqueue("noop", {"items": []})
    await eventually(lambda: len(signs) >= 4)
    assert set(signs) == {executor.executor_id}


async def test_the_lease_is_renewed_whatever_became_of_the_connection(
    harness: ExecutorHarness, serving, monkeypatch
) -> None:
    """What asyncpg says of a connection that the server ended while nobody used it is none of its usual errors."""
    ask, failed = asyncpg.Connection.fetchval, []

    async def fail_once(connection: asyncpg.Connection, *args: Any, **more: Any) -> Any:
        if not failed:
            failed.append(args)
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
        return await ask(connection, *args, **more)

    executor = await serving("noop", renew_seconds=0.05)
    monkeypatch.setattr(asyncpg.Connection, "fetchval", fail_once)
    await eventually(lambda: failed)
    lease = "SELECT lease_until FROM executors WHERE executor_id = $1"
    before = (await harness.connection.fetchrow(lease, executor.executor_id))[0]

    async def renewed() -> bool:
        return (await harness.connection.fetchrow(lease, executor.executor_id))[0] > before

    await eventually(renewed)


async def test_an_executor_that_was_declared_dead_stops_its_runs_in_silence_and_begins_anew(harness, serving) -> None:
    executor = await serving("slow", "noop", renew_seconds=0.05)
    before = executor.executor_id
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.items(run_id))
    reports = await harness.reports(run_id)
    await harness.connection.execute("DELETE FROM run_queue")
    await harness.connection.execute("DELETE FROM executors")
    await eventually(lambda: executor.executor_id != before and not executor.attempts)
    assert await harness.reports(run_id) == reports
    await eventually(lambda: harness.connection.fetchval("SELECT executor_id FROM executors"))
    other = await harness.enqueue("noop", {"items": []})
    assert (await harness.outcome(other))["status"] == "success"
    assert (await harness.reports(other))[0]["started"]["executor"] == executor.executor_id


async def test_a_run_that_somebody_else_took_over_is_stopped_in_silence(harness: ExecutorHarness, serving) -> None:
    executor = await serving("slow", poll_seconds=0.05)
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.items(run_id))
    reports = await harness.reports(run_id)
    await harness.connection.execute("UPDATE run_queue SET attempt = 2, owner = 'other'")
    await eventually(lambda: not executor.attempts)
    assert await harness.reports(run_id) == reports


async def test_the_runs_of_a_deleted_thread_are_stopped(harness: ExecutorHarness, serving) -> None:
    executor = await serving("slow", poll_seconds=0.05)
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.reports(run_id))
    await harness.connection.execute("DELETE FROM run_queue")
    await eventually(lambda: not executor.attempts)
    assert (await harness.outcome(run_id))["status"] == "interrupted"


async def test_a_cancellation_nobody_heard_is_seen_by_the_poll(harness: ExecutorHarness, serving) -> None:
    await serving("slow", poll_seconds=0.05)
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.reports(run_id))
    await harness.connection.execute("UPDATE run_queue SET cancel = 'rollback'")
    assert (await harness.outcome(run_id))["status"] == "interrupted"


async def test_a_cancelled_row_is_never_claimed(harness: ExecutorHarness, serving) -> None:
    run_id = await harness.enqueue("noop", {"items": []})
    await harness.connection.execute("UPDATE run_queue SET cancel = 'interrupt'")
    await serving("noop")
    other = await harness.enqueue("noop", {"items": []})
    await harness.outcome(other)
    assert await harness.reports(run_id) == []


async def test_a_cancellation_of_somebody_elses_attempt_does_not_stop_ours(harness: ExecutorHarness, serving) -> None:
    executor = await serving("noop")
    first, run_id = (str(uuid.uuid4()) for _ in range(2))
    await harness.connection.execute("SELECT pg_notify('threadlog_queue', $1)", f"cancel:{run_id}")
    await harness.connection.execute("SELECT pg_notify('threadlog_queue', $1)", f"cancel:{first}")
    await eventually(lambda: first in executor._cancelled_early)
    await harness.enqueue("noop", {"items": []}, run_id=run_id)
    assert (await harness.outcome(run_id))["status"] == "success"


async def test_an_attempt_stopped_before_its_first_step_still_reports(
    harness: ExecutorHarness, serving, monkeypatch
) -> None:
    begin = Executor._begin

    def begin_cancelled(executor: Executor, claim: Claim, *more: Any) -> None:
        begin(executor, claim, *more)
        executor.attempts[claim.run_id].cancel("interrupt")

    monkeypatch.setattr(Executor, "_begin", begin_cancelled)
    await serving("noop")
    run_id = await harness.enqueue("noop", {"items": []})
    assert (await harness.outcome(run_id))["status"] == "interrupted"


async def test_a_run_that_was_queued_without_a_notification_is_found(harness: ExecutorHarness, serving) -> None:
    await serving("noop", poll_seconds=0.05)
    run_id = await harness.enqueue("noop", {"items": []})
    await harness.outcome(run_id)
    await harness.connection.execute(
        "INSERT INTO run_queue (run_id, thread_id, p, graph_id, attempt, scheduled_at)"
        " SELECT run_id, thread_id, 0, graph_id, 2, now() FROM runs"
    )
    assert (await harness.outcome(run_id, 2))["status"] == "success"


async def test_a_claim_whose_answer_was_lost_is_taken_up(harness: ExecutorHarness, serving) -> None:
    executor = await serving("noop", poll_seconds=0.05)
    executor._draining = True  # it must not claim the row itself before it is taken
    run_id = await harness.enqueue("noop", {"items": []})
    queue = RunQueue(harness.database, graphs=["noop"], durable=True, held=list)
    (claim,) = await queue.claim(executor.executor_id, 10)
    await queue.aclose()
    assert claim.run_id == run_id
    executor._draining = False
    executor._spawn(executor._claim_loop(), "claim")
    assert (await harness.outcome(run_id))["status"] == "success"


async def test_two_executors_share_the_runs_and_none_is_run_twice(harness: ExecutorHarness, serving) -> None:
    one = await serving("noop")
    two = await serving("noop")
    runs = [await harness.enqueue("noop", {"items": []}) for _ in range(60)]
    for run_id in runs:
        assert (await harness.outcome(run_id))["status"] == "success"
    by = [(await harness.reports(run_id))[0]["started"]["executor"] for run_id in runs]
    assert set(by) <= {one.executor_id, two.executor_id}
    assert len([c for c in await harness.commands("run.report") if c.body.get("started")]) == 60


async def test_runs_of_unknown_graphs_are_left_to_others(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    other = await harness.enqueue("elsewhere", {"items": []})
    run_id = await harness.enqueue("noop", {"items": []})
    await harness.outcome(run_id)
    assert await harness.reports(other) == []


async def test_draining_hands_runs_back_at_a_superstep(harness: ExecutorHarness, serving) -> None:
    executor = await serving("ticking")
    run_id = await harness.enqueue("ticking", {"items": [], "n": 1000})

    async def three_steps() -> bool:
        return [i["kind"] for i in await harness.items(run_id)].count("checkpoint") > 3

    await eventually(three_steps)
    await executor.drain()
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "released" and outcome["next"] == ["tick"]
    done = [i["kind"] for i in await harness.items(run_id)].count("checkpoint") - 2
    await serving("ticking")  # the engine has scheduled the next attempt
    await eventually(lambda: harness.items(run_id, 2))
    await harness.cancel(run_id)
    await harness.outcome(run_id, 2)
    values = [data["items"] for name, data in await harness.frames(run_id, 2) if name == "values"]
    assert values[0] == list(range(done)) and len(values[-1]) > done


async def test_draining_cancels_what_reaches_no_superstep_in_time(harness: ExecutorHarness, serving) -> None:
    executor = await serving("slow", grace_seconds=0.1)
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.reports(run_id))
    await executor.drain()
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "released" and outcome["next"] == ["slow"]
    waiting = await harness.enqueue("slow", {"items": []})
    assert [row["owner"] for row in await harness.rows() if str(row["run_id"]) == waiting] == [None]


async def test_a_lost_connection_is_made_again(harness: ExecutorHarness, serving) -> None:
    executor = await serving("noop", "slow")
    held = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.reports(held))
    admin = await asyncpg.connect(harness.database)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'threadlog%'"
        " AND datname = current_database()"
    )
    await admin.close()
    run_id = await harness.enqueue("noop", {"items": []})
    assert (await harness.outcome(run_id))["status"] == "success"
    assert list(executor.attempts) == [held]


class ComingAndGoing:
    """asyncpg's pool while the server restarts."""

    def __init__(self) -> None:
        self.troubles = [ConnectionRefusedError(), asyncpg.CannotConnectNowError("starting up"), OSError("gone")]

    async def fetchval(self, query: str) -> int:
        if self.troubles:
            raise self.troubles.pop()
        if query != "SELECT 1":
            raise asyncpg.PostgresSyntaxError("syntax")
        return 1


async def test_reads_wait_while_the_database_is_away_and_fail_when_they_are_wrong() -> None:
    pool = RetryingPool(ComingAndGoing())  # type: ignore[arg-type]
    assert await pool.fetchval("SELECT 1") == 1
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await pool.fetchval("SELEKT")


FORGET = "UPDATE run_queue SET owner = NULL; TRUNCATE executors_here"  # as a crash of the database may


async def test_a_claim_the_database_forgot_is_taken_back(harness: ExecutorHarness, serving) -> None:
    executor = await serving("slow", log_in_database=True, poll_seconds=0.05)
    run_id = await harness.enqueue("slow", {"items": []})
    await eventually(lambda: harness.reports(run_id))
    mine, connection = executor.attempts[run_id], executor._queue._connection
    async with executor._queue._lock:
        await harness.connection.execute(FORGET)
        await connection.drop()

    async def ours() -> bool:
        return await harness.connection.fetchval("SELECT owner FROM run_queue") == executor.executor_id

    await eventually(ours)
    assert executor.attempts == {run_id: mine} and mine.working
    assert len([r for r in await harness.reports(run_id) if r.get("started")]) == 1


async def test_after_a_crash_nobody_claims_until_all_who_live_have_taken_back_what_they_hold(
    harness: ExecutorHarness,
) -> None:
    held: list[tuple[str, int]] = []
    one, two = (
        RunQueue(harness.database, graphs=["noop"], durable=False, held=lambda held=held: held) for held in (held, [])
    )
    for name, queue in (("one", one), ("two", two)):
        await queue.check_in(name)
        await harness.connection.execute("INSERT INTO executors VALUES ($1, now() + interval '1 hour', 1)", name)
    older = await harness.enqueue("noop", {"items": []})
    (claim,) = await one.claim("one", 5)
    assert claim.run_id == older
    held.append((older, 1))
    for queue in (one, two):
        await queue._connection.drop()
    await harness.connection.execute(FORGET)
    newer = await harness.enqueue("noop", {"items": []})
    assert await two.claim("two", 5) == []
    assert await one.mine("one") == {older: (1, None)}
    assert [claim.run_id for claim in await two.claim("two", 5)] == [newer]
    # Who is dead is not waited for.
    for queue in (one, two):
        await queue._connection.drop()
    await harness.connection.execute(FORGET)
    assert await two.claim("two", 5) == []
    await harness.connection.execute("UPDATE executors SET lease_until = now() WHERE executor_id = 'one'")
    assert {claim.run_id for claim in await two.claim("two", 5)} == {older, newer}
    for queue in (one, two):
        await queue.aclose()


PROCESS = """
import asyncio, sys
from pathlib import Path
from typing import Any
from threadlog.engine.executor.process import ExecutorOptions, run, run_executor
from threadlog.engine.log.postgres.log import PostgresLog

async def main(graphs):
    log = await PostgresLog.create({uri!r}, 16)
    await run_executor(ExecutorOptions(database_uri={uri!r}, grace_seconds=0.2), log, graphs)
    await log.aclose()
    print("stopped", flush=True)

run(Path({config!r}), main)
"""


@pytest.mark.server
@pytest.mark.timeout(300)
async def test_a_node_that_leaves_the_process_fails_its_run_only(database: str, tmp_path: Path) -> None:
    log = await PostgresLog.create(database, 16)
    async with ExecutorHarness.open(database, tmp_path, log) as harness:
        errors = {
            "leaving": "SystemExit",
            "leaving_async": "KeyboardInterrupt",
            "leaving_beside": "SystemExit",
            "leaving_async_beside": "KeyboardInterrupt",
        }
        config = harness.config(**{name: name for name in [*errors, "noop", "blocking"]})
        script = textwrap.dedent(PROCESS.format(uri=database, config=str(config)))
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
        try:  # the process takes its time to start on a busy machine, which is not the runs'
            await eventually(lambda: harness.connection.fetchval("SELECT count(*) FROM executors"), within=150)
            for graph, error in errors.items():
                run_id = await harness.enqueue(graph, {"items": []})
                outcome = await harness.outcome(run_id)
                assert outcome["status"] == "error" and outcome["error"]["error"] == error
            run_id = await harness.enqueue("noop", {"items": []})
            assert (await harness.outcome(run_id))["status"] == "success"
            hanging = await harness.enqueue("blocking", {"items": [], "n": 300})
            await eventually(lambda: harness.reports(hanging))
            process.terminate()
            assert (await harness.outcome(hanging))["status"] == "released"
            said, _ = await asyncio.wait_for(process.communicate(), 20)
            assert (process.returncode, said) == (0, b"stopped\n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
            await log.aclose()
