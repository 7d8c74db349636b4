"""Lag, `threadlog lag`: how far engines and read models are behind the log, by partition."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

import asyncpg
import orjson

from threadlog.deploy.commands.terminal import table, write
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import Settings
from threadlog.engine.log.port import Topic

_ROWS = """
SELECT p, ev_off, cmd_off, epoch, partitions.owner, coalesce(e.lease_until > now(), false) AS alive
FROM partitions LEFT JOIN processors e USING (owner) ORDER BY p
"""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """`commands`, `events`: offset after the last record; `decided`, `projected`: offset of the last one that is in the
    read models; `undecided`, `unprojected`: offsets between. `owner`: the living engine's, None without one."""

    partition: int
    commands: int
    decided: int
    undecided: int
    events: int
    projected: int
    unprojected: int
    epoch: int
    owner: str | None


async def lags(settings: Settings) -> list[PartitionLag]:
    """Of every partition, now."""
    assert settings.database_uri is not None
    async with existing_log(settings) as log:
        connection = await asyncpg.connect(settings.database_uri)
        try:
            rows = await connection.fetch(_ROWS)
        finally:
            await connection.close()
        partitions = [row["p"] for row in rows]
        commands = await asyncio.gather(*(log.bounds(Topic.COMMANDS, p) for p in partitions))
        events = await asyncio.gather(*(log.bounds(Topic.EVENTS, p) for p in partitions))
    return [
        PartitionLag(
            row["p"],
            c, row["cmd_off"], max(0, c - 1 - row["cmd_off"]),
            e, row["ev_off"], max(0, e - 1 - row["ev_off"]),
            row["epoch"], row["owner"] if row["alive"] else None,
        )
        for row, (_, c), (_, e) in zip(rows, commands, events, strict=True)
    ]  # fmt: skip


async def show(settings: Settings, *, as_json: bool) -> int:
    """Print a line per partition; 1 when one has no engine."""
    found = await lags(settings)
    if as_json:
        write(orjson.dumps(asdict(lag)).decode() for lag in found)
    else:
        head = ("partition", "commands", "decided", "behind", "events", "projected", "behind", "epoch", "owner")
        write(table(head, ([*list(asdict(lag).values())[:-1], lag.owner or "none"] for lag in found)))
    return 1 if any(lag.owner is None for lag in found) else 0
