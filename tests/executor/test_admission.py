"""Which attempts make room for others to begin: those that have ended, and those that are no short ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from threadlog.engine.executor.admission import AT_MOST, AT_MOST_AFTER_LONG_ONES, SHORT_TICKS, AdmissionControl


@dataclass
class ByHand:
    """A loop whose timers a test lets come."""

    timers: list[Callable[[], None]] = field(default_factory=list)

    def call_later(self, seconds: float, call: Callable[[], None]) -> object:
        self.timers.append(call)
        return object()

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            assert len(self.timers) == 1
            self.timers.pop()()


@dataclass(eq=False)
class Attempt:
    working: bool = True
    settled: bool = False

    def settle(self) -> None:
        self.settled = True


@pytest.fixture
def loop() -> ByHand:
    return ByHand()


@pytest.fixture
def changes() -> list[int]:
    return []


@pytest.fixture
def admission(loop: ByHand, changes: list[int]) -> AdmissionControl:
    return AdmissionControl(cast(Any, loop), lambda: changes.append(1))


def begin(admission: AdmissionControl, count: int | None = None) -> list[Attempt]:
    attempts = [Attempt() for _ in range(admission.free if count is None else count)]
    for attempt in attempts:
        admission.enter(attempt)
    return attempts


def test_only_so_many_short_ones_work_side_by_side(
    loop: ByHand, admission: AdmissionControl, changes: list[int]
) -> None:
    attempts = begin(admission)
    loop.tick(SHORT_TICKS - 1)
    assert (admission.free, changes) == (0, [])
    for _ in range(2):  # the second time it is not known any more
        admission.leave(attempts[0])
        assert (admission.free, changes) == (1, [1])


def test_those_that_are_no_short_ones_are_told_and_make_room(
    loop: ByHand, admission: AdmissionControl, changes: list[int]
) -> None:
    old = begin(admission, 3)
    loop.tick()
    young = begin(admission, AT_MOST - 3)
    loop.tick(SHORT_TICKS - 1)
    assert [attempt.settled for attempt in old + young] == [True] * 3 + [False] * (AT_MOST - 3)
    assert (admission.free, changes) == (6, [1])  # theirs, and three more
    loop.tick()
    assert all(attempt.settled for attempt in young)
    assert (admission.free, changes) == (2 * AT_MOST, [1, 1])


def test_while_none_is_a_short_one_twice_as_many_begin_each_time(loop: ByHand, admission: AdmissionControl) -> None:
    side_by_side = []
    for _ in range(5):
        side_by_side.append(len(begin(admission)))
        loop.tick(SHORT_TICKS)
    assert side_by_side == [8, 16, 32, 64, AT_MOST_AFTER_LONG_ONES]


@pytest.mark.parametrize("reported", [False, True])
def test_after_a_short_one_few_work_side_by_side_again(
    loop: ByHand, admission: AdmissionControl, reported: bool
) -> None:
    begin(admission)
    loop.tick(SHORT_TICKS)
    attempts = begin(admission)
    assert len(attempts) == 2 * AT_MOST
    attempts[0].working = False
    if reported:
        admission.leave(attempts[0])
    else:
        loop.tick()
    assert admission.free == AT_MOST - (2 * AT_MOST - 1)


def test_what_only_has_to_be_reported_makes_room_and_is_a_short_one(
    loop: ByHand, admission: AdmissionControl, changes: list[int]
) -> None:
    attempts = begin(admission)
    attempts[0].working = False
    loop.tick()
    assert (admission.free, changes, attempts[0].settled) == (1, [1], False)


def test_no_time_is_kept_while_there_are_none(loop: ByHand, admission: AdmissionControl) -> None:
    (attempt,) = begin(admission, 1)
    admission.leave(attempt)
    loop.tick()
    assert loop.timers == []
    begin(admission, 1)
    loop.tick(SHORT_TICKS)
    assert loop.timers == []
