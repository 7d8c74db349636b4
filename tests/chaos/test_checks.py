"""The checks after a chaos run find what they are there to find: one sound account, and every way to spoil it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from langgraph_sdk.schema import StreamPart

from tests.chaos import checks
from tests.chaos.history import Event, Run, Stay, Told
from tests.chaos.load import Seen
from threadlog.engine.log.history import LoggedEvent
from threadlog.engine.log.records import EventRecord

FIRST: list[Event] = [(1, 0, n) for n in range(3)]  # of an attempt that was killed in its second step
LAST: list[Event] = [(2, 1, n) for n in range(3)]


@dataclass
class Account:
    """What `Load` and the log say of one thread with two runs, the first of them made in two attempts."""

    told: Told = field(default_factory=Told)
    stays: list[Stay] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    accepted: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, Any]] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def streams(self) -> list[Seen]:
        return [self.seen]

    @property
    def run(self) -> Run:
        return self.told.runs["a"]

    def problems(self) -> list[str]:
        stays = {"t": self.stays}
        found: Iterator[str]
        problems = []
        for found in (
            checks.ends(self.told, self),  # type: ignore[arg-type]
            checks.one_at_a_time(stays),
            checks.streams(self.told, stays, self),  # type: ignore[arg-type]
            checks.answers(self.told, self),  # type: ignore[arg-type]
            checks._thread(list(self.told.runs.values()), self.updates, self.history),
        ):
            problems += found
        return problems


def checkpoint(step: int, *steps: str) -> dict[str, Any]:
    return {
        "checkpoint": {"checkpoint_id": f"c{step}"},
        "parent_checkpoint": {"checkpoint_id": f"c{step - 1}"} if step >= 0 else None,
        "metadata": {"step": step},
        "values": {"steps": list(steps)},
        "next": [],
    }


def custom(event: Event, number: int) -> StreamPart:
    attempt, step, n = event
    return StreamPart("custom", {"attempt": attempt, "step": step, "event": n}, f"{number}")  # type: ignore[arg-type]


@pytest.fixture
def account() -> Account:
    a = Run("a", "t", "talk", 2, False, False, [1, 2], ["run.succeeded"], lost=1, shown=[*FIRST, *LAST])
    b = Run("b", "t", "walk", 1, False, False, [1], ["run.interrupted"])
    values = {"steps": ["a:0", "a:1"]}
    parts = [custom(event, number) for number, event in enumerate([*FIRST, *LAST])]
    return Account(
        Told({"a": a, "b": b}),
        [
            Stay("a", 1, 100, 0, 10, [*FIRST, (1, 1, 0)]),
            Stay("a", 2, 200, 20, 30, list(LAST)),
            Stay("b", 1, 200, 40, 50),
        ],
        Seen("a", [*parts, StreamPart("values", values, "9")]),  # type: ignore[arg-type]
        {"a": "/threads/t/runs/stream"},
        [("a", values)],
        ["update-1"],
        [
            checkpoint(2, "a:0", "a:1", "update-1:0"),
            checkpoint(1, "a:0", "a:1"),
            checkpoint(0, "a:0"),
            checkpoint(-1),
        ],
    )


def spoiled(spoil: Callable[[Account], object], expected: str) -> Any:
    return pytest.param(spoil, expected, id=expected)


def pop(parts: list[StreamPart], index: int) -> None:
    del parts[index]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        spoiled(lambda a: a.accepted.update(c="/runs"), "is not in the log"),
        spoiled(lambda a: a.run.ends.clear(), "ended 0 times"),
        spoiled(lambda a: a.run.ends.append("run.failed"), "ended 2 times"),
        spoiled(lambda a: a.run.attempts.append(2), "had the attempts"),
        spoiled(lambda a: setattr(a.run, "ends", ["run.failed"]), "run.failed after 1 lost attempts"),
        spoiled(lambda a: setattr(a.stays[0], "end", 25), "ran at the same time"),
        spoiled(lambda a: a.stays.append(replace(a.stays[2], pid=300, begin=60, end=70)), "one attempt in two"),
        spoiled(lambda a: pop(a.seen.parts, 4), "saw of attempt 2"),
        spoiled(lambda a: pop(a.seen.parts, 5), "saw of attempt 2"),
        spoiled(lambda a: pop(a.seen.parts, 2), "in the log are"),
        spoiled(lambda a: pop(a.seen.parts, 1), "saw of attempt 1"),
        spoiled(lambda a: a.seen.parts.insert(2, custom(LAST[0], 99)), "mixed"),
        spoiled(lambda a: a.seen.parts.insert(0, custom((3, 0, 0), 99)), "mixed"),
        spoiled(lambda a: a.seen.parts.append(custom((3, 0, 0), 99)), "which did nothing"),
        spoiled(lambda a: a.seen.parts.append(StreamPart("metadata", {}, "5")), "an event id twice"),
        spoiled(lambda a: pop(a.seen.parts, -1), "got None"),
        spoiled(lambda a: a.answers.append(("a", {"steps": ["a:0"]})), "whoever waited"),
        spoiled(lambda a: a.history.pop(1), "step 2 follows step 0"),
        spoiled(lambda a: a.history[0].update(parent_checkpoint=None), "the parent of step 2"),
        spoiled(lambda a: a.history.pop(), "the first checkpoint has a parent"),
        spoiled(lambda a: a.history[1]["values"].update(steps=["a:1"]), "the one before"),
        spoiled(lambda a: a.history[0]["values"]["steps"].insert(1, "a:0"), "with the steps [0, 0, 1]"),
        spoiled(lambda a: a.history[0]["values"]["steps"].pop(0), "with the steps [1]"),
        spoiled(lambda a: a.history[0]["values"]["steps"].append("a:2"), "runs are mixed"),
        spoiled(lambda a: a.history[0]["values"]["steps"].append("b:1"), "ended (run.interrupted)"),
        spoiled(lambda a: a.updates.append("update-2"), "the answered state update update-2"),
    ],
)
def test_what_is_wrong_is_found(account: Account, spoil: Callable[[Account], object], expected: str) -> None:
    assert account.problems() == []
    spoil(account)
    assert any(expected in problem for problem in account.problems()), account.problems()


def test_what_a_rolled_back_run_left_is_found(account: Account) -> None:
    account.told.runs["b"].ends = ["run.rolled_back"]
    assert account.problems() == []
    account.history[0]["values"]["steps"].append("b:0")
    assert any("was rolled back and left" in problem for problem in account.problems())


def question(*log: str) -> Told:
    """What a thread's log tells: `ask a` and `answer b` create runs, `end b` is the success of one."""
    told = Told()
    for offset, (what, run_id) in enumerate(line.split() for line in log):
        event: dict[str, Any] = {"type": "run.succeeded", "thread_id": "t", "run_id": run_id}
        if what != "end":
            command = {"resume": "yes"} if what == "answer" else None
            metadata = {"graph": "question", "steps": 2 if command else 1}
            event |= {"type": "run.created", "run": {"metadata": metadata, "kwargs": {"command": command}}}
        told.add(LoggedEvent(0, offset, 0, EventRecord(1, offset, f"c{offset}", "t", "", [event])))
    return told


@pytest.mark.parametrize(
    ("log", "steps"),
    [
        (["ask a", "end a", "answer b", "end b"], {"a": 1, "b": 2}),
        (["ask a", "end a", "answer b", "answer c", "end b", "end c"], {"a": 1, "b": 2, "c": 0}),
        # The api was killed with the reply in its hands, and took longer to come back than the run took (seed 20).
        (["ask a", "end a", "answer b", "end b", "answer c", "end c"], {"a": 1, "b": 2, "c": 0}),
        (["ask a", "end a", "answer b", "end b", "answer c", "end c", "answer d"], {"a": 1, "b": 2, "c": 0, "d": 0}),
        (["ask a", "end a", "answer b", "end b", "ask c", "end c", "answer d"], {"a": 1, "b": 2, "c": 1, "d": 2}),
    ],
    ids=["once", "again meanwhile", "again afterwards", "twice again", "the next question's"],
)
def test_an_answer_given_again_has_nothing_left_to_do(log: list[str], steps: dict[str, int]) -> None:
    told = question(*log)
    assert {run.run_id: run.steps for run in told.runs.values()} == steps
