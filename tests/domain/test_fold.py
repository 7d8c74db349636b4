"""Folding records as they are on the wire: the same as folding their events."""

from __future__ import annotations

from typing import Any

import pytest

from tests.domain.scenario import R1, T, at, create
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import CreateThread, ReportRun
from threadlog.engine.domain.decider import EMPTY, RECENT_COMMANDS, States
from threadlog.engine.domain.wire import event_from_wire, event_to_wire

SAVED = {"type": "checkpoint.saved", "thread_id": T, "run_id": R1, "checkpoint_id": "c1", "channels": {"x": {"h": "y"}}}
STARTED = {"type": "run.started", "thread_id": T, "run_id": R1, "attempt": 1, "executor": "e", "at": at(2)}
WROTE = {"type": "writes.saved", "thread_id": T, "run_id": R1, "checkpoint_id": "c1", "task_id": "t", "writes": []}
RENAMED = {"type": "thread.updated", "thread_id": T, "metadata": {"a": 1}}
PRUNED = {"type": "thread.pruned", "thread_id": T}
LOST = {"type": "checkpoints.deleted", "thread_id": T, "run_ids": [R1]}
RELEASED = {"type": "run.released", "thread_id": T, "run_id": R1, "attempt": 1}
REPEATED = {"type": "command.repeated"}
REJECTED = {"type": "command.rejected", "code": "conflict", "detail": "no"}
FENCED = {"type": "report.fenced", "thread_id": T, "run_id": R1, "attempt": 2}


@pytest.fixture
def states() -> States:
    """A thread whose run is in flight."""
    events = decider.decide(EMPTY, T, CreateThread(thread_id=T), cmd_id="c0", at=at(0))
    before = decider.fold(EMPTY, T, "c0", at(0), events)
    return decider.fold(before, T, "c1", at(1), decider.decide(before, T, create(R1), cmd_id="c1", at=at(1)))


RECORDS: dict[str, list[dict[str, Any]]] = {
    "a checkpoint": [SAVED],
    "a checkpoint among others": [STARTED, SAVED, WROTE],
    "started": [STARTED],
    "writes": [WROTE],
    "metadata": [RENAMED],
    "pruned": [PRUNED],
    "lost checkpoints": [LOST],
    "released": [RELEASED],
    "several without a trace": [WROTE, RENAMED, PRUNED],
    "silent beside others": [FENCED, WROTE],
}


@pytest.mark.parametrize("wire", RECORDS.values(), ids=RECORDS.keys())
def test_it_is_what_folding_the_events_makes(states: States, wire: list[dict[str, Any]]) -> None:
    folded = decider.fold_wire(states, T, "c2", at(2), wire)
    assert folded == decider.fold(states, T, "c2", at(2), [event_from_wire(one) for one in wire])
    assert folded["thread"].recent[-1] == "c2", "the command is remembered though its events leave no trace"


@pytest.mark.parametrize("wire", [[], [REPEATED], [REJECTED], [FENCED], [REJECTED, REPEATED]])
def test_a_record_that_only_answers_leaves_the_very_same_states(states: States, wire: list[dict[str, Any]]) -> None:
    assert decider.fold_wire(states, T, "c2", at(2), wire) is states


def test_the_whole_life_of_a_run_comes_to_the_same(states: States) -> None:
    live = rebuilt = states
    for n in range(RECENT_COMMANDS + 2):
        items = [
            {"kind": "checkpoint", "checkpoint_id": f"c{n}"},
            {"kind": "tasks", "checkpoint_id": f"c{n}", "tasks": []},
        ]
        outcome = {"status": "success", "frames": 1} if n == RECENT_COMMANDS else None
        report = ReportRun(thread_id=T, run_id=R1, attempt=1, items=items, outcome=outcome)
        events = decider.decide(live, T, report, cmd_id=f"r{n}", at=at(3 + n))
        live = decider.fold(live, T, f"r{n}", at(3 + n), events)
        rebuilt = decider.fold_wire(rebuilt, T, f"r{n}", at(3 + n), [event_to_wire(event) for event in events])
        assert live == rebuilt
    assert live["thread"].slot is None and len(live["thread"].recent) == RECENT_COMMANDS


def test_an_event_nobody_knows_is_not_passed_over(states: States) -> None:
    with pytest.raises(KeyError):
        decider.fold_wire(states, T, "c2", at(2), [STARTED, {"type": "thread.sold", "thread_id": T}])
