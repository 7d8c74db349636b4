"""Who makes room for others to begin: those that have ended, and those that wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from threadlog.engine.executor import admission
from threadlog.engine.executor.admission import AT_MOST, AdmissionControl


@dataclass
class Timer:
    at: float
    call: Callable[[], None]

    def when(self) -> float:
        return self.at


@dataclass
class ByHand:
    """A loop and its process, whose time and CPU a test lets pass."""

    now: float = 100.0
    used: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def cpu(self) -> float:
        return self.used

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, call)
        self.timers.append(timer)
        return timer

    def run(self, seconds: float, *, share: float) -> None:
        """So long, with this share of a core in use."""
        end = self.now + seconds
        while self.timers and self.timers[0].at <= end:
            timer = self.timers.pop(0)
            self.used += (timer.at - self.now) * share
            self.now = timer.at
            timer.call()
        self.used += (end - self.now) * share
        self.now = end


@dataclass(eq=False)
class Attempt:
    started: float
    progress: float
    working: bool = True
    settled: bool = False

    def settle(self) -> None:
        self.settled = True


@pytest.fixture
def loop() -> ByHand:
    return ByHand()


def begin(loop: ByHand, entered: AdmissionControl, count: int = AT_MOST) -> list[Attempt]:
    attempts = [Attempt(loop.now, loop.now) for _ in range(count)]
    for attempt in attempts:
        entered.enter(attempt)
    return attempts


def test_only_so_many_young_ones_work_side_by_side(loop: ByHand) -> None:
    changes: list[int] = []
    full = AdmissionControl(cast(Any, loop), lambda: changes.append(1), loop.cpu)
    attempts = begin(loop, full)
    assert full.free == 0
    loop.run(0.02, share=1)
    assert full.free == 0
    changes.clear()
    full.leave(attempts[0])
    assert full.free == 1 and changes
    full.leave(attempts[0])
    assert full.free == 1


def test_who_waits_makes_room_at_once_while_the_process_idles(loop: ByHand) -> None:
    full = AdmissionControl(cast(Any, loop), lambda: None, loop.cpu)
    attempts = begin(loop, full)
    loop.run(0.011, share=0.1)
    assert full.free == AT_MOST
    assert not any(attempt.settled for attempt in attempts)
    attempts[0].progress = loop.now
    loop.run(0.005, share=0.1)
    assert full.free == AT_MOST - 1


def test_who_has_not_moved_for_long_is_no_short_one(loop: ByHand) -> None:
    full = AdmissionControl(cast(Any, loop), lambda: None, loop.cpu)
    attempts = begin(loop, full)
    for _ in range(10):
        attempts[0].progress = loop.now
        loop.run(0.005, share=1)
    assert [attempt.settled for attempt in attempts] == [False, *[True] * (AT_MOST - 1)]
    assert full.free == AT_MOST - 1


def test_nobody_is_young_for_ever(loop: ByHand) -> None:
    full = AdmissionControl(cast(Any, loop), lambda: None, loop.cpu)
    (attempt,) = begin(loop, full, 1)
    while loop.now < 100 + admission._YOUNG_SECONDS - 0.01:
        attempt.progress = loop.now
        loop.run(0.005, share=1)
        assert not attempt.settled
    attempt.progress = loop.now
    loop.run(0.02, share=1)
    assert attempt.settled and full.free == AT_MOST


def test_what_has_stopped_working_makes_room_and_is_not_settled(loop: ByHand) -> None:
    full = AdmissionControl(cast(Any, loop), lambda: None, loop.cpu)
    attempts = begin(loop, full)
    attempts[0].working = False
    loop.run(0.006, share=1)
    assert full.free == 1 and not attempts[0].settled


def test_idleness_before_the_first_one_began_does_not_count(loop: ByHand) -> None:
    full = AdmissionControl(cast(Any, loop), lambda: None, loop.cpu)
    (first,) = begin(loop, full, 1)
    full.leave(first)
    loop.run(1, share=0)
    begin(loop, full)
    loop.run(0.009, share=1)
    assert full.free == 0
