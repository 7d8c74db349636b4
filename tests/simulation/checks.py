"""The invariants of the package's docstring, checked on a world that has come to rest."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import orjson

from tests.simulation import crons, keyed, store, webhooks
from tests.simulation.simulated_world import (
    ACTIVITY,
    FINAL,
    Partition,
    SimulatedWorld,
    Tables,
    unappendable,
    unprojectable,
)
from threadlog.engine.domain import decider, limits
from threadlog.engine.domain.decider import States
from threadlog.engine.domain.events import CommandRepeated, Event
from threadlog.engine.domain.keyed_request import KEYED
from threadlog.engine.domain.wire import command_from_wire, event_to_wire
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.records import CommandEnvelope, EventRecord, RefusedEnvelope
from threadlog.engine.processor.term import Term

_ORIGIN = {"history.imported"}
SILENT = {"command.rejected", "command.repeated", "report.fenced"}


def check(world: SimulatedWorld, terms: dict[int, Term]) -> tuple[int, int]:
    """Returns the number of firings of crons, and of keyed requests that were answered."""
    all_accepted = [record for p in world.partitions for record in accepted(p)]
    answered = 0 if world.keyed_clients is None else keyed.check(all_accepted, world.keyed_clients)
    for p in world.partitions:
        records = accepted(p)
        _decided_once(p, records)
        states = _reference(p, records)
        _read_models(p, records, states)
        _attempts(p, records)
        _endings(p, records)
        _repeats(p, records)
        _stops(p, records)
        _expiries(p, records)
        _at_rest(p, states)
        _left_out(p)
        if not any(record.imported for record in records):
            _items(p, records)
        webhooks.check(p.number, accepted_at(p), world.receivers.posts if world.receivers is not None else [])
    return crons.check(all_accepted), answered


def accepted(p: Partition) -> list[EventRecord]:
    """What every reader makes of the log."""
    return [record for _, record in accepted_at(p)]


def accepted_at(p: Partition) -> list[tuple[int, EventRecord]]:
    """The same, each with the number of records up to it."""
    rule = Acceptance()
    numbered = enumerate(((p.read_event(offset, value)) for offset, value in p.events), 1)
    return [(n, record) for n, record in numbered if record is not None and rule.accepts(record)]


def _decided_once(p: Partition, records: list[EventRecord]) -> None:
    offsets = [record.cmd_off for record in records]
    assert offsets == [offset for offset, _ in p.commands], f"I1: partition {p.number}: {offsets}"
    counted = [(record.epoch, record.cmd_off) for record in records]
    assert p.applied == counted, f"I2: partition {p.number} applied {p.applied}, accepted are {counted}"


def _reference(p: Partition, records: list[EventRecord]) -> dict[str, States]:
    """The commands, decided one after the other as if there were no log; what is kept per key afterwards."""
    states: dict[str, States] = {}
    by_key: set[str] = set()  # commands of requests with idempotency keys that have changed something
    for record, (_, envelope) in zip(records, p.commands, strict=True):
        before = states.get(envelope.key, decider.EMPTY)
        assert record.trace == envelope.trace, f"I4: {envelope}: decided in the trace {record.trace}"
        assert record.actor == envelope.actor, f"I4: {envelope}: decided for {record.actor}"
        if (refusal := _refusal(p, record, envelope, before)) is not None:
            wire = [event_to_wire(event) for event in refusal]
            shown = [{k: v for k, v in event.items() if k not in _SAYS_WHY} for event in record.events]
            wanted = [{k: v for k, v in event.items() if k not in _SAYS_WHY} for event in wire]
            assert shown == wanted, f"I12: {envelope}: {record.events} is no refusal"
            states[envelope.key] = decider.fold_wire(before, envelope.key, envelope.id, envelope.at, record.events)
            continue
        command = command_from_wire(envelope.type, envelope.body)
        events = decider.decide(before, envelope.key, command, cmd_id=envelope.id, at=envelope.at)
        if envelope.id in by_key and envelope.type != "history.import":
            events = [CommandRepeated()]
        wire = [event_to_wire(event) for event in events]
        assert record.events == wire, f"I4: {envelope}: {record.events} instead of {wire}"
        states[envelope.key] = decider.fold(before, envelope.key, envelope.id, envelope.at, events)
        if all(event["type"] in SILENT for event in wire):
            assert states[envelope.key] is before, f"I8: {envelope} changed something"
        elif envelope.id.startswith(KEYED) and any(event["type"] not in SILENT | _ORIGIN for event in wire):
            by_key.add(envelope.id)
    return states


_SAYS_WHY = ("detail", "error")


def _refusal(p: Partition, record: EventRecord, envelope: CommandEnvelope, before: States) -> list[Event] | None:
    """What a command comes to of which a stage has to fail: decoded, decided or written, then appended, then projected
    in one transaction with its append. None when it is in order, or refused for what is no fault of its own."""
    try:
        if type(envelope) is RefusedEnvelope:
            raise ValueError(envelope.reason)
        command = command_from_wire(envelope.type, envelope.body)
        limits.check_limits(command)
        events = decider.decide(before, envelope.key, command, cmd_id=envelope.id, at=envelope.at)
        wire = [event_to_wire(event) for event in events]
        orjson.dumps([[wire]])
        if any(map(unappendable, wire)) or (record.cmd_off in p.refused and any(map(unprojectable, wire))):
            raise ValueError("it can't be stored")
    except Exception as error:
        return decider.refuse(before, envelope.key, envelope.type, envelope.body, str(error), at=envelope.at)
    return None


def _left_out(p: Partition) -> None:
    """What can be decided and can't be projected is left out of the read models, and said to be, once."""
    bad = [record.cmd_off for record in accepted(p) if any(map(unprojectable, record.events))]
    assert p.skips == bad, f"I12: partition {p.number} left out {p.skips}, not {bad}"


