"""How often an executor looks for what notifications may have missed."""

from __future__ import annotations

import asyncio

import pytest

from threadlog.engine.executor.poll import PollInterval

FOR_EVER = 4000.0


async def test_with_nothing_to_do_for_a_while_it_polls_seldom_until_something_is_heard() -> None:
    interval = PollInterval(0.01, lambda: True, calm_seconds=0.0, calm_poll_seconds=FOR_EVER)
    waiting = asyncio.create_task(interval.wait())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.1)
    interval._calm_seconds = FOR_EVER
    interval.stir()
    await waiting


async def test_with_something_to_do_it_polls_often() -> None:
    interval = PollInterval(0.01, lambda: False, calm_seconds=0.2, calm_poll_seconds=FOR_EVER)
    for _ in range(30):
        await interval.wait()


async def test_what_was_heard_between_two_polls_counts() -> None:
    interval = PollInterval(0.01, lambda: True, calm_seconds=0.2, calm_poll_seconds=FOR_EVER)
    for _ in range(30):
        interval.stir()
        await interval.wait()


async def test_seldom_is_still_sometimes() -> None:
    interval = PollInterval(0.01, lambda: True, calm_seconds=0.0, calm_poll_seconds=0.05)
    await interval.wait()
    await interval.wait()
