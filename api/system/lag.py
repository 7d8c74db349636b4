"""Lag of each partition: commands in the log that are not decided yet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from threadlog.api.context import Api
from threadlog.engine.log.port import LogUnavailable, Topic

_SECONDS = 5.0  # a scraper waits for 10 s; the log, when its Postgres stalls, for 35


async def lag_of(api: Api, decided: Mapping[int, int]) -> dict[int, int]:
    """By partition, of which the last command decided is given; empty while the log is away or does not respond."""
    try:
        async with asyncio.timeout(_SECONDS):
            bounds = await asyncio.gather(*(api.log.bounds(Topic.COMMANDS, partition) for partition in decided))
    except (LogUnavailable, TimeoutError):
        return {}
    return {
        partition: max(0, end - 1 - last) for (partition, last), (_, end) in zip(decided.items(), bounds, strict=True)
    }
