"""Frames are held back until the end of the run before them is known, but not for ever."""

from __future__ import annotations

from threadlog.api.events.run_order import RunOrder
from threadlog.engine.log.records import END, Frames


def frames(run_id: str, size: int = 1) -> Frames:
    return Frames(run_id, "t", 1, 0, [(b"values", b"x" * size)])


def mark(run_id: str) -> Frames:
    return Frames(run_id, "t", 0, 0, [(END, b"null")])


class Order:
    """The order under test, and which runs have no end yet."""

    def __init__(self, *open: str) -> None:
        self.open = set(open)
        self.order = RunOrder(self.open.__contains__, max_bytes=100)

    def passed(self, offset: int, batch: Frames) -> list[int]:
        return [offset for offset, _ in self.order.passed(offset, batch)]

    def ended(self, run_id: str) -> list[int]:
        self.open.discard(run_id)
        return [offset for offset, _ in self.order.released()]


def test_the_frames_of_a_run_wait_for_the_end_of_the_one_before() -> None:
    order = Order("a", "b")
    assert order.passed(1, frames("a")) == [1]
    assert order.passed(2, frames("b")) == [] and order.passed(3, frames("b")) == []
    assert order.ended("a") == [2, 3]
    assert order.passed(4, frames("b")) == [4]


def test_what_is_known_to_be_over_is_not_waited_for() -> None:
    order = Order()
    assert [order.passed(n, frames(run_id)) for n, run_id in enumerate("abab")] == [[0], [1], [2], [3]]


def test_a_mark_passes_between_frames_and_what_follows_waits_for_its_end() -> None:
    order = Order("a", "queued")
    assert order.passed(1, frames("a")) == [1]
    assert order.passed(2, mark("queued")) == [2]
    assert order.passed(3, frames("a")) == []
    assert order.ended("queued") == [3]


def test_little_is_held_back_and_not_for_long() -> None:
    order = Order("a", "b")
    order.passed(1, frames("a"))
    assert order.passed(2, frames("b", size=60)) == []
    assert order.passed(3, frames("b", size=60)) == [2, 3]


async def test_an_end_that_never_comes_is_given_up() -> None:
    order = Order("a", "b")
    order.passed(1, frames("a"))
    assert order.order.seconds_to_wait(9.0, 1.0) == 9.0
    order.passed(2, frames("b"))
    assert order.order.given_up() == []
    assert 0 < order.order.seconds_to_wait(9.0, 1.0) <= 1.0
    order.order._give_up_at = 0.0
    assert [offset for offset, _ in order.order.given_up()] == [2]
    assert order.order.seconds_to_wait(9.0, 1.0) == 9.0
