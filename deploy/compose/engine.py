"""Composition of what decides: a processor, and the committer that its log allows."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from threadlog.deploy.lease_owner import owner_name
from threadlog.deploy.settings import Settings
from threadlog.engine.log.port import Log
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.processor.committer import Committer, LogCommitter, OnFailed, OnProjected
from threadlog.engine.processor.expiry import SweepOptions
from threadlog.engine.processor.ports import Executors
from threadlog.engine.processor.processor import LEASE_SECONDS, RENEW_SECONDS, Processor
from threadlog.engine.processor.timers import STORE_SWEEP_SECONDS
from threadlog.projections.commit.coordination import PostgresCoordinationStore
from threadlog.projections.commit.single_transaction import SingleTransactionCommitter
from threadlog.projections.rebuild.rebuild import reader_of_values


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """`processor.start`, then `stop`."""

    processor: Processor

    async def stop(self) -> None:
        """Give the partitions back, then the connections."""
        await self.processor.stop()
        await self.processor.committer.aclose()


def engine_of(
    settings: Settings,
    source: Log,
    pool: asyncpg.Pool,
    *,
    owner: str | None = None,
    notify_applied: bool = True,
    executors: Executors | None = None,
    lease_seconds: float = LEASE_SECONDS,
    renew_seconds: float = RENEW_SECONDS,
    quiet_renew_seconds: float | None = None,
    store_sweep_seconds: float = STORE_SWEEP_SECONDS,
    sweep: SweepOptions | None = None,
) -> Engine:
    """An engine over this log, with the read models in the database of `pool`; its options as its parts have them."""
    read_value = reader_of_values(source)
    coordination = PostgresCoordinationStore(pool, read_value)

    def make_committer(projected: OnProjected, failed: OnFailed) -> Committer:
        if not isinstance(source, PostgresLog):
            return LogCommitter(source, coordination, projected=projected, failed=failed)
        return SingleTransactionCommitter(
            source, coordination, pool, read_value,
            projected=projected, notify_applied=notify_applied, executors=executors,
        )  # fmt: skip

    processor = Processor(
        source,
        coordination,
        make_committer,
        owner=owner or owner_name("engine"),
        lease_seconds=lease_seconds,
        renew_seconds=renew_seconds,
        quiet_renew_seconds=quiet_renew_seconds,
        max_attempts=settings.bg_job_max_retries,
        store_sweep_seconds=store_sweep_seconds,
        sweep=sweep,
    )
    return Engine(processor)
