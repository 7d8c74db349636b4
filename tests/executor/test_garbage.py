"""What nodes had in their variables is freed when their attempt ends, however it ends."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.executor.stage import Stage, eventually
from threadlog.engine.executor.garbage import Collector, clear_frames


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The collector runs when the executor says so, and not because of what else happens here."""
    gc.disable()
    yield
    gc.enable()


def alive(stage: Stage) -> Any:
    """The large objects of nodes that have not been freed."""
    file = str(stage.folder / "graphs.py")
    return next(module for module in sys.modules.values() if getattr(module, "__file__", None) == file).Large.alive


ENDS = [
    (graph, how)
    for graph in ("littering", "littering_async", "littering_below")
    for how in ("error", "handled error", "memory", "group", "interrupt")
]


@pytest.mark.parametrize(("graph", "how"), ENDS)
async def test_after_an_error_and_an_interrupt(stage: Stage, serving, no_collection, graph: str, how: str) -> None:
    executor = await serving(graph)
    run_id = await stage.enqueue(graph, {"items": [], "n": how})
    outcome = await stage.outcome(run_id)
    assert outcome["status"] == ("success" if how == "interrupt" else "error")
    await eventually(lambda: not executor.attempts and not alive(stage))


async def test_after_a_cancel(stage: Stage, serving, no_collection) -> None:
    executor = await serving("littering_async")
    run_id = await stage.enqueue("littering_async", {"items": [], "n": "wait"})
    await eventually(lambda: executor.attempts and alive(stage))
    await stage.cancel(run_id)
    assert (await stage.outcome(run_id))["status"] == "interrupted"
    await eventually(lambda: not alive(stage))


async def test_after_a_timeout(stage: Stage, serving, no_collection) -> None:
    await serving("littering_async", timeout_seconds=0.3)
    run_id = await stage.enqueue("littering_async", {"items": [], "n": "wait"})
    assert (await stage.outcome(run_id))["status"] == "timeout"
    await eventually(lambda: not alive(stage))


class ByHand:
    """A loop, a process and a clock that move when told to."""

    def __init__(self) -> None:
        self.now, self.size, self.collected = 100.0, 0, 0
        self.due: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Any) -> Any:
        self.due.append((when, call))
        return call

    def collect(self) -> None:
        self.collected += 1
        self.now += 0.01

    def run(self, until: float) -> None:
        self.now = max(self.now, until)
        due, self.due = [d for d in self.due if d[0] <= until], [d for d in self.due if d[0] > until]
        for _, call in due:
            call()

    def collector(self) -> Collector:
        return Collector(self, collect=self.collect, resident=lambda: self.size, clock=self.time)  # type: ignore[arg-type]


def test_many_failing_attempts_share_few_collections() -> None:
    world = ByHand()
    collector = world.collector()
    for _ in range(1000):
        collector.attempt_ended(cycles=True)
        world.run(world.now + 0.001)
    assert 3 <= world.collected <= 7, "a twentieth of the second"


def test_growth_is_a_reason_once() -> None:
    world = ByHand()
    collector = world.collector()
    for step in range(10):
        world.size += 30 * 1024 * 1024
        collector.attempt_ended(cycles=False)
        world.run(world.now + 2)
        assert world.collected == (step + 1) // 3
    for _ in range(10):
        collector.attempt_ended(cycles=False)
        world.run(world.now + 2)
    assert world.collected == 3


def test_frames_are_cleared_along_all_that_an_exception_came_from() -> None:
    first = ValueError("first")
    second = ValueError("second")
    first.__context__, second.__cause__ = second, first  # in a circle
    clear_frames(ExceptionGroup("both", [first, second]))
    clear_frames(None)
