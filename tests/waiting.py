"""Waits for conditions, never for time: probes until what it sees is so, and fails with what it saw last."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

WITHIN_SECONDS = 45.0  # far more than anything takes on a busy machine, less than the time-out of a test
PAUSE_SECONDS = 0.01


class NeverSo(AssertionError):
    """What was waited for did not come about in time."""


class _Wait:
    """The time-out of a wait, and the words in which it fails."""

    def __init__(self, probe: Callable[..., Any], within: float, says: Callable[[], object] | str | None) -> None:
        self._probe, self._within, self._says = probe, within, says
        self._deadline = time.monotonic() + within

    def check(self, seen: object) -> None:
        """Raises `NeverSo` if the time is up."""
        if time.monotonic() > self._deadline:
            says = self._says() if callable(self._says) else self._says
            raise NeverSo(f"not so within {self._within:g} s: {says or self._probe}; last seen: {seen!r}")


@overload
async def eventually(
    probe: Callable[[], Awaitable[T]],
    holds: Callable[[T], Any] = bool,
    *,
    within: float = WITHIN_SECONDS,
    says: Callable[[], object] | str | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> T: ...


@overload
async def eventually(
    probe: Callable[[], T],
    holds: Callable[[T], Any] = bool,
    *,
    within: float = WITHIN_SECONDS,
    says: Callable[[], object] | str | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> T: ...


async def eventually(
    probe: Callable[[], Any],
    holds: Callable[[Any], Any] = bool,
    *,
    within: float = WITHIN_SECONDS,
    says: Callable[[], object] | str | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> Any:
    """Returns the first result of `probe`, a function or coroutine function, for which `holds` is true.

    Exceptions of the types in `passing` count as not yet. Raises `NeverSo` after `within` seconds, with what `says`
    names or returns.
    """
    wait = _Wait(probe, within, says)
    while True:
        seen: object
        try:
            result = probe()
            value = await result if inspect.isawaitable(result) else result
            if holds(value):
                return value
            seen = value
        except passing as error:
            seen = error
        wait.check(seen)
        await asyncio.sleep(PAUSE_SECONDS)


def eventually_blocking(
    probe: Callable[[], T],
    holds: Callable[[T], Any] = bool,
    *,
    within: float = WITHIN_SECONDS,
    says: Callable[[], object] | str | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> T:
    """`eventually` for tests without an event loop."""
    wait = _Wait(probe, within, says)
    while True:
        seen: object
        try:
            value = probe()
            if holds(value):
                return value
            seen = value
        except passing as error:
            seen = error
        wait.check(seen)
        time.sleep(PAUSE_SECONDS)
