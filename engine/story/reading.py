"""Reads a run's story where its events are: in the partition of its thread, from about the time of its creation on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from threadlog.engine.log.history import PartitionHistory
from threadlog.engine.log.port import Log
from threadlog.engine.log.records import partition_of
from threadlog.engine.story.story import Story

AFTERWARDS = 5_000
"""Records that are read after the run's end: its deletion, and what came too late."""


async def read_story(
    log: Log, story: Story, thread_id: str, since: datetime | None, *, max_bytes: int | None = None
) -> None:
    """Read on from the time until the run is over, and a bit further; at most about `max_bytes` of records."""
    since_ms = None if since is None else int(since.timestamp() * 1000)
    history = await PartitionHistory.open(log, partition_of(thread_id, log.partitions), since_ms=since_ms)
    after = 0
    while (events := await history.read()) is not None:
        for logged in events:
            story.tell(logged)
        after = after + len(events) if story.over else 0
        if after >= AFTERWARDS:
            break
        if max_bytes is not None and history.read_bytes >= max_bytes:
            story.complete = story.over
            break


def time_in(run_id: str) -> datetime | None:
    """When the id was made, if its version tells, less a day: it is the client's clock."""
    id = UUID(run_id)
    if id.version != 7:
        return None
    return datetime.fromtimestamp((id.int >> 80) / 1000, UTC) - timedelta(days=1)
