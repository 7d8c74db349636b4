"""One command of which a stage fails holds up no other, in both journals: it is refused once, and stays refused."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.engine.engine_harness import (
    PARTITIONS,
    EngineHarness,
    EngineUnderTest,
    create_run,
    create_thread,
    engine_harness,
    finish,
    key_of,
    new_id,
    thread_in,
)
from threadlog.engine.domain.commands import (
    Command,
    CreateAssistant,
    DeleteAssistant,
    ReportRun,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.port import Append, LogUnavailable, Topic
from threadlog.engine.log.postgres.append import Appended
from threadlog.engine.log.records import CommandEnvelope, EventRecord, RefusedEnvelope, partition_of
from threadlog.engine.processor.term import Term
from threadlog.projections.commit.single_transaction import SingleTransactionCommitter
from threadlog.projections.rebuild.verify import skipped

P = 3
NAME = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=10_000))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def command(type_: str, of: str, body: Any, **fields: Any) -> bytes:
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    return json.dumps({"id": new_id(), "type": type_, "key": of, "at": at, "body": body, **fields}).encode()


def poison() -> dict[str, bytes]:
    here, elsewhere = thread_in(P), thread_in(P + 1)
    create = {"thread_id": here, "run_id": new_id(), "graph_id": "g", "run": {}}
    return {
        "nothing": b"",
        "no JSON": b"\xff\xfe\x00",
        "no object": b"[1]",
        "fields of other types": b'{"id": 1, "type": [], "key": {}, "at": null, "body": 7}',
        "unknown fields": b'{"colour": "blue"}',
        "a lone surrogate": command("thread.create", here, {"thread_id": here, "metadata": {"a": "\ud800"}}),
        "a number that is none": command("thread.create", here, {"thread_id": here, "metadata": {"a": float("nan")}}),
        "a number of 5000 digits": command("thread.create", here, {"thread_id": here, "metadata": {"a": 7}}).replace(
            b'"a": 7', b'"a": ' + b"7" * 5000
        ),
        "deeper than can be read": command("thread.create", here, {"thread_id": here, "metadata": {"a": 0}}).replace(
            b'"a": 0', b'"a": ' + b"[" * 100_000 + b"]" * 100_000
        ),
        "deeper than can be written": command(
            "run.create", here, {**create, "create_thread": {}, "run": {"kwargs": {"input": {"x": nested(249)}}}}
        ),
        "an unknown type": command("thread.paint", here, {}),
        "a NUL in the key": command("thread.create", "a\x00b", {"thread_id": "a\x00b"}),
        "a key of another partition": command("thread.create", elsewhere, {"thread_id": elsewhere}),
        "a key that is not the body's": command("thread.create", here, {"thread_id": new_id()}),
        "a long id": command("thread.create", here, {"thread_id": here}, id="x" * 1_000_000),
        "a time that is none": command("thread.create", here, {"thread_id": here}, at="soon"),
        "an id that is none": command("run.create", here, {**create, "run_id": "7"}),
        "an integer too large": command("run.create", here, {**create, "create_thread": {}, "stream_from": 2**64 - 1}),
        "a long graph id": command("run.create", here, {**create, "create_thread": {}, "graph_id": NAME}),
        "200 000 keys": command(
            "thread.create", here, {"thread_id": here, "metadata": {str(n): n for n in range(200_000)}}
        ),
    }


async def append(harness: EngineHarness, value: bytes, key: str = "k\x00") -> None:
    await harness.log.append([Append(Topic.COMMANDS, P, key if harness.kind == "memory" else "k", value)])


async def decided(harness: EngineHarness, p: int = P) -> list[EventRecord]:
    records = [EventRecord.decode(record.value) for record in await harness.log.read(Topic.EVENTS, p, 0)]
    return [record for record in records if not record.start]


def others(engine: EngineUnderTest) -> list[str]:
    return [event["type"] for _, _, record in engine.heard.records for event in record.events]


async def test_whatever_is_appended_to_commands_is_refused_and_holds_up_nothing(harness: EngineHarness) -> None:
    engine = await harness.engine()
    bad = poison()
    run = create_run(thread_in(P))
    await engine.submit(run)
    for value in bad.values():
        await append(harness, value)
    await append(harness, b"\xff", key="k" * 100_000)
    await harness.append(finish(run.thread_id, run.run_id))  # behind them all, in their partition
    await harness.until("SELECT count(*) = 1 FROM runs WHERE status = 'success'")
    records = await decided(harness)
    kinds = [[event["type"] for event in record.events] for record in records]
    named = dict(zip([*bad, "a long key"], kinds[1:-1], strict=True))
    assert named == {name: ["command.rejected"] for name in named}
    assert [record.cmd_off for record in records] == list(range(len(records)))
    assert await harness.verify() == [] == await skipped(harness.dsn)

    # The next owner of the partition decides nothing of it again, and goes on.
    await engine.stop()
    harness.engines.remove(engine)
    again = await harness.engine("two")
    await again.submit(create_run(run.thread_id))
    assert [record.events for record in await decided(harness)][: len(records)] == [record.events for record in records]
    assert await harness.verify() == []


async def test_a_report_that_cannot_be_written_ends_its_run_and_no_other(harness: EngineHarness) -> None:
    engine = await harness.engine()
    run, other = create_run(thread_in(P)), create_run(thread_in(P))
    await engine.submit(run)
    await engine.submit(other)
    body = {"thread_id": run.thread_id, "run_id": run.run_id, "attempt": 1}
    said = {**body, "outcome": {"status": "success", "interrupts": {"t": [{"id": "i", "value": nested(251)}]}}}
    await append(harness, command("run.report", run.thread_id, said))
    await harness.append(finish(other.thread_id, other.run_id))
    await harness.until("SELECT count(*) = 2 FROM runs WHERE status IN ('success', 'error')")
    ((error,),) = await harness.rows("SELECT error ->> 'error' FROM runs WHERE run_id = $1::uuid", run.run_id)
    assert error == "InvalidReport"
    assert "run.created" in [event["type"] for event in (await engine.submit(create_run(run.thread_id))).events]
    assert await harness.verify() == []


async def test_odd_text_of_this_process_is_stored_and_holds_up_nothing(harness: EngineHarness) -> None:
    engine = await harness.engine()
    thread, other = create_thread(thread_in(P), metadata={"a\xff\x00": "b\ud800", "n": 2**70}), create_thread()
    both = await asyncio.gather(engine.submit(thread, id="c\udcff"), engine.submit(other))
    assert [answer.events[0]["type"] for answer in both] == ["thread.created"] * 2
    rows = await harness.rows("SELECT metadata::text FROM threads WHERE thread_id = $1::uuid", thread.thread_id)
    assert json.loads(rows[0][0]) == {"a\xff\ufffd": "b\ufffd", "n": str(2**70)}
    assert await harness.verify() == []


# --- the log refuses a record ----------------------------------------------------------------------------------------


@pytest.fixture
async def narrow(database: str) -> AsyncIterator[EngineHarness]:
    """A log that takes no more than 10 kB at a time."""
    async with engine_harness("memory", database, max_bytes=10_000) as harness:
        yield harness


async def test_a_command_whose_event_the_log_does_not_take_is_refused(narrow: EngineHarness) -> None:
    engine = await narrow.engine()
    thread, run = create_thread(thread_in(P)), create_run(thread_in(P))
    await engine.submit(thread)
    await engine.submit(run)
    # Its command fits and its event, which is longer, does not; others are decided in the same turn.
    size = len(command("thread.update", thread.thread_id, {"thread_id": thread.thread_id, "metadata": {"a": ""}}))
    metadata = {"a": "x" * (10_000 - size)}
    large = UpdateThread(thread_id=thread.thread_id, metadata=metadata)
    answers = await asyncio.gather(
        engine.submit(finish(run.thread_id, run.run_id)),
        engine.submit(large),
        engine.submit(create_run(thread.thread_id)),
    )
    assert "run.succeeded" in [event["type"] for event in answers[0].events]
    (refused,) = answers[1].events
    assert refused["type"] == "command.rejected" and "can't be appended" in refused["detail"]
    assert "run.created" in [event["type"] for event in answers[2].events]
    assert await narrow.verify() == []


async def test_a_command_that_the_log_does_not_take_is_refused_to_its_sender(narrow: EngineHarness) -> None:
    engine = await narrow.engine()
    answer = await engine.submit(create_thread(metadata={"a": "x" * 10_000}))
    assert answer.events[0]["code"] == "invalid" and "can't be appended" in answer.events[0]["detail"]
    assert (await engine.submit(create_thread())).events[0]["type"] == "thread.created"


async def test_a_log_that_is_away_turns_no_command_into_a_refusal(apart: EngineHarness) -> None:
    engine = await apart.engine()
    assert isinstance(apart.log, MemoryLog)
    run = create_run(new_id())
    await engine.submit(run)
    await apart.append(finish(run.thread_id, run.run_id))
    for _ in range(5):  # events, announcements, again and again
        apart.log.fail_next(LogUnavailable("away"))
    await apart.until("SELECT count(*) = 1 FROM runs WHERE status = 'success'")
    assert "command.rejected" not in others(engine)


# --- the read models can't take an event -----------------------------------------------------------------------------


async def test_what_the_read_models_cannot_take_is_left_out_and_recorded(
    apart: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "threadlog.engine.domain.limits.INDEXED_BYTES", 10**9
    )  # this is about what the deciders do not know
    engine = await apart.engine()
    assistant = CreateAssistant(assistant_id=thread_in(P), graph_id="g", name=NAME)
    runs = [create_run(thread_in(p)) for p in range(PARTITIONS) for _ in range(4)]
    commands: list[Command] = [*runs[:30], assistant, *runs[30:]]
    answers = await asyncio.gather(*(engine.submit(command) for command in commands))
    assert len(await apart.rows("SELECT FROM runs")) == len(runs)
    assert [event["type"] for event in answers[30].events] == ["assistant.created"]
    (row,) = await skipped(apart.dsn)
    assert (row["p"], row["ev_off"], row["idx"]) == (P, answers[30].offset, 0)
    assert (row["key"], row["type"]) == (assistant.assistant_id, "assistant.created") and "index row" in row["error"]
    assert await apart.rows("SELECT FROM assistants") == []
    # It is in the log, and the deciders know it.
    deleted = await engine.submit(DeleteAssistant(assistant_id=assistant.assistant_id))
    assert [event["type"] for event in deleted.events] == ["assistant.deleted"]
    assert await apart.verify() == []


async def test_only_the_event_at_fault_is_left_out_of_its_record(
    apart: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadlog.engine.domain.attempt_decisions._KEY_BYTES", 10**9)
    engine = await apart.engine()
    run = create_run(thread_in(P))
    await engine.submit(run)
    item = {"kind": "checkpoint", "checkpoint_id": new_id(), "metadata": {}, "checkpoint": {}, "channels": {}}
    report = ReportRun(
        thread_id=run.thread_id,
        run_id=run.run_id,
        attempt=1,
        items=[{**item, "ns": NAME}, {**item, "ns": ""}],
        outcome={"status": "success", "frames": 0},
    )
    await engine.submit(report)
    assert [row["type"] for row in await skipped(apart.dsn)] == ["checkpoint.saved"]
    assert [row["ns"] for row in await apart.rows("SELECT ns FROM checkpoints")] == [""]
    assert [row["status"] for row in await apart.rows("SELECT status FROM runs")] == ["success"]
    assert await apart.rows("SELECT FROM run_queue") == []
    assert await apart.verify() == []

    # A rebuild that has not been told finds the same one.
    await apart.pool.execute("TRUNCATE projection_skips")
    (difference,) = await apart.verify()
    assert difference.table == "projection_skips" and difference.live is None
    assert difference.key == {"p": P, "ev_off": 2, "idx": 0}


async def test_of_items_that_are_put_together_only_the_one_at_fault_is_left_out(
    apart: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadlog.engine.domain.store_limits.ITEM_KEY_BYTES", 10**9)
    engine = await apart.engine()
    ops = [{"key": key, "value": {"n": 1}} for key in ("a", NAME, "b")]
    (event,) = (await engine.submit(WriteItems(namespace=["n"], ops=ops))).events
    assert event["type"] == "store.items_put"
    assert [row["key"] for row in await apart.rows("SELECT key FROM store_items ORDER BY key")] == ["a", "b"]
    (row,) = await skipped(apart.dsn)
    assert (row["type"], row["idx"]) == ("store.item_put", 1) and "index row" in row["error"]
    assert await apart.verify() == []


async def test_a_value_that_is_not_there_holds_up_no_other(harness: EngineHarness) -> None:
    engine = await harness.engine()
    run, other = create_run(thread_in(P)), create_run(thread_in(P))
    await engine.submit(run)
    await engine.submit(other)
    item = {"kind": "checkpoint", "checkpoint_id": new_id(), "blobs": [{"h": "h", "t": "msgpack", "at": 10**12}]}
    report = ReportRun(thread_id=run.thread_id, run_id=run.run_id, attempt=1, items=[item])
    await harness.append(report)
    await harness.append(finish(other.thread_id, other.run_id))
    await harness.until("SELECT count(*) = 1 FROM runs WHERE status = 'success'")
    assert await harness.verify() == []


async def test_what_a_takeover_cannot_project_is_left_out_too(harness: EngineHarness) -> None:
    """As after a restore of the log alone: what one engine has left out the next one does not stop at."""
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    bad = {"type": "assistant.created", "assistant_id": thread_in(P), "graph_id": "g", "name": NAME}
    thread_id = thread_in(P)
    good = {"type": "thread.created", "thread_id": thread_id}
    for n, (key, event) in enumerate([(bad["assistant_id"], bad), (thread_id, good)]):
        record = EventRecord(epoch=0, cmd_off=n, cmd_id=f"c{n}", key=key, at=at, events=[event], after=n - 1)
        await harness.log.append([Append(Topic.EVENTS, P, key, record.encode())])
        await harness.log.append([Append(Topic.COMMANDS, P, key, b"")])
    await harness.engine()
    assert [str(row["thread_id"]) for row in await harness.rows("SELECT thread_id FROM threads")] == [thread_id]
    assert [row["type"] for row in await skipped(harness.dsn)] == ["assistant.created"]
    assert await harness.verify() == []


async def test_in_one_transaction_it_is_refused_and_not_left_out(
    embedded: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadlog.engine.domain.limits.INDEXED_BYTES", 10**9)
    engine = await embedded.engine()
    assistant = CreateAssistant(assistant_id=thread_in(P), graph_id="g", name=NAME)
    thread = create_thread(thread_in(P))
    answers = await asyncio.gather(engine.submit(assistant), engine.submit(thread))
    assert answers[0].events[0]["code"] == "invalid" and "can't be stored" in answers[0].events[0]["detail"]
    assert answers[1].events[0]["type"] == "thread.created"
    await embedded.append(CreateAssistant(assistant_id=thread_in(P), graph_id="g", name=NAME))  # through the log
    await embedded.append(create_run(thread.thread_id))
    await embedded.until("SELECT count(*) = 1 FROM runs")
    assert others(engine).count("command.rejected") == 2
    assert await embedded.verify() == [] == await skipped(embedded.dsn)


# --- what nobody has thought of --------------------------------------------------------------------------------------


async def test_a_command_that_makes_the_engine_fail_is_found_and_refused(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, other = create_thread(thread_in(P)), create_thread(thread_in(P))
    decides = Term.decide

    def decide(self: Term, offset: int, envelope: CommandEnvelope) -> EventRecord | None:
        if envelope.key == victim.thread_id and not isinstance(envelope, RefusedEnvelope):
            raise RuntimeError("a bug of ours")
        return decides(self, offset, envelope)

    monkeypatch.setattr(Term, "decide", decide)
    engine = await harness.engine()
    answers = await asyncio.gather(engine.submit(victim), engine.submit(other))
    assert answers[0].events[0]["code"] == "invalid" and "a bug of ours" in answers[0].events[0]["detail"]
    assert answers[1].events[0]["type"] == "thread.created"
    assert await harness.verify() == []


async def test_a_failing_commit_of_one_command_holds_up_no_other(
    embedded: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(SingleTransactionCommitter):
        async def write(self, conn: Any, appends: Any, expected: Any, batches: Any) -> Appended:
            if any(b"poison" in append.value for append in appends):
                raise RuntimeError("a bug of ours")
            return await super().write(conn, appends, expected, batches)

    monkeypatch.setattr("threadlog.deploy.compose.engine.SingleTransactionCommitter", Fails)
    engine = await embedded.engine()
    bad, good = create_thread(metadata={"a": "poison"}), [create_thread() for _ in range(20)]
    answers = await asyncio.gather(*(engine.submit(thread) for thread in [*good[:10], bad, *good[10:]]))
    assert [answer.events[0]["type"] for answer in answers].count("thread.created") == 20
    assert "a bug of ours" in answers[10].events[0]["detail"]
    assert len(await embedded.rows("SELECT FROM threads")) == 20
    assert await embedded.verify() == []


def test_the_poison_is_in_the_partition_it_is_appended_to() -> None:
    assert partition_of(thread_in(P), PARTITIONS) == P and key_of(create_thread(thread_in(P)))