def _read_models(p: Partition, records: list[EventRecord], states: dict[str, States]) -> None:
    rebuilt = Tables(silent=p.tables.silent)
    for record in records:
        rebuilt.apply(record, without=unprojectable)
    rebuilt.aggregates = {key: decider.dump(state) for key, state in states.items() if state is not decider.EMPTY}
    assert p.tables.aggregates == rebuilt.aggregates, f"I4: partition {p.number}: stored states"
    assert p.tables == rebuilt, f"I3: partition {p.number}: {p.tables} instead of {rebuilt}"


def _items(p: Partition, records: list[EventRecord]) -> None:
    wanted = store.expected((envelope for _, envelope in p.commands), records)
    assert p.tables.items == wanted, f"I14: partition {p.number} has {p.tables.items} instead of {wanted}"


def _attempts(p: Partition, records: list[EventRecord]) -> None:
    last: Counter[str] = Counter()
    open_: dict[str, tuple[str, int]] = {}  # thread -> the unfinished attempt
    for record, (_, envelope) in zip(records, p.commands, strict=True):
        reported = (envelope.body.get("run_id"), envelope.body.get("attempt"))
        if envelope.type == "run.report" and open_.get(record.key) != reported:
            kinds = {e["type"] for e in record.events}
            assert kinds <= SILENT, f"I8: {reported} is not the current attempt of {open_.get(record.key)}: {kinds}"
        for e in record.events:
            run_id: str = e.get("run_id") or e.get("job_id") or ""
            if e["type"] == "run.scheduled":
                assert record.key not in open_, f"I6: {e} while {open_[record.key]} is unfinished"
                assert e["attempt"] == last[run_id] + 1, f"I5: {e} after attempt {last[run_id]}"
                last[run_id] = e["attempt"]
                open_[record.key] = (run_id, e["attempt"])
            elif e["type"] == "thread.deleted" or (
                e["type"]
                in ("run.succeeded", "run.failed", "run.timed_out", "run.stopped", "run.released", "run.lease_expired",
                    "state.updated", "state.update_failed")
                and open_.get(record.key, ("",))[0] == run_id
            ):  # fmt: skip
                open_.pop(record.key, None)
    assert not open_, f"I9: unfinished attempts {open_}"


def _endings(p: Partition, records: list[EventRecord]) -> None:
    runs: dict[str, dict[str, Any]] = {}
    saved: Counter[str] = Counter()
    for record in records:
        for e in record.events:
            kind, run_id = e["type"], e.get("run_id", "")
            if kind == "run.created":
                runs[run_id] = {"thread": record.key, "ends": [], "gone": False}
            elif kind in FINAL or kind == "run.rolled_back":
                runs[run_id]["ends"].append(kind)
            elif kind == "run.deleted" and run_id in runs:
                runs[run_id]["gone"] = True
            elif kind == "run.started":
                assert not runs[run_id]["ends"], f"I7: {run_id} starts after its end"
            elif kind == "checkpoint.saved":
                saved[e["checkpoint_id"]] += 1
                if run_id:
                    rolled_back = "run.rolled_back" in runs[run_id]["ends"] or runs[run_id]["gone"]
                    assert not rolled_back, f"I8: {e} after the run was rolled back or deleted"
            elif kind == "thread.deleted":
                for run in runs.values():
                    run["gone"] |= run["thread"] == record.key
    for run_id, run in runs.items():
        assert len(run["ends"]) <= 1, f"I7: {run_id} ended as {run['ends']}"
        assert run["ends"] or run["gone"], f"I7: {run_id} has not ended"
    twice = [checkpoint_id for checkpoint_id, n in saved.items() if n > 1]
    assert not twice, f"I8: saved twice: {twice}"


