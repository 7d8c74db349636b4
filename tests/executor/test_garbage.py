"""What nodes had in their variables is freed when their attempt ends, however it ends."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually
from threadlog.engine.executor.garbage import Collector, clear_frames


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The collector runs when the executor says so, and not because of what else happens here."""
    gc.disable()
    yield
    gc.enable()


def large(harness: ExecutorHarness) -> Any:
    """The class of the large objects of nodes."""
    file = str(harness.folder / "endings.py")
    return next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == file).Large  # type: ignore[attr-defined]


def alive(harness: ExecutorHarness) -> Any:
    """Those that have not been freed."""
    return large(harness).alive


ENDS = [
    (graph, how)
    for graph in ("littering", "littering_async", "littering_below")
    for how in ("error", "handled error", "memory", "group", "interrupt")
]


@pytest.mark.parametrize(("graph", "how"), ENDS)
async def test_after_an_error_and_an_interrupt(
    harness: ExecutorHarness, serving, no_collection, graph: str, how: str
) -> None:
    executor = await serving(graph)
    run_id = await harness.enqueue(graph, {"items": [], "n": how})
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == ("success" if how == "interrupt" else "error")
    await eventually(lambda: not executor.attempts and not alive(harness))


async def test_after_a_cancel(harness: ExecutorHarness, serving, no_collection) -> None:
    executor = await serving("littering_async")
    run_id = await harness.enqueue("littering_async", {"items": [], "n": "wait"})
    await eventually(lambda: executor.attempts and alive(harness))
    await harness.cancel(run_id)
    assert (await harness.outcome(run_id))["status"] == "interrupted"
    await eventually(lambda: not alive(harness))


async def test_after_a_timeout(harness: ExecutorHarness, serving, no_collection) -> None:
    await serving("littering_async", timeout_seconds=0.3)
    run_id = await harness.enqueue("littering_async", {"items": [], "n": "wait"})
    assert (await harness.outcome(run_id))["status"] == "timeout"
    await eventually(lambda: not alive(harness))


async def test_what_another_thread_holds_a_moment_longer(harness: ExecutorHarness, serving, no_collection) -> None:
    """A node's thread refers to the exception it has handed over until it gets its next turn."""
    collections: list[str] = []

    def collected(phase: str, info: dict[str, int]) -> None:
        collections.append(phase)

    executor = await serving("littering")
    gc.callbacks.append(collected)
    try:
        run_id = await harness.enqueue("littering", {"items": [], "n": "held interrupt"})
        assert (await harness.outcome(run_id))["status"] == "success"
        await eventually(lambda: not executor.attempts and "stop" in collections)
        assert alive(harness), "held"
        large(harness).let_go.set()
        await eventually(lambda: not alive(harness))
    finally:
        gc.callbacks.remove(collected)


class Timer:
    def __init__(self, loop: ByHand, at: float, call: Any) -> None:
        self.loop, self.at, self.call = loop, at, call

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.loop.due.remove(self)


class ByHand:
    """A loop, a process and a clock that move when told to."""

    def __init__(self) -> None:
        self.now, self.size, self.collected, self.trimmed = 100.0, 0, 0, 0
        self.due: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Any) -> Timer:
        self.due.append(timer := Timer(self, when, call))
        return timer

    def collect(self) -> None:
        self.collected += 1
        self.now += 0.01

    def trim(self) -> None:
        self.trimmed += 1

    def run(self, until: float) -> None:
        while due := [timer for timer in self.due if timer.at <= until]:
            timer = min(due, key=Timer.when)
            self.due.remove(timer)
            self.now = max(self.now, timer.at)
            timer.call()
        self.now = max(self.now, until)

    def collector(self) -> Collector:
        loop: Any = self
        return Collector(loop, collect=self.collect, resident=lambda: self.size, clock=self.time, trim=self.trim)


def test_many_failing_attempts_share_few_collections() -> None:
    loop = ByHand()
    collector = loop.collector()
    for _ in range(1000):
        collector.attempt_ended(cycles=True)
        loop.run(loop.now + 0.001)
    assert 3 <= loop.collected <= 7, "a twentieth of the second"
    assert not loop.trimmed, "it has not grown"


def test_growth_is_a_reason_once() -> None:
    loop = ByHand()
    collector = loop.collector()
    for step in range(10):
        loop.size += 30 * 1024 * 1024
        collector.attempt_ended(cycles=False)
        loop.run(loop.now + 2)
        assert loop.collected == loop.trimmed == (step + 1) // 3
    for _ in range(10):
        collector.attempt_ended(cycles=False)
        loop.run(loop.now + 2)
    assert loop.collected == 3


class Witness:
    """Something that cycles refer to, as they do to an attempt's saver."""


def test_the_collector_runs_again_until_what_an_attempt_left_is_gone() -> None:
    loop = ByHand()
    collector = loop.collector()
    witness = Witness()
    collector.attempt_ended(cycles=True, witness=witness)
    loop.run(loop.now)
    assert loop.collected == 1
    loop.run(loop.now + 1)
    assert loop.collected == 3
    del witness
    loop.run(loop.now + 3600)
    assert loop.collected == 4, "the one that frees it"


def test_it_runs_again_for_growth_too() -> None:
    loop = ByHand()
    collector = loop.collector()
    witness = Witness()
    loop.size += 100 * 1024 * 1024
    collector.attempt_ended(cycles=False, witness=witness)
    loop.run(loop.now)
    assert loop.collected == 1
    del witness
    loop.run(loop.now + 3600)
    assert loop.collected == 2


def test_what_user_code_keeps_is_not_looked_for_for_ever() -> None:
    loop = ByHand()
    collector = loop.collector()
    kept = [Witness() for _ in range(100)]
    for witness in kept:
        collector.attempt_ended(cycles=True, witness=witness)
    loop.run(loop.now + 3600)
    assert loop.collected == 6
    assert not loop.due


def test_a_new_attempt_does_not_wait_for_what_an_old_one_left() -> None:
    loop = ByHand()
    collector = loop.collector()
    witness = Witness()
    collector.attempt_ended(cycles=True, witness=witness)
    loop.run(loop.now + 10)  # the next look is many seconds away
    collected = loop.collected
    collector.attempt_ended(cycles=True)
    loop.run(loop.now)
    assert loop.collected == collected + 1


def test_frames_are_cleared_along_all_that_an_exception_came_from() -> None:
    first = ValueError("first")
    second = ValueError("second")
    first.__context__, second.__cause__ = second, first  # in a circle
    clear_frames(ExceptionGroup("both", [first, second]))
    clear_frames(None)
