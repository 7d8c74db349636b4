"""How far the read models are, for processes that wait for it: notifications, and a slow poll for missed ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import asyncpg

from threadlog.engine.gateway.event_tail import Applied
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.postgres.append import AWAY, CONNECT_SECONDS, PASSING

log = logging.getLogger(__name__)

CHANNEL = "threadlog_applied"
POLL_SECONDS = 1.0
BACKOFF_SECONDS = (0.05, 1.0)


class PostgresApplied:
    """`engine.gateway.event_tail.AppliedSource` on a pool, one connection of which it keeps while it is followed."""

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
        backoff = BACKOFF_SECONDS[0]
        while True:
            conn: Any = None
            try:
                conn = await self._pool.acquire(timeout=CONNECT_SECONDS)
                heard: dict[int, int] = {}
                wake = asyncio.Event()

                def hear(_conn: Any, _pid: int, _channel: str, payload: object, heard: dict[int, int] = heard,
                         wake: asyncio.Event = wake) -> None:  # fmt: skip
                    for one in str(payload).split(","):
                        p, _, upto = one.partition(":")
                        heard[int(p)] = max(int(upto), heard.get(int(p), -1))
                    wake.set()

                await conn.add_listener(CHANNEL, hear)
                conn.add_termination_listener(lambda _conn, wake=wake: wake.set())
                while True:
                    # Also right after listening began: what was notified before is in the rows.
                    for row in await conn.fetch("SELECT p, ev_off FROM partitions"):
                        heard[row["p"]] = max(row["ev_off"], heard.get(row["p"], -1))
                    backoff = BACKOFF_SECONDS[0]
                    yield dict(heard)
                    heard.clear()
                    poll_at = loop.time() + POLL_SECONDS
                    while (left := poll_at - loop.time()) > 0:
                        with suppress(TimeoutError):
                            await asyncio.wait_for(wake.wait(), left)
                        wake.clear()
                        if conn.is_closed():
                            raise ConnectionResetError("the listening connection is closed")
                        if heard:
                            moved = dict(heard)
                            heard.clear()
                            yield moved
            except (asyncpg.PostgresError, *AWAY) as error:
                log.warning("lost the database, connecting again: %r", error)
            finally:
                if conn is not None:
                    with suppress(asyncpg.PostgresError, *AWAY):  # a lost one went back by itself
                        conn.terminate()
                        await self._pool.release(conn)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_SECONDS[1])