def _stops(p: Partition, records: list[EventRecord]) -> None:
    """Whose last attempt was cancelled, and by what, as the accepted log tells it."""
    reasons: dict[str, str | None] = {}
    for record in records:
        for e in record.events:
            if e["type"] == "run.interrupted" and e.get("stopping"):
                assert e.get("cancel_reason") is None or e.get("tasks_error"), f"I13: {e}"
                reasons[record.key] = e.get("cancel_reason")
            elif e["type"] in ("thread.created", "run.succeeded", "run.failed", "run.timed_out", "state.updated"):
                reasons[record.key] = None
    for thread_id, row in p.tables.threads.items():
        error = row["error"] or {}
        reason = error.get("message") if error.get("error") == "UserInterrupt" else None
        assert reason == reasons[thread_id], f"I13: {thread_id} has {error}, stopped by {reasons[thread_id]}"


_OVER = {"run.succeeded", "run.failed", "run.timed_out", "run.stopped", "state.updated", "state.update_failed"}
_STOPPED = {"run.interrupted", "run.rolled_back", "run.deleted"}


def _expiries(p: Partition, records: list[EventRecord]) -> None:
    """What was in flight on a thread, and when something happened on it last, as the accepted log tells it."""
    in_flight: dict[str, set[str]] = {}
    since: dict[str, str] = {}
    ttls: dict[str, dict[str, Any] | None] = {}
    for record in records:
        key = record.key
        for e in record.events:
            kind, run_id = e["type"], e.get("run_id") or e.get("job_id") or ""
            if kind == "thread.created":
                in_flight[key], since[key], ttls[key] = set(), record.at, e.get("ttl")
            elif kind == "thread.updated":
                if ttls[key] is None:  # its clock begins now: this time may be behind that of a run that has just ended
                    since[key] = record.at
                ttls[key] = e.get("ttl") or ttls[key]
            elif kind in ("run.created", "state.update_requested"):
                in_flight[key].add(run_id)
            elif kind in _OVER or (kind in _STOPPED and not e.get("stopping")):
                in_flight[key].discard(run_id)
            elif kind == "thread.expired":
                ttl = ttls[key]
                assert not in_flight[key], f"I16: {key} expires with {in_flight[key]} in flight"
                assert ttl is not None and e["ttl"] == ttl, f"I16: {key} with {ttl}: {e}"
                idle = datetime.fromisoformat(record.at) - datetime.fromisoformat(since[key])
                assert idle >= timedelta(minutes=ttl["ttl"]), f"I16: {key} expires after {idle}, not {ttl}"
                kinds = {other["type"] for other in record.events}
                assert {"delete": "thread.deleted", "keep_latest": "thread.pruned"}[ttl["strategy"]] in kinds, "I16"
            if kind in ACTIVITY:
                since[key] = max(since[key], record.at)


def expired(world: SimulatedWorld) -> int:
    return sum(e["type"] == "thread.expired" for p in world.partitions for r in accepted(p) for e in r.events)


def too_early(world: SimulatedWorld) -> int:
    commands = {(p.number, offset): c.type for p in world.partitions for offset, c in p.commands}
    return sum(
        commands[p.number, record.cmd_off] == "thread.expire" and record.events[0]["type"] == "command.rejected"
        for p in world.partitions
        for record in accepted(p)
        if record.events
    )


def _repeats(p: Partition, records: list[EventRecord]) -> None:
    effects = (r.cmd_id for r in records if any(e["type"] not in SILENT | _ORIGIN for e in r.events))
    changing = Counter(id for id in effects if not id.startswith(KEYED))  # of those I18 says it
    twice = [id for id, n in changing.items() if n > 1]
    assert not twice, f"I10: {twice} took effect twice"


def _at_rest(p: Partition, states: dict[str, States]) -> None:
    for key, kept in states.items():
        thread = kept.get("thread")
        if thread is not None:
            assert thread.slot is None and not thread.queue, f"I9: {thread}"
            if thread.exists:
                assert p.tables.threads[key]["status"] == thread.status, f"I9: {key} is {p.tables.threads[key]}"
