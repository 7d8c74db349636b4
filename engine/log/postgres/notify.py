"""Notifications of a quiet log: others hear of many appends at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import asyncpg

from threadlog.engine.log.port import Topic
from threadlog.engine.log.postgres.tail import CHANNEL
from threadlog.engine.postgres.connection import CONNECT_SECONDS
from threadlog.engine.postgres.errors import FAILED

log = logging.getLogger(__name__)

EVERY_SECONDS = 0.05
_PLACES = 200  # in one notification: it has a limit of 8000 bytes


class BatchedNotifier:
    """Collects the heads that have moved and notifies of them, at most every 50 ms."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._heads: dict[tuple[Topic, int], int] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, heads: Mapping[tuple[Topic, int], int]) -> None:
        """These topic-partitions have got records; their next offsets."""
        self._heads.update(heads)
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._work(), name="log notices")

    async def aclose(self) -> None:
        """Sends what is left."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._send()

    async def _work(self) -> None:
        while self._heads:
            await asyncio.sleep(EVERY_SECONDS)
            await self._send()
        self._task = None

    async def _send(self) -> None:
        heads, self._heads = list(self._heads.items()), {}
        words = [f"{topic.value}:{partition}:{head}" for (topic, partition), head in heads]
        payloads = [",".join(words[i : i + _PLACES]) for i in range(0, len(words), _PLACES)]
        if not payloads:
            return
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                await connection.execute("SELECT pg_notify($1, p) FROM unnest($2::text[]) AS p", CHANNEL, payloads)
        except FAILED as error:
            log.debug("others were not notified of the log: %r", error)  # they look at it every second
