"""Explanation of a run, `threadlog explain`: finds the run's events in the log, and tells its story."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
import orjson

from threadlog.deploy.commands.places import Place, place_of_run
from threadlog.deploy.commands.story import Story, heading, told
from threadlog.deploy.commands.terminal import progress_bar, write
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import Settings
from threadlog.engine.ids import stateless_thread_id
from threadlog.engine.log.history import LoggedHistory, PartitionHistory
from threadlog.engine.log.port import Log
from threadlog.engine.log.records import partition_of

AFTERWARDS = 5_000
"""Records that are read after the run's end: its deletion, and what came too late."""


async def explain(settings: Settings, run_id: str, *, as_json: bool) -> int:
    """Print the run's story; returns the exit code, 1 when the log has no such run."""
    assert settings.database_uri is not None
    async with existing_log(settings) as log:
        story = await story_of(log, run_id, await place_of_run(settings.database_uri, run_id))
    if not story.chapters:
        click.echo(f"threadlog: the log knows nothing of run {run_id}", err=True)
        return 1
    if as_json:
        write([orjson.dumps(asdict(story)).decode()])
    else:
        write([*heading(story), "", *told(story.chapters)])
    return 0


async def story_of(log: Log, run_id: str, place: Place | None) -> Story:
    """The story of a run; without its place, as of one that was deleted, it is looked for where a stateless run's
    thread is, then everywhere from the time in its id on."""
    since = place.created_at if place is not None else _time_in(run_id)
    thread_id = place.thread_id if place is not None else stateless_thread_id(run_id)
    story = await _in_partition(log, run_id, partition_of(thread_id, log.partitions), since)
    if story.chapters or place is not None:
        return story
    story = Story(run_id)
    since_ms = None if since is None else int(since.timestamp() * 1000)
    history = LoggedHistory(log, range(log.partitions), since_ms=since_ms)
    with progress_bar("records", await history.open()) as done:
        async for logged in history.until_now(done):
            story.tell(logged)
    return story


async def _in_partition(log: Log, run_id: str, partition: int, since: datetime | None) -> Story:
    """Reads on from the run's time until it is over, and a bit further."""
    story = Story(run_id)
    since_ms = None if since is None else int(since.timestamp() * 1000)
    history = await PartitionHistory.open(log, partition, since_ms=since_ms)
    after = 0
    while (events := await history.read()) is not None:
        for logged in events:
            story.tell(logged)
        after = after + len(events) if story.over else 0
        if after >= AFTERWARDS:
            break
    return story


def _time_in(run_id: str) -> datetime | None:
    """When the id was made, if its version tells, less a day: it is the client's clock."""
    id = UUID(run_id)
    if id.version != 7:
        return None
    return datetime.fromtimestamp((id.int >> 80) / 1000, UTC) - timedelta(days=1)
