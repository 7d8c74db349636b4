"""One term of one partition: what it decides, when, and what it hands to the projection."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.domain.scenario import R1, R2, T, at, checkpoint, create, report
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import Command, CreateThread, DeleteThread, UpdateThread
from threadlog.engine.domain.keyed_request import keyed_command_id
from threadlog.engine.log.records import CommandEnvelope, EventRecord, partition_of
from threadlog.engine.processor.ports import Fenced, Position
from threadlog.engine.processor.term import Term, envelope_of

U = "00000000-0000-4000-8000-0000000000ab"
START = Position(partition=3, epoch=7, log_epoch=0, ev_off=-1, cmd_off=-1)


def envelope(command: Command, id: str = "c") -> CommandEnvelope:
    return CommandEnvelope.of(command, id=id, key=decider.key_of(command), at=at(1))


def fresh(position: Position = START, **options: Any) -> Term:
    """A term that has read back nothing but its own announcement."""
    term = Term(position, at=at(0), **options)
    assert term.read_back(position.ev_off + 1, term.announcement)
    return term


def decide(term: Term, offset: int, command: Command | CommandEnvelope, id: str | None = None) -> EventRecord:
    said = command if isinstance(command, CommandEnvelope) else envelope(command, id or f"c{offset}")
    for key in term.missing([said.key]):
        term.provide(key, None)
    record = term.decide(offset, said)
    assert record is not None
    return record


def types(record: EventRecord) -> list[str]:
    return [event["type"] for event in record.events]


# --- taking over -----------------------------------------------------------------------------------------------------


def test_a_term_announces_itself_and_may_then_decide() -> None:
    term = Term(START, at=at(0))
    assert term.announcement == EventRecord(epoch=7, cmd_off=-1, cmd_id="", key="", at=at(0), start=True)
    assert not term.ready and term.read_from == 0
    with pytest.raises(RuntimeError, match="announcement"):
        term.decide(0, envelope(CreateThread(thread_id=T)))
    assert term.read_back(0, term.announcement) and term.ready
    batch = term.batch()
    assert batch is not None and batch.records == []
    assert (batch.partition, batch.epoch, batch.ev_off, batch.cmd_off, batch.log_epoch) == (3, 7, 0, -1, 7)


def test_the_record_says_who_wanted_its_command() -> None:
    record = decide(fresh(), 0, replace(envelope(CreateThread(thread_id=T)), actor="user:ann"))
    assert record.actor == "user:ann"
    assert EventRecord.decode(record.encode()).actor == "user:ann"


def test_a_record_has_its_commands_trace_which_is_never_a_reason_to_refuse() -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01 vendor=1"
    term = fresh()
    record = decide(term, 0, replace(envelope(CreateThread(thread_id=T)), trace=trace))
    assert EventRecord.decode(record.encode()).trace == record.trace == trace
    assert b"trace" not in decide(fresh(), 0, CreateThread(thread_id=T)).encode(), (
        "it costs nothing where there is none"
    )
    for n, bad in enumerate((7, ["a"], "a" * 569), 1):
        sent = orjson.loads(envelope(UpdateThread(thread_id=T, metadata={"n": n}), id=f"c{n}").encode()) | {
            "trace": bad
        }
        record = decide(term, n, envelope_of(orjson.dumps(sent), T))
        assert types(record) == ["thread.updated"] and record.trace is None


def test_what_the_former_term_left_is_read_back_folded_and_projected() -> None:
    former = fresh(Position(3, 5, 0, -1, -1))
    first, second = decide(former, 0, CreateThread(thread_id=T)), decide(former, 1, create(R1))
    zombie = EventRecord(epoch=4, cmd_off=0, cmd_id="z", key=T, at=at(0), events=[{"type": "thread.deleted"}], after=-1)

    term = Term(Position(partition=3, epoch=7, log_epoch=5, ev_off=0, cmd_off=-1), at=at(0))
    for offset, record in ((1, zombie), (2, first), (4, second), (5, second)):
        assert not term.read_back(offset, record)
    assert term.read_back(9, term.announcement)
    assert term.decided == 1 and term.needed() == [T]
    with pytest.raises(RuntimeError, match="needed"):
        term.batch()
    term.provide(T, None)
    batch = term.batch()
    assert batch is not None
    assert [(a.offset, a.record) for a in batch.records] == [(2, first), (4, second)]
    assert (batch.ev_off, batch.cmd_off, batch.log_epoch) == (9, 1, 7)
    # Going on is as if there had been one term.
    assert types(decide(term, 2, report(R1, status="success"))) == ["run.succeeded", "thread.status_changed"]


def test_a_piece_is_projected_before_the_announcement_is_reached() -> None:
    former = fresh(Position(3, 5, 0, -1, -1))
    first, second = decide(former, 0, CreateThread(thread_id=T)), decide(former, 1, create(R1))
    other = decide(former, 2, CreateThread(thread_id=U))

    term = Term(Position(partition=3, epoch=7, log_epoch=5, ev_off=0, cmd_off=-1), at=at(0), max_keys=1)
    assert not term.read_back(1, first)
    assert not term.read_back(2, EventRecord(5, 1, "c1", U, at(2), other.events, after=0))
    for key in term.needed():
        term.provide(key, None)
    piece = term.batch()
    assert piece is not None and not term.ready
    # Nothing of the own epoch: whoever goes on from here still has to drop what older terms than the announced append.
    assert (piece.epoch, piece.ev_off, piece.cmd_off, piece.log_epoch) == (7, 2, 1, 5)
    term.projected(piece)
    stored = {accepted.record.key: accepted.state for accepted in piece.records}

    assert not term.read_back(4, EventRecord(5, 2, "c2", T, at(3), second.events, after=1))
    assert term.needed() == [T], "not kept in memory, as it is projected"
    term.provide(T, stored[T])
    assert term.read_back(5, term.announcement)
    rest = term.batch()
    assert rest is not None and [accepted.offset for accepted in rest.records] == [4]
    assert rest.records[0].state is not None and rest.records[0].state["thread"]["slot"]["run_id"] == R1
    assert (rest.ev_off, rest.cmd_off, rest.log_epoch) == (5, 2, 7)


def test_a_read_back_may_be_projected_in_parts() -> None:
    former = fresh(Position(3, 5, 0, -1, -1))
    records = [decide(former, 0, CreateThread(thread_id=T)), decide(former, 1, create(R1)),
               decide(former, 2, DeleteThread(thread_id=T))]  # fmt: skip
    term = Term(Position(partition=3, epoch=7, log_epoch=5, ev_off=0, cmd_off=-1))
    for offset, record in enumerate(records, start=1):
        term.read_back(offset, record)
    term.read_back(4, term.announcement)
    term.provide(T, None)
    seen = []
    while batch := term.batch(1):
        state = batch.records[0].state if batch.records else None
        seen.append(
            (batch.ev_off, batch.cmd_off, batch.log_epoch, state and state["thread"].get("slot", {}).get("run_id"))
        )
        term.projected(batch)
    # Each part carries the state as of its own last record, not the newest.
    assert seen == [(1, 0, 5, None), (2, 1, 5, R1), (3, 2, 5, None), (4, 2, 7, None)]


def test_a_newer_terms_announcement_ends_this_one() -> None:
    newer = EventRecord(epoch=8, cmd_off=-1, cmd_id="", key="", at="", start=True)
    term = Term(START)
    with pytest.raises(Fenced):
        term.read_back(0, newer)
    term = fresh()
    with pytest.raises(Fenced) as caught:
        term.observed(1, newer)
    assert caught.value.partitions == (3,) and term.dead
    for call in (term.batch, lambda: term.decide(0, envelope(CreateThread(thread_id=T)))):
        with pytest.raises(Fenced):
            call()


def test_observing_own_and_old_records_is_nothing_special() -> None:
    term = fresh()
    term.observed(0, term.announcement)
    term.observed(1, EventRecord(epoch=6, cmd_off=-1, cmd_id="", key="", at="", start=True))
    assert not term.dead


# --- deciding --------------------------------------------------------------------------------------------------------


def test_records_name_their_command_and_predecessor() -> None:
    term = fresh(Position(partition=3, epoch=7, log_epoch=5, ev_off=10, cmd_off=20))
    first, second = decide(term, 21, CreateThread(thread_id=T)), decide(term, 25, create(R1))
    assert (first.epoch, first.cmd_off, first.after, first.cmd_id, first.key, first.at) == (7, 21, 20, "c21", T, at(1))
    assert (second.cmd_off, second.after) == (25, 21)


def test_what_has_been_decided_is_skipped() -> None:
    term = fresh(Position(partition=3, epoch=7, log_epoch=5, ev_off=10, cmd_off=20))
    assert term.decide(20, envelope(CreateThread(thread_id=T))) is None
    decide(term, 21, CreateThread(thread_id=T))
    assert term.decide(21, envelope(CreateThread(thread_id=T))) is None


def test_a_state_must_be_provided_first() -> None:
    term = fresh()
    assert term.missing([T, U, T]) == [T, U]
    with pytest.raises(KeyError):
        term.decide(0, envelope(CreateThread(thread_id=T)))


def test_a_stored_state_is_taken_up_once() -> None:
    stored = {"thread": {"exists": True}}
    term = fresh()
    term.provide(T, stored)
    assert types(decide(term, 0, DeleteThread(thread_id=T))) == ["thread.deleted"]
    term.provide(T, stored)  # late and old: ignored
    assert types(decide(term, 1, DeleteThread(thread_id=T))) == ["command.rejected"]


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (CommandEnvelope(id="c", type="thread.paint", key=T, at=at(1), body={}), "thread.paint: the command's type"),
        (CommandEnvelope(id="c", type="thread.create", key=T, at=at(1), body={}), "thread_id"),
        (CommandEnvelope(id="c", type="thread.create", key="t", at=at(1), body={"thread_id": "t"}), "must be a UUID"),
        (CommandEnvelope(id="c", type="thread.create", key=U, at=at(1), body={"thread_id": T}), "envelope's key"),
        (CommandEnvelope(id="c", type="thread.create", key=T, at="noon", body={"thread_id": T}), "time in UTC"),
        (envelope_of(b"not JSON", T), "it is not a command"),
        (envelope_of(b"[]", T), "it is not a command"),
        (envelope_of(b'{"id": "", "type": "t", "key": "", "at": "", "body": {}, "actor": 1}', T), "its actor is not"),
        (
            envelope_of(b'{"id": "", "type": "t", "key": "", "at": "", "body": {}, "actor": "%b"}' % (b"a" * 601), T),
            "its actor is not",
        ),
        (envelope_of(b'{"id": 1, "type": "thread.create", "key": 2, "at": 3, "body": 4}', T), "wrong type"),
        (envelope_of(b'{"colour": "blue"}', T), "it is not a command"),
    ],
)
def test_what_cannot_be_understood_is_rejected_and_does_not_stop_the_partition(
    said: CommandEnvelope, detail: str
) -> None:
    term = fresh()
    record = decide(term, 0, said)
    (event,) = record.events
    assert (event["type"], event["code"]) == ("command.rejected", "invalid") and detail in event["detail"]
    assert types(decide(term, 1, CreateThread(thread_id=T))) == ["thread.created"]


def test_a_malformed_item_ends_the_run() -> None:
    term = fresh()
    decide(term, 0, create(R1, create_thread={}))
    record = decide(term, 1, report(R1, items=[checkpoint(), {"kind": "checkpoint"}], status="success"))
    assert types(record) == ["run.failed", "thread.status_changed"]
    assert types(decide(term, 2, report(R1, status="success"))) == ["report.fenced"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'"a\\u0000b"', "a\ufffdb"),
        (b'"\\u0000\\u0000"', "\ufffd\ufffd"),
        (b'"\\\\u0000"', "\\u0000"),  # a backslash, then text
        (b'"\\\\\\u0000"', "\\\ufffd"),  # a backslash, then NUL
    ],
)
def test_nul_characters_are_replaced_before_they_reach_the_database(sent: bytes, kept: str) -> None:
    value = b'{"id":"c","type":"thread.update","key":"k","at":"","body":{"x":' + sent + b"}}"
    assert envelope_of(value, "k").body == {"x": kept}


def test_a_good_envelope_is_decoded_as_it_is() -> None:
    said = envelope(UpdateThread(thread_id=T, metadata={"a": "ü"}))
    assert envelope_of(said.encode(), "ignored") == said


# --- acknowledged and projected --------------------------------------------------------------------------------------


def test_only_acknowledged_records_are_projected_and_the_last_state_of_a_key_is_enough() -> None:
    term = fresh()
    records = [decide(term, 0, CreateThread(thread_id=T)), decide(term, 1, create(R1)),
               decide(term, 2, CreateThread(thread_id=T))]  # fmt: skip
    assert term.unacked == 3
    term.projected(term.batch())  # type: ignore[arg-type]
    assert term.batch() is None
    for offset, record in zip((1, 3, 4), records, strict=True):
        term.acked(offset, record)
    batch = term.batch()
    assert batch is not None and term.batch() == batch, "repeatable until projected"
    assert [a.offset for a in batch.records] == [1, 3, 4]
    stored = [a.state for a in batch.records]
    assert stored[0] is None and stored[2] is None, "superseded; changed nothing"
    assert stored[1] is not None and stored[1]["thread"]["slot"]["run_id"] == R1
    assert (batch.ev_off, batch.cmd_off) == (4, 2)
    term.projected(batch)
    assert term.unprojected == 0 and term.batch() is None


def test_acknowledgements_come_in_order() -> None:
    term = fresh()
    first, second = decide(term, 0, CreateThread(thread_id=T)), decide(term, 1, create(R1))
    with pytest.raises(RuntimeError, match="order"):
        term.acked(1, second)
    term.acked(5, first)
    with pytest.raises(Fenced):  # a later record before an earlier one in the log: others read another order
        term.acked(4, second)
    assert term.dead


def test_states_in_memory_are_bounded_but_never_those_not_yet_projected() -> None:
    keys = [f"00000000-0000-4000-8000-{n:012d}" for n in range(6)]
    term = fresh(max_keys=2)
    records = [decide(term, i, CreateThread(thread_id=key)) for i, key in enumerate(keys)]
    assert term.missing(keys) == []
    for offset, record in enumerate(records[:4], start=1):
        term.acked(offset, record)
    batch = term.batch()
    assert batch is not None
    term.projected(batch)
    assert term.missing(keys) == keys[:4], "the two that await their ack are kept"
    term.provide(keys[0], batch.records[0].state)
    assert types(decide(term, 6, CreateThread(thread_id=keys[0]))) == ["command.rejected"]


def test_what_was_rolled_back_is_decided_anew() -> None:
    term = fresh()
    term.projected(term.batch())  # type: ignore[arg-type]
    kept = decide(term, 0, CreateThread(thread_id=T))
    term.acked(1, kept)
    term.projected(term.batch())  # type: ignore[arg-type]
    lost = [decide(term, 1, create(R1)), decide(term, 2, DeleteThread(thread_id=T))]
    term.acked(2, lost[0])
    term.retract()
    assert term.decided == 0 and term.unacked == 0 and term.batch() is None
    again = decide(term, 1, create(R1))
    assert again == lost[0]
    term.acked(2, again)
    batch = term.batch()
    assert batch is not None and batch.ev_off == 2


def test_the_take_over_cannot_be_retracted() -> None:
    term = Term(Position(partition=3, epoch=7, log_epoch=5, ev_off=0, cmd_off=-1))
    former = decide(fresh(Position(3, 5, 0, -1, -1)), 0, CreateThread(thread_id=T))
    term.read_back(1, former)
    term.read_back(2, term.announcement)
    with pytest.raises(RuntimeError, match="read back"):
        term.retract()


# --- stages that fail ------------------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def raw(type_: str, of: str, body: dict[str, Any], **fields: Any) -> bytes:
    said = {"id": "c", "type": type_, "key": of, "at": at(1), "body": body, **fields}
    return json.dumps(said).encode()


def test_what_can_be_read_and_not_written_is_refused() -> None:
    """JSON of 254 levels and more: an event stands a level deeper than what its command says."""
    term = fresh()
    value = raw("thread.create", T, {"thread_id": T, "metadata": {"deep": nested(253)}})
    record = decide(term, 0, envelope_of(value, T))
    assert types(record) == ["command.rejected"] and "JSON" in record.events[0]["detail"]
    assert types(decide(term, 1, CreateThread(thread_id=T))) == ["thread.created"]


def running(term: Term) -> None:
    decide(term, 0, CreateThread(thread_id=T))
    assert "run.scheduled" in types(decide(term, 1, create(R1)))


@pytest.mark.parametrize(
    "said",
    [
        {"outcome": {"status": "odd"}},
        {"items": [7]},
        {"items": [{"kind": "checkpoint", "checkpoint_id": "c", "metadata": {"deep": nested(300)}}]},
        {"outcome": {"status": "error", "error": {"error": "E", "message": "m", "deep": nested(300)}}},
        {"outcome": {"status": "success", "frames": 2**40}},
        {"items": [{"kind": "checkpoint", "checkpoint_id": "c", "blobs": [{"h": "h" * 65, "t": "t", "d": ""}]}]},
        {"items": [{"kind": "checkpoint", "checkpoint_id": "c", "blobs": [7]}]},
        {"items": [{"kind": "writes", "checkpoint_id": "c", "task_id": "t", "writes": [[2**40, "c", {}]]}]},
    ],
)
def test_a_report_that_cannot_be_taken_ends_its_run(said: dict[str, Any]) -> None:
    term = fresh()
    running(term)
    body = {"thread_id": T, "run_id": R1, "attempt": 1, **said}
    record = decide(term, 2, envelope_of(raw("run.report", T, body), T))
    assert types(record) == ["run.failed", "thread.status_changed"]
    assert record.events[0]["error"]["error"] == "InvalidReport"
    assert "run.scheduled" in types(decide(term, 3, create(R2))), "the thread goes on"


def test_such_a_report_of_another_attempt_changes_nothing() -> None:
    term = fresh()
    running(term)
    for n, attempt in enumerate((0, 2, 2**63, "1", None, [1]), start=2):
        body = {"thread_id": T, "run_id": R1, "attempt": attempt, "outcome": {"status": "odd"}, "items": [7]}
        assert types(decide(term, n, envelope_of(raw("run.report", T, body), T))) in (
            ["command.rejected"],
            ["report.fenced"],
        )
    body = {"thread_id": T, "run_id": R1, "attempt": 1, "outcome": {"status": "odd"}}
    late = decide(term, 9, envelope_of(raw("run.report", T, body, at="noon"), T))
    assert types(late) == ["command.rejected"], "what ends a run has a time"


def test_a_command_in_a_partition_that_is_not_its_keys_is_refused() -> None:
    value = raw("thread.create", T, {"thread_id": T})
    own = partition_of(T, 16)
    assert envelope_of(value, T, (own, 16)).body == {"thread_id": T}
    elsewhere = envelope_of(value, T, ((own + 1) % 16, 16))
    record = decide(fresh(), 0, elsewhere)
    assert types(record) == ["command.rejected"] and "partition" in record.events[0]["detail"]


@pytest.mark.parametrize("field", ["id", "type", "key", "at"])
def test_what_is_told_back_is_short(field: str) -> None:
    value = raw("thread.create", T, {"thread_id": T}, **{field: "x" * 100_000})
    record = decide(fresh(), 0, envelope_of(value, "k" * 100_000))
    assert types(record) == ["command.rejected"] and len(record.encode()) < 2000


def test_a_command_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threadlog.engine.domain.limits.MESSAGE_BYTES", 40_000)
    term = fresh()
    large = raw("thread.create", T, {"thread_id": T, "metadata": {"a": "x" * 40_000}})
    assert types(decide(term, 0, envelope_of(large, T))) == ["command.rejected"]
    fits = raw("thread.create", T, {"thread_id": T, "metadata": {"a": "x" * 39_700}})
    assert len(fits) <= 40_000 and types(decide(term, 1, envelope_of(fits, T))) == ["thread.created"]
    # What it is decided to is a little longer than it.
    left = 40_000 - len(raw("thread.update", T, {"thread_id": T, "metadata": {"a": ""}}, id="d"))
    grows = raw("thread.update", T, {"thread_id": T, "metadata": {"a": "x" * left}}, id="d")
    refused = decide(term, 2, envelope_of(grows, T))
    assert types(refused) == ["command.rejected"] and "larger" in refused.events[0]["detail"]


def test_metadata_of_too_many_keys_is_refused() -> None:
    body = {"thread_id": T, "metadata": {str(n): n for n in range(20_000)}}
    record = decide(fresh(), 0, envelope_of(raw("thread.create", T, body), T))
    assert types(record) == ["command.rejected"] and "`metadata` has more than" in record.events[0]["detail"]


def test_even_a_refusal_that_fails_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **names: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("threadlog.engine.domain.decider.decide", fails)
    monkeypatch.setattr("threadlog.engine.domain.decider.refuse", fails)
    term = fresh()
    record = decide(term, 0, CreateThread(thread_id=T))
    assert types(record) == ["command.rejected"]
    monkeypatch.undo()
    assert types(decide(term, 1, CreateThread(thread_id=T))) == ["thread.created"]


# --- commands of keyed requests --------------------------------------------------------------------------------------


def keyed(n: int) -> CommandEnvelope:
    return envelope(UpdateThread(thread_id=T), keyed_command_id(f"r{n}", 9, "thread.update"))


def test_what_an_aggregate_has_forgotten_is_known_until_it_is_projected_and_doubted_from_then_on() -> None:
    term = fresh()
    decide(term, 0, CreateThread(thread_id=T))
    records = [decide(term, 1 + n, keyed(n)) for n in range(decider.RECENT_KEYED + 1)]
    assert term.doubted([keyed(0), keyed(99)]) == [keyed(99).id], "the first is not projected yet"
    assert types(decide(term, 100, keyed(0))) == ["command.repeated"]
    for offset, entry in enumerate(list(term._in_flight), 1):
        assert entry.record is not None
        term.acked(offset, entry.record)
    batch = term.batch()
    assert batch is not None
    term.projected(batch)
    assert records[0].events[0]["type"] == "thread.updated"
    assert term.doubted([keyed(0), keyed(99), envelope(UpdateThread(thread_id=T))]) == [keyed(0).id, keyed(99).id]
    term.recognise([keyed(0).id])
    assert types(decide(term, 101, keyed(0))) == ["command.repeated"]
    assert types(decide(term, 102, keyed(99))) == ["thread.updated"]


def test_nothing_is_doubted_that_the_aggregate_would_remember() -> None:
    term = fresh()
    decide(term, 0, CreateThread(thread_id=T))
    for n in range(10):
        decide(term, 1 + n, keyed(n))
    assert term.doubted([keyed(n) for n in range(10, decider.RECENT_KEYED)]) == []
    assert len(term.doubted([keyed(n) for n in range(10, decider.RECENT_KEYED + 1)])) == decider.RECENT_KEYED - 9
