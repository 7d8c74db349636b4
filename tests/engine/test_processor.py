"""The processor over both journals: deciding, ordering, failures."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import pytest

from tests.engine.engine_harness import PARTITIONS, EngineHarness, create_run, create_thread, finish, new_id, thread_in
from tests.waiting import eventually
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import CancelRun, ReportRun, WriteItems
from threadlog.engine.domain.keyed_request import keyed_command_id
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import AppendUnknown, LogUnavailable, Topic
from threadlog.engine.log.postgres.append import Appended
from threadlog.engine.log.records import partition_of
from threadlog.engine.processor.processor import NotOwner
from threadlog.projections.commit.single_transaction import SingleTransactionCommitter


async def test_an_answered_command_is_in_the_read_models(harness: EngineHarness) -> None:
    engine = await harness.engine()
    thread = create_thread(metadata={"a": 1})
    decided = await engine.submit(thread)
    assert [event["type"] for event in decided.events] == ["thread.created"]
    row = (await harness.rows("SELECT * FROM threads"))[0]
    assert str(row["thread_id"]) == thread.thread_id and row["created_at"] == datetime.fromisoformat(decided.at)
    assert await harness.verify() == []


async def test_a_run_from_creation_to_its_end(harness: EngineHarness) -> None:
    engine = await harness.engine()
    run = create_run(new_id())
    created = await engine.submit(run)
    assert [event["type"] for event in created.events][:3] == ["thread.created", "run.created", "run.scheduled"]
    await harness.append(finish(run.thread_id, run.run_id))
    await harness.until("SELECT count(*) = 1 FROM runs WHERE status = 'success'")
    assert await harness.rows("SELECT * FROM run_queue") == []
    assert await harness.verify() == []


async def test_a_refusal_is_an_answer(harness: EngineHarness) -> None:
    engine = await harness.engine()
    thread = create_thread()
    await engine.submit(thread)
    assert (await engine.submit(thread)).events[0]["code"] == "conflict"


async def test_the_same_command_id_counts_once(harness: EngineHarness) -> None:
    engine = await harness.engine()
    run = create_run(new_id())
    await engine.submit(run, id="the same")
    assert (await engine.submit(run, id="the same")).events == [{"type": "command.repeated"}]
    assert len(await harness.rows("SELECT * FROM runs")) == 1


async def test_commands_of_others_and_of_this_process_are_decided_in_offset_order(harness: EngineHarness) -> None:
    engine = await harness.engine()
    threads = [thread_in(p) for p in (3, 3, 5)]
    for thread_id in threads:
        await engine.submit(create_thread(thread_id))
    own = [engine.submit(create_run(threads[n % 3])) for n in range(120)]
    others = [harness.append(create_run(threads[n % 3])) for n in range(120)]
    await asyncio.gather(*(call for pair in zip(own, others, strict=True) for call in pair))
    await eventually(lambda: engine.heard.events().count("run.created") == 240)
    for p in (3, 5):
        records = [(offset, record) for partition, offset, record in engine.heard.records if partition == p]
        assert [offset for offset, _ in records] == sorted({offset for offset, _ in records})
        commands = [record.cmd_off for _, record in records]
        _, head = await harness.log.bounds(Topic.COMMANDS, p)
        assert commands == list(range(head)), "every command of the partition exactly once, in order"
    assert await harness.verify() == []


async def test_own_commands_are_decided_in_the_order_they_were_handed_in(harness: EngineHarness) -> None:
    engine = await harness.engine()
    thread_id = new_id()
    runs = [create_run(thread_id) for _ in range(50)]
    await asyncio.gather(*(engine.submit(run) for run in runs))
    created = [e["run_id"] for _, _, r in engine.heard.records for e in r.events if e["type"] == "run.created"]
    assert created == [run.run_id for run in runs]


async def test_a_command_nobody_can_understand_holds_up_nothing(harness: EngineHarness) -> None:
    from threadlog.engine.log.port import Append

    engine = await harness.engine()
    thread = create_thread(thread_in(0))
    bad = [Append(Topic.COMMANDS, 0, "x", value) for value in (b"\xff", b"[]", b'{"id":1}')]
    await harness.log.append(bad)
    await harness.append(thread)
    await harness.until("SELECT count(*) = 1 FROM threads")
    expected = ["command.rejected"] * 3 + ["thread.created"]
    await eventually(lambda: engine.heard.events() == expected)


# --- failures --------------------------------------------------------------------------------------------------------


async def test_when_all_connections_die_everything_goes_on(harness: EngineHarness) -> None:
    engine = await harness.engine()
    thread_id = new_id()
    await engine.submit(create_thread(thread_id))
    calls = [asyncio.create_task(engine.submit(create_run(thread_id))) for _ in range(20)]
    await _kill_connections(harness)
    calls += [asyncio.create_task(engine.submit(create_run(thread_id))) for _ in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    unexpected = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, LogUnavailable)]
    assert unexpected == []
    accepted = [a for a in answers if not isinstance(a, BaseException) and a.events[0]["type"] == "run.created"]
    assert (await engine.submit(create_run(thread_id))).events[0]["type"] == "run.created"
    runs = await harness.rows("SELECT * FROM runs")
    assert len(runs) >= len(accepted) + 1
    assert await harness.verify() == []


async def _kill_connections(harness: EngineHarness) -> None:
    conn = await asyncpg.connect(harness.dsn)
    await conn.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    await conn.close()


async def test_a_transaction_killed_in_the_middle_is_begun_again(embedded: EngineHarness) -> None:
    engine = await embedded.engine()
    run = create_run(new_id())
    p = partition_of(run.thread_id, PARTITIONS)
    blocker = await asyncpg.connect(embedded.dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM partitions WHERE p = $1 FOR UPDATE", p)
    call = asyncio.create_task(engine.submit(run))
    blocked = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND query LIKE '%commit_one%' AND wait_event_type = 'Lock'"
    )
    await embedded.until(f"SELECT count(*) = 1 FROM ({blocked}) AS b")
    await blocker.execute(f"SELECT pg_terminate_backend(pid) FROM ({blocked}) AS b")
    await transaction.rollback()
    await blocker.close()
    assert (await call).events[0]["type"] == "thread.created"
    assert engine.heard.events().count("run.created") == 1
    assert await embedded.verify() == []


class _LosesAnswers(SingleTransactionCommitter):
    """Its connection breaks right after the database committed."""

    lost = 0

    async def write(self, *args: Any) -> Appended:
        offsets = await super().write(*args)
        if not self.lost:
            self.lost += 1
            raise ConnectionResetError("the answer is lost")
        return offsets


async def test_a_commit_whose_answer_is_lost_is_found_in_the_log(embedded: EngineHarness, monkeypatch: Any) -> None:
    monkeypatch.setattr("threadlog.deploy.compose.engine.SingleTransactionCommitter", _LosesAnswers)
    engine = await embedded.engine()
    decided = await engine.submit(create_run(new_id()))
    assert [event["type"] for event in decided.events][:2] == ["thread.created", "run.created"]
    assert engine.committer.lost == 1  # type: ignore[attr-defined]
    assert engine.heard.events().count("run.created") == 1  # the listeners are told all the same
    assert len(await embedded.rows("SELECT * FROM runs")) == 1
    assert await embedded.verify() == []


async def test_what_postgres_cannot_store_is_refused_and_holds_up_nobody(
    embedded: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    import random

    # the decider refuses what is known not to fit; this is about what it does not know
    monkeypatch.setattr("threadlog.engine.domain.attempt_decisions._KEY_BYTES", 10**9)
    engine = await embedded.engine()
    run, other = create_run(thread_in(1)), create_run(thread_in(1))
    await engine.submit(run)
    await engine.submit(other)
    ns = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))  # too long for an index
    item = {"kind": "checkpoint", "ns": ns, "checkpoint_id": new_id(), "metadata": {}, "checkpoint": {}, "channels": {}}
    report = ReportRun(thread_id=run.thread_id, run_id=run.run_id, attempt=1, items=[item])
    answers = await asyncio.gather(engine.submit(report), engine.submit(finish(other.thread_id, other.run_id)))
    failed = next(event for event in answers[0].events if event["type"] == "run.failed")
    assert "can't be stored" in failed["error"]["message"]
    assert "run.succeeded" in [event["type"] for event in answers[1].events]
    assert await embedded.verify() == []


@pytest.mark.parametrize("landed", [False, True])
async def test_an_append_that_fails_is_decided_again_in_a_new_term(apart: EngineHarness, landed: bool) -> None:
    engine = await apart.engine()
    run = create_run(new_id())
    await engine.submit(run)
    assert isinstance(apart.log, MemoryLog)
    await apart.append(finish(run.thread_id, run.run_id))
    apart.log.fail_next(AppendUnknown("lost"), landed=landed)  # the next append is the event record's
    await apart.until("SELECT count(*) = 1 FROM runs WHERE status = 'success'")
    await eventually(lambda: engine.heard.events().count("run.succeeded") == 1)
    assert await apart.verify() == []


@pytest.mark.parametrize("landed", [False, True])
async def test_a_command_whose_append_is_unknown_is_sent_again_and_counts_once(
    apart: EngineHarness, landed: bool
) -> None:
    engine = await apart.engine()
    assert isinstance(apart.log, MemoryLog)
    apart.log.fail_next(AppendUnknown("lost"), landed=landed)  # the next append is the command's
    assert "run.created" in [event["type"] for event in (await engine.submit(create_run(new_id()))).events]
    assert len(await apart.rows("SELECT * FROM runs")) == 1


async def test_a_log_that_is_away_is_said_so(apart: EngineHarness) -> None:
    engine = await apart.engine()
    assert isinstance(apart.log, MemoryLog)
    apart.log.fail_next(LogUnavailable("away"))
    with pytest.raises(LogUnavailable):
        await engine.submit(create_thread())
    assert await apart.rows("SELECT * FROM threads") == []


async def test_a_submission_that_is_not_owned_is_refused(apart: EngineHarness) -> None:
    engine = await apart.engine()
    from threadlog.engine.gateway.gateway import envelope_for

    with pytest.raises(NotOwner):  # this journal takes commands from the log only
        await engine.processor.submit(*await envelope_for(create_thread()).on_wire())


async def test_a_rollback_in_the_batch_that_saved_what_it_removes(embedded: EngineHarness) -> None:
    engine = await embedded.engine()
    run = create_run(new_id())
    await engine.submit(run)
    item = {
        "kind": "checkpoint", "ns": "", "checkpoint_id": "1f0e0001-0000-6000-8000-000000000000", "metadata": {},
        "checkpoint": {}, "channels": {"c": {"h": "x"}}, "blobs": [{"h": "x", "t": "msgpack", "b": "aGk="}],
    }  # fmt: skip
    await asyncio.gather(  # decided in one turn
        engine.submit(ReportRun(thread_id=run.thread_id, run_id=run.run_id, attempt=1, items=[item])),
        engine.submit(CancelRun(thread_id=run.thread_id, run_id=run.run_id, action="rollback")),
        engine.submit(create_run(run.thread_id)),
    )
    assert await embedded.rows("SELECT * FROM checkpoints") == await embedded.rows("SELECT * FROM channel_values") == []
    assert await embedded.verify() == []


@pytest.mark.parametrize("before", [True, False], ids=["while the engine is away", "while it decides"])
async def test_a_keyed_request_sent_again_after_more_others_than_an_aggregate_remembers_counts_once(
    harness: EngineHarness, before: bool
) -> None:
    others = decider.RECENT_KEYED + 6
    until = int(datetime.now(UTC).timestamp()) + 3600
    ids = [keyed_command_id(f"r{n}", until, "store.write") for n in range(others + 1)]
    engine = None if before else await harness.engine()
    for n in (*range(others + 1), 0):
        await harness.append(WriteItems(namespace=["n"], ops=[{"key": "x", "value": {"n": n}}]), id=ids[n])
    if engine is None:
        engine = await harness.engine()
    heard = engine.heard
    await eventually(heard.events, lambda types: len(types) == others + 2)
    (row,) = await harness.rows("SELECT value FROM store_items")
    assert orjson.loads(row["value"]) == {"n": others}
    again = await engine.submit(WriteItems(namespace=["n"], ops=[{"key": "x", "value": {"n": 1}}]), id=ids[1])
    assert again.events == [{"type": "command.repeated"}]
    assert heard.events() == [*["store.item_put"] * (others + 1), *["command.repeated"] * 2]
    assert await harness.verify() == []


@pytest.mark.parametrize("others", [False, True], ids=["", "while others append"])
async def test_a_namespace_that_was_taken_for_new_is_what_it_is(embedded: EngineHarness, others: bool) -> None:
    """Where namespaces have been new, the next one is decided as new at once; if it is not, nothing comes of that."""

    def write(namespace: str, n: int) -> WriteItems:
        return WriteItems(namespace=[namespace], ops=[{"key": "x", "value": {"n": n}}, {"key": f"y{n}", "value": {}}])

    first = await embedded.engine()
    await first.submit(write("known", 1), id="c1")
    await first.submit(write("known", 2), id="c2")
    await first.stop()
    engine = await embedded.engine("two")
    for n in range(3):
        assert (await engine.submit(write(f"new{n}", n))).events[0]["type"] == "store.items_put"
    committer = engine.committer
    assert isinstance(committer, SingleTransactionCommitter) and committer.takes_for_new
    if others:
        await embedded.append(write("new1", 7))
    answers = [await engine.submit(write("known", 3), id="c1")]
    assert answers[0].events == [{"type": "command.repeated"}] and not committer.takes_for_new
    assert (await engine.submit(write("known", 4), id="c4")).events[0]["type"] == "store.items_put"
    assert (await engine.submit(write("known", 4), id="c4")).events == [{"type": "command.repeated"}]
    await embedded.until("SELECT count(*) = 1 FROM store_items WHERE namespace = 'new1' AND key = 'x'")
    rows = await embedded.rows("SELECT key, value FROM store_items WHERE namespace = 'known' ORDER BY key")
    assert [(row["key"], orjson.loads(row["value"])) for row in rows] == [
        ("x", {"n": 4}), ("y1", {}), ("y2", {}), ("y4", {})
    ]  # fmt: skip
    assert await embedded.verify() == []
