"""Explanation of a run, `threadlog explain`: finds the run's events in the log, and tells its story."""

from __future__ import annotations

import click
import orjson

from threadlog.deploy.commands.places import Place, place_of_run
from threadlog.deploy.commands.terminal import progress_bar, write
from threadlog.deploy.compose.storage import existing_log
from threadlog.deploy.settings import Settings
from threadlog.engine.ids import stateless_thread_id
from threadlog.engine.log.history import LoggedHistory
from threadlog.engine.log.port import Log
from threadlog.engine.story.reading import read_story, time_in
from threadlog.engine.story.story import Story
from threadlog.engine.story.text import lines_of


async def explain(settings: Settings, run_id: str, *, as_json: bool) -> int:
    """Print the run's story; returns the exit code, 1 when the log has no such run."""
    assert settings.database_uri is not None
    async with existing_log(settings) as log:
        story = await story_of(log, run_id, await place_of_run(settings.database_uri, run_id))
    if not story.known:
        click.echo(f"threadlog: the log knows nothing of run {run_id}", err=True)
        return 1
    write([orjson.dumps(story).decode()] if as_json else lines_of(story))
    return 0


async def story_of(log: Log, run_id: str, place: Place | None) -> Story:
    """The story of a run; without its place, as of one that was deleted, it is looked for where a stateless run's
    thread is, then everywhere from the time in its id on."""
    since = place.created_at if place is not None else time_in(run_id)
    thread_id = place.thread_id if place is not None else stateless_thread_id(run_id)
    story = Story(run_id)
    await read_story(log, story, thread_id, since)
    if story.known or place is not None:
        return story
    story = Story(run_id)
    since_ms = None if since is None else int(since.timestamp() * 1000)
    history = LoggedHistory(log, range(log.partitions), since_ms=since_ms)
    with progress_bar("records", await history.open()) as done:
        async for logged in history.until_now(done):
            story.tell(logged)
    return story
