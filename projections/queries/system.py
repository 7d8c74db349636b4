"""Reads about the server itself: the database, the queue, the executors, the partitions."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from threadlog.projections.queries.connection import Reader
from threadlog.projections.queries.runs import STATUS


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Runs not yet ended, and the executors' slots; times in seconds."""

    pending: int
    running: int
    pending_runs_wait_max_seconds: float
    pending_runs_wait_median_seconds: float
    unblocked_runs_wait_max_seconds: float
    slots: int
    active: int
    left_behind: int
    """Nodes that still run in threads of executors after their slots were given up."""
    not_projected: int
    """Events that the read models could not take: rows of `projection_skips`."""


_QUEUE = f"""
SELECT
  (SELECT count(*) FROM runs WHERE status IN ('pending', 'running') AND {STATUS} = 'pending') AS pending,
  (SELECT count(*) FROM runs WHERE status IN ('pending', 'running') AND {STATUS} = 'running') AS running,
  (SELECT extract(epoch FROM max(now() - created_at)) FROM runs WHERE status = 'pending' AND {STATUS} = 'pending')
     AS wait_max,
  (SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY now() - created_at))
     FROM runs WHERE status = 'pending' AND {STATUS} = 'pending') AS wait_median,
  (SELECT extract(epoch FROM max(now() - scheduled_at)) FROM run_queue WHERE owner IS NULL AND cancel IS NULL)
     AS unblocked_max,
  (SELECT coalesce(sum(slots), 0) FROM executors WHERE lease_until > now()) AS slots,
  (SELECT coalesce(sum(left_behind), 0) FROM executors WHERE lease_until > now()) AS left_behind,
  (SELECT count(*) FROM run_queue WHERE owner IS NOT NULL) AS active,
  (SELECT count(*) FROM projection_skips) AS not_projected
"""


async def ping(db: Reader) -> None:
    """Raises what asyncpg raises when the database can't be reached."""
    await db.fetchval("SELECT 1")


async def queue(db: Reader) -> QueueCounts:
    row = await db.fetchrow(_QUEUE)
    assert row is not None
    return QueueCounts(
        pending=row["pending"],
        running=row["running"],
        pending_runs_wait_max_seconds=max(0.0, float(row["wait_max"] or 0)),
        pending_runs_wait_median_seconds=max(0.0, float(row["wait_median"] or 0)),
        unblocked_runs_wait_max_seconds=max(0.0, float(row["unblocked_max"] or 0)),
        slots=row["slots"],
        active=row["active"],
        left_behind=row["left_behind"],
        not_projected=row["not_projected"],
    )


async def loaded_graphs(db: Reader) -> set[str] | None:
    """The graphs that the living executors have loaded, None when no executor is alive."""
    rows = await db.fetch("SELECT graphs FROM executors WHERE lease_until > now()")
    return {name for row in rows for name in row["graphs"]} if rows else None


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """The last command of a partition that is decided in the read models, and whether a living engine owns it."""

    partition: int
    decided: int
    owned: bool


async def positions(db: Reader) -> list[PartitionPosition]:
    rows = await db.fetch(
        "SELECT p, cmd_off, EXISTS (SELECT FROM processors e WHERE e.owner = partitions.owner "
        "AND e.lease_until > now()) AS owned FROM partitions ORDER BY p"
    )
    return [PartitionPosition(row["p"], row["cmd_off"], row["owned"]) for row in rows]


@dataclass(frozen=True, slots=True)
class OwnedPartition:
    """`owner`: the living engine that has the partition, None: none has; `decided`, `projected`: the last command and
    event record in the read models."""

    partition: int
    owner: str | None
    epoch: int
    decided: int
    projected: int


async def projected(db: Reader, partition: int) -> int:
    """The offset of the last event record of a partition that the read models have; -1 before the first."""
    return int(await db.fetchval("SELECT ev_off FROM partitions WHERE p = $1", partition))


async def partitions(db: Reader) -> list[OwnedPartition]:
    rows = await db.fetch(
        "SELECT p, e.owner, epoch, cmd_off, ev_off FROM partitions LEFT JOIN processors e "
        "ON e.owner = partitions.owner AND e.lease_until > now() ORDER BY p"
    )
    return [OwnedPartition(row["p"], row["owner"], row["epoch"], row["cmd_off"], row["ev_off"]) for row in rows]


@dataclass(frozen=True, slots=True)
class ExecutorSlots:
    """A living executor: its slots, how many are taken, nodes left behind, and the graphs it has loaded."""

    executor_id: str
    slots: int
    active: int
    left_behind: int
    graphs: list[str]


async def executors(db: Reader) -> list[ExecutorSlots]:
    rows = await db.fetch(
        "SELECT executor_id, slots, left_behind, graphs, "
        "(SELECT count(*) FROM run_queue q WHERE q.owner = executor_id) AS active "
        "FROM executors WHERE lease_until > now() ORDER BY executor_id"
    )
    return [
        ExecutorSlots(row["executor_id"], row["slots"], row["active"], row["left_behind"], list(row["graphs"]))
        for row in rows
    ]


async def skips(db: Reader, limit: int) -> list[asyncpg.Record]:
    """Events that the read models do not hold, the newest first."""
    return await db.fetch(
        "SELECT p, ev_off, idx, key, type, error, at FROM projection_skips ORDER BY at DESC, p, ev_off DESC LIMIT $1",
        limit,
    )


_WEBHOOKS = """
SELECT (SELECT count(*) FROM webhooks) AS waiting,
    (SELECT count(*) FROM webhook_failures WHERE due_at IS NOT NULL) AS failed,
    (SELECT count(*) FROM webhook_failures WHERE due_at IS NULL) AS dead
"""


async def webhooks(db: Reader) -> asyncpg.Record:
    """`waiting`, of which `failed` have failed before; `dead`, of the last 30 days."""
    row = await db.fetchrow(_WEBHOOKS)
    assert row is not None
    return row


async def executor_lives(db: Reader, executor_id: str) -> bool:
    return bool(
        await db.fetchval(
            "SELECT EXISTS (SELECT FROM executors WHERE executor_id = $1 AND lease_until > now())", executor_id
        )
    )


async def loopback_token(db: Reader) -> str:
    """What requests of the application's own code show to the api."""
    return str(await db.fetchval("SELECT secret FROM server_secrets WHERE name = 'loopback'"))
