"""Node threads make way for the loop: until it is idle, not for ever, and not for one that user code blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from tests.waiting import eventually
from threadlog.engine.executor.loop_yield import LoopYield


class ByHand:
    """A loop whose turns a test runs, and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.knocked = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        self.knocked.set()

    def turn(self, seconds: float) -> None:
        """Run what is due; other callbacks of this turn take so long."""
        due, self._callbacks = self._callbacks, []
        for callback in due:
            callback()
        self.now += seconds


@pytest.fixture
def loop() -> ByHand:
    return ByHand()


@pytest.fixture
def precedence(loop: ByHand) -> LoopYield:
    return LoopYield(cast(Any, loop), lambda: loop.now, blocked_seconds=30.0)


@contextmanager
def node(work: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(10)
    assert not thread.is_alive()


def test_a_thread_waits_until_the_loop_has_nothing_left_to_do(loop: ByHand, precedence: LoopYield) -> None:
    with node(precedence.make_way) as thread:
        assert loop.knocked.wait(10)
        loop.turn(0.0005)
        loop.turn(0.0005)
        loop.turn(0.00001)
        assert thread.is_alive()
        loop.turn(0)


def test_a_loop_that_is_never_idle_does_not_keep_threads_for_ever(loop: ByHand, precedence: LoopYield) -> None:
    with node(precedence.make_way):
        assert loop.knocked.wait(10)
        for _ in range(6):
            loop.turn(0.001)


def test_having_made_way_a_thread_goes_on_for_a_while(loop: ByHand, precedence: LoopYield) -> None:
    with node(precedence.make_way):
        assert loop.knocked.wait(10)
        loop.turn(0)
        loop.turn(0)
    loop.knocked.clear()
    loop.now += 0.0005
    precedence.make_way()  # would not return if it had to wait
    assert not loop.knocked.is_set()
    with node(lambda: precedence.make_way(at_once=True)):
        assert loop.knocked.wait(10)
        loop.turn(0)
        loop.turn(0)
    loop.knocked.clear()
    loop.now += 0.002
    with node(precedence.make_way):
        assert loop.knocked.wait(10)
        loop.turn(0)
        loop.turn(0)


def test_a_second_thread_waits_with_the_first(loop: ByHand, precedence: LoopYield) -> None:
    with node(precedence.make_way) as first:
        assert loop.knocked.wait(10)
        with node(precedence.make_way) as second:
            loop.turn(0.0005)
            assert first.is_alive() and second.is_alive()
            loop.turn(0)
            loop.turn(0)


def test_a_loop_that_user_code_blocks_holds_up_nobody(loop: ByHand) -> None:
    precedence = LoopYield(cast(Any, loop), lambda: loop.now, blocked_seconds=0.001)
    precedence.make_way()
    loop.knocked.clear()
    precedence.make_way()
    assert not loop.knocked.is_set(), "it has just been found blocked"


async def test_the_loop_passes_threads_that_stream_without_a_pause() -> None:
    loop = asyncio.get_running_loop()
    precedence, stop = LoopYield(loop), threading.Event()
    made_way = [0] * 4

    def stream(number: int) -> None:
        while not stop.is_set():
            made_way[number] += 1
            precedence.make_way()

    threads = [threading.Thread(target=stream, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            await asyncio.sleep(0)
        await eventually(lambda: all(count > 1 for count in made_way), says=lambda: made_way)
    finally:
        stop.set()
        await asyncio.to_thread(lambda: [thread.join(10) for thread in threads])
    assert not any(thread.is_alive() for thread in threads)
