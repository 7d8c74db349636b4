"""given / when / then for one aggregate: `given(events).when(command).then(events)`, to be continued with `.when`."""

from __future__ import annotations

from typing import Any

from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import Command, CreateRun, ReportRun
from threadlog.engine.domain.decider import States
from threadlog.engine.domain.events import (
    CommandRejected,
    Event,
    RunCreated,
    RunScheduled,
    ThreadCreated,
    ThreadStatusChanged,
)
from threadlog.engine.domain.thread import Thread

T = "00000000-0000-4000-8000-0000000000aa"
R1, R2, R3, R4 = (f"00000000-0000-4000-8000-00000000000{n}" for n in range(1, 5))


def at(second: int) -> str:
    return f"2026-11-21T10:00:{second:02d}.000000+00:00"


class Scenario:
    """An aggregate, and what the last command was decided to. Command ids and times count up unless given."""

    def __init__(self, key: str, states: States = decider.EMPTY) -> None:
        self.key, self.states, self.count = key, states, 0
        self.events: list[Event] = []

    def when(self, command: Command, *, id: str | None = None, at_: str | None = None) -> Scenario:
        self.count += 1
        cmd_id, time = id or f"c{self.count}", at_ or at(self.count)
        self.events = decider.decide(self.states, self.key, command, cmd_id=cmd_id, at=time)
        self.states = decider.fold(self.states, self.key, cmd_id, time, self.events)
        return self

    def then(self, *events: Event) -> Scenario:
        assert self.events == list(events), "\n".join(map(str, self.events))
        return self

    def then_rejected(self, code: str, text: str) -> Scenario:
        (event,) = self.events
        assert isinstance(event, CommandRejected), event
        assert event.code == code and text in event.detail, event
        return self

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def thread(self) -> Thread:
        thread: Thread = self.states["thread"]
        return thread


def given(*events: Event, key: str = T) -> Scenario:
    """An aggregate to which this has happened (each event in a record of its own, at second 0)."""
    states = decider.EMPTY
    for i, event in enumerate(events):
        states = decider.fold(states, key, f"g{i}", at(0), [event])
    return Scenario(key, states)


def idle(**fields: Any) -> tuple[Event, ...]:
    """A thread without runs."""
    return (ThreadCreated(thread_id=T, **fields),)


def running(run_id: str = R1, attempt: int = 1, **fields: Any) -> tuple[Event, ...]:
    """A thread one run of which holds the slot."""
    return (
        *idle(),
        RunCreated(thread_id=T, run_id=run_id, graph_id="g", run={}, **fields),
        *(RunScheduled(thread_id=T, run_id=run_id, attempt=n) for n in range(1, attempt + 1)),
        ThreadStatusChanged(thread_id=T, status="busy"),
    )


def pending(run_id: str, **fields: Any) -> Event:
    """A run that waits behind another, or for its time."""
    return RunCreated(thread_id=T, run_id=run_id, graph_id="g", run={}, **fields)


def create(run_id: str = R1, **fields: Any) -> CreateRun:
    return CreateRun(thread_id=T, run_id=run_id, graph_id="g", run={}, **fields)


def report(run_id: str = R1, attempt: int = 1, *, started: Any = None, items: Any = (), **outcome: Any) -> ReportRun:
    """A report; with `status=…` and more it ends the attempt."""
    return ReportRun(
        thread_id=T, run_id=run_id, attempt=attempt, started=started, items=list(items), outcome=outcome or None
    )


def checkpoint(checkpoint_id: str = "cp1") -> dict[str, Any]:
    return {"kind": "checkpoint", "checkpoint_id": checkpoint_id}


def planned(*names: str, checkpoint_id: str = "cp1", ns: str = "") -> dict[str, Any]:
    return {"kind": "tasks", "ns": ns, "checkpoint_id": checkpoint_id, "tasks": [{"name": name} for name in names]}
