"""Whatever is asked of an aggregate in whatever order: it decides, keeps its shape, and can be stored and rebuilt."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain import samples
from tests.domain.samples import IDS, TIMES
from threadlog.engine.domain import decider
from threadlog.engine.domain.cancelling import is_interrupt
from threadlog.engine.domain.commands import (
    COMMANDS,
    CRON_COMMANDS,
    AnswerRequest,
    BeginRequest,
    CancelRun,
    Command,
    CreateAssistant,
    CreateRun,
    CreateThread,
    DeleteAssistant,
    DeleteRun,
    DeleteThread,
    ExpireItems,
    ExpireLease,
    ExpireThread,
    ImportCheckpoints,
    PruneThread,
    RegisterGraph,
    ReportRun,
    ReportWebhook,
    RunDue,
    SetLatestAssistant,
    TouchItems,
    UpdateAssistant,
    UpdateCron,
    UpdateState,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.domain.decider import EMPTY, States
from threadlog.engine.domain.events import Event
from threadlog.engine.domain.thread import Thread
from threadlog.engine.domain.wire import event_from_wire, event_to_wire

KEY = IDS[0]
ENDS = {"run.succeeded", "run.failed", "run.timed_out", "run.interrupted", "run.rolled_back", "run.deleted"}

_run_ids = st.sampled_from(IDS[1:])
_attempts = st.integers(1, 4)
_items = st.lists(
    st.sampled_from(
        [
            {"kind": "checkpoint", "checkpoint_id": "a"},
            {"kind": "tasks", "checkpoint_id": "a", "tasks": [{"name": "n"}]},
            {"kind": "tasks", "checkpoint_id": "a", "tasks": []},
            {"kind": "writes", "checkpoint_id": "a", "task_id": "t"},
            {"kind": "delete", "what": "prune"},
        ]
    ),
    max_size=3,
)
_outcomes = st.none() | st.fixed_dictionaries(
    {"status": st.sampled_from(["success", "success", "error", "timeout", "interrupted", "released"])},
    optional={"next": st.lists(st.just("n"), max_size=1), "interrupts": st.sampled_from([{}, {"t": [{"id": "i"}]}])},
)

_store_ops = st.one_of(
    st.fixed_dictionaries({"key": samples.texts, "delete": st.just(True)}),
    st.fixed_dictionaries(
        {"key": samples.texts, "value": samples.objects},
        optional={"ttl": st.floats(0.1, 9), "vectors": st.just([["text", "AACAPw=="]])},
    ),
)
_ttls = st.fixed_dictionaries({
    "strategy": st.sampled_from(["delete", "keep_latest"]), "ttl": st.sampled_from([0.05, 0.2, 1])
})  # fmt: skip

_keyed_use = {"fingerprint": st.sampled_from("ab"), "begun_at": st.sampled_from(TIMES)}
thread_commands = st.one_of(
    samples.of(CreateThread, thread_id=st.just(KEY)),
    samples.of(CreateThread, thread_id=st.just(KEY), ttl=_ttls),
    samples.of(UpdateThread, thread_id=st.just(KEY)),
    samples.of(UpdateThread, thread_id=st.just(KEY), ttl=_ttls),
    samples.of(ExpireThread, thread_id=st.just(KEY)),
    samples.of(DeleteThread, thread_id=st.just(KEY)),
    samples.of(PruneThread, thread_id=st.just(KEY)),
    samples.of(ImportCheckpoints, thread_id=st.just(KEY), items=_items),
    samples.of(CreateRun, thread_id=st.just(KEY), run_id=_run_ids),
    samples.of(CreateRun, thread_id=st.just(KEY), run_id=_run_ids, create_thread=st.just({}), due_at=st.none()),
    samples.of(
        CreateRun, thread_id=st.just(KEY), run_id=_run_ids, create_thread=st.just({}), due_at=st.none(),
        run=st.just({"kwargs": {"webhook": "https://example.org/hook"}}),
    ),
    samples.of(ReportWebhook, thread_id=st.just(KEY), run_id=_run_ids, attempt=_attempts),
    samples.of(CancelRun, thread_id=st.just(KEY), run_id=_run_ids),
    samples.of(DeleteRun, thread_id=st.just(KEY), run_id=_run_ids),
    samples.of(RunDue, thread_id=st.just(KEY), run_id=_run_ids),
    samples.of(ExpireLease, thread_id=st.just(KEY), run_id=_run_ids, attempt=_attempts),
    samples.of(UpdateState, thread_id=st.just(KEY), job_id=_run_ids),
    st.builds(
        ReportRun, thread_id=st.just(KEY), run_id=_run_ids, attempt=_attempts, items=_items, outcome=_outcomes,
        started=st.sampled_from([None, {"executor": "x", "at": TIMES[0]}]),
    ),
)  # fmt: skip
other_commands = st.one_of(
    *(samples.of(c, assistant_id=st.just(KEY))
      for c in (CreateAssistant, UpdateAssistant, SetLatestAssistant, DeleteAssistant)),
    samples.of(RegisterGraph, graph_id=st.just("g")),
    samples.of(WriteItems, namespace=st.just(["n"]), ops=st.lists(_store_ops, max_size=3)),
    samples.of(TouchItems, namespace=st.just(["n"])),
    samples.of(ExpireItems, namespace=st.just(["n"])),
    *(samples.of(c, cron_id=st.just(KEY)) for c in CRON_COMMANDS if c is not UpdateCron),
    samples.of(BeginRequest, request_id=st.just(KEY), **_keyed_use),
    samples.of(AnswerRequest, request_id=st.just(KEY), **_keyed_use),
    samples.of(UpdateCron, cron_id=st.just(KEY), version=st.integers(0, 3), clears=st.just(["end_time"])),
)  # fmt: skip
steps = st.tuples(thread_commands, st.sampled_from(TIMES), st.integers(0, 40))


class _Twin:
    """One aggregate twice: as it is kept live, and rebuilt from the wire form after being stored and loaded."""

    def __init__(self) -> None:
        self.live: States = EMPTY
        self.rebuilt: States = EMPTY

    def decide(self, command: Command, at: str, id: int) -> list[Event]:
        key = decider.key_of(command)
        events = decider.decide(self.live, key, command, cmd_id=f"c{id}", at=at)
        assert events == decider.decide(self.rebuilt, key, command, cmd_id=f"c{id}", at=at)
        wire = json.loads(json.dumps([event_to_wire(event) for event in events]))
        self.live = decider.fold(self.live, key, f"c{id}", at, events)
        stored = json.loads(json.dumps(decider.dump(self.rebuilt)))
        loaded = decider.load(key, stored)
        self.rebuilt = decider.fold(loaded, key, f"c{id}", at, [event_from_wire(w) for w in wire])
        assert self.live == self.rebuilt == decider.fold_wire(loaded, key, f"c{id}", at, wire)
        return events


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=40))
def test_a_thread_keeps_its_shape_whatever_is_asked_of_it(asked: list[tuple[Command, str, int]]) -> None:
    twin = _Twin()
    in_flight: set[str] = set()
    attempts: dict[str, int] = {}
    for command, at, id in asked:
        for event in twin.decide(command, at, id):
            _follow(event, in_flight, attempts)
        thread: Thread | None = twin.live.get("thread")
        if thread is not None:
            _shape(thread, in_flight)


def _follow(event: Event, in_flight: set[str], attempts: dict[str, int]) -> None:
    """Runs are created once, end once, and are attempted 1, 2, 3 …"""
    run_id: Any = getattr(event, "run_id", None) or getattr(event, "job_id", None)
    if event.type == "run.created":
        assert run_id not in in_flight
        in_flight.add(run_id)
        attempts.pop(run_id, None)
    elif event.type == "run.scheduled":
        assert event.attempt == attempts.get(run_id, 0) + 1  # type: ignore[attr-defined]
        attempts[run_id] = event.attempt  # type: ignore[attr-defined]
    elif event.type in ENDS - {"run.deleted"}:
        assert run_id in in_flight, f"{run_id} ends twice"
        in_flight.discard(run_id)
    elif event.type == "run.deleted":
        in_flight.discard(run_id)
    elif event.type == "thread.deleted":
        in_flight.clear()
        attempts.clear()
    elif event.type in ("state.updated", "state.update_failed"):
        attempts.pop(run_id, None)


def _shape(thread: Thread, in_flight: set[str]) -> None:
    waiting = [w.run_id for w in thread.queue]
    slot = thread.slot
    assert len(set(waiting)) == len(waiting)
    assert slot is None or slot.run_id not in waiting
    assert slot is not None or not any(w.ready for w in thread.queue), "a free slot leaves nobody waiting"
    assert thread.exists or (slot is None and not waiting)
    assert [w.due for w in thread.queue] == sorted(w.due for w in thread.queue)
    runs = {w.run_id for w in thread.queue if w.kind == "run"}
    if slot is not None and slot.kind == "run" and slot.stopping is None:
        runs.add(slot.run_id)
    assert runs == in_flight
    assert thread.error is None or thread.status == "error" or is_interrupt(thread.error)


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=40))
def test_clients_see_busy_exactly_while_runs_are_in_flight(asked: list[tuple[Command, str, int]]) -> None:
    twin = _Twin()
    shown = "idle"
    for command, at, id in asked:
        for event in twin.decide(command, at, id):
            if event.type == "thread.created" or event.type == "thread.status_changed":
                shown = event.status  # type: ignore[attr-defined]
        thread: Thread | None = twin.live.get("thread")
        if thread is not None and thread.exists:
            assert (shown == "busy") == thread.busy
            assert shown in ("busy", thread.status)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(other_commands, st.sampled_from(TIMES), st.integers(0, 20)), max_size=20))
def test_assistants_graphs_and_crons_are_rebuilt_as_they_are(asked: list[tuple[Command, str, int]]) -> None:
    twins: dict[str, _Twin] = {}
    for command, at, id in asked:
        twins.setdefault(decider.key_of(command), _Twin()).decide(command, at, id)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(COMMANDS)).flatmap(lambda type_: samples.of(COMMANDS[type_])))
def test_a_refusal_changes_nothing(command: Command) -> None:
    key = decider.key_of(command)
    if command.type in ("run.report", "checkpoints.import", "store.write", "history.import"):
        return  # malformed items raise; see the reports' tests
    events = decider.decide(EMPTY, key, command, cmd_id="c", at=TIMES[0])
    states = decider.fold(EMPTY, key, "c", TIMES[0], events)
    refused = all(event.type in ("command.rejected", "report.fenced") for event in events)
    assert (states is EMPTY) == refused


def test_every_command_finds_its_decider() -> None:
    assert {decider.aggregate_of(type_).name for type_ in COMMANDS} == {
        "thread",
        "assistant",
        "graph",
        "store",
        "cron",
        "request",
        "history",
    }
