"""Positions of the read models, for processes that wait for a projection: notifications, and a poll each second for
those that were missed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

import asyncpg

from threadlog.engine.gateway.event_tail import Applied
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.postgres.errors import FAILED, PASSING
from threadlog.engine.postgres.listener import Listener

log = logging.getLogger(__name__)

CHANNEL = "threadlog_applied"
POLL_SECONDS = 1.0


class PostgresApplied:
    """`engine.gateway.event_tail.AppliedSource` on a pool. `follow` keeps one of its connections."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def positions(self) -> dict[int, Applied]:
        try:
            rows = await self._pool.fetch("SELECT p, ev_off, cmd_off, log_epoch FROM partitions")
        except PASSING as error:
            raise LogUnavailable(f"the database is away: {error!r}") from error
        return {row["p"]: Applied(row["ev_off"], row["cmd_off"], row["log_epoch"]) for row in rows}

    async def follow(self) -> AsyncIterator[Mapping[int, int]]:
        loop = asyncio.get_running_loop()
        heard: dict[int, int] = {}  # partition → its projected offset, since the last yield
        wake = asyncio.Event()
        poll_at = 0.0

        def hear(payload: str) -> None:
            for position in payload.split(","):
                p, _, upto = position.partition(":")
                heard[int(p)] = max(int(upto), heard.get(int(p), -1))
            wake.set()

        def poll_at_once() -> None:
            """What was notified before the listener listened is in the rows."""
            nonlocal poll_at
            poll_at = 0.0
            wake.set()

        listener = Listener(self._pool, CHANNEL, hear, name="applied", on_reconnect=poll_at_once)
        await listener.start()
        try:
            while True:
                if loop.time() >= poll_at:
                    poll_at = loop.time() + POLL_SECONDS
                    for p, upto in (await _positions(listener)).items():
                        heard[p] = max(upto, heard.get(p, -1))
                if heard:
                    moved = dict(heard)
                    heard.clear()
                    yield moved
                with suppress(TimeoutError):  # not `wait_for`: before Python 3.12 it can swallow a cancellation
                    async with asyncio.timeout_at(poll_at):
                        await wake.wait()
                wake.clear()
        finally:
            await listener.aclose()


async def _positions(listener: Listener) -> dict[int, int]:
    """The rows' positions. Waits for a database that is away."""
    while True:
        try:
            async with listener.connection() as connection:
                return {row["p"]: row["ev_off"] for row in await connection.fetch("SELECT p, ev_off FROM partitions")}
        except FAILED as error:
            log.warning("the read models' positions can't be read, trying again: %r", error)
