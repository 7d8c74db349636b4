"""Explanation handler: GET …/runs/{run_id}/explain returns the story of a run, read from the log."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import allowed
from threadlog.api.context import api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import AnyObject, Id, Time
from threadlog.api.http.requests import header, path_uuid, place_in_log, query_int, query_text, thread_id_or_none
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Query, requires, sends
from threadlog.engine.story.reading import read_story, time_in
from threadlog.engine.story.story import Story
from threadlog.engine.story.text import lines_of
from threadlog.projections.queries import runs, threads

LIMIT = 10_000
SCAN_BYTES = 64 * 1024 * 1024
"""Bytes of the partition's records that one story is looked for in: other threads' are among them."""


class ChapterResponse(TypedDict):
    """One thing that happened, and where the log has it. `seconds`: since the run was asked for."""

    partition: int
    offset: int
    index: int
    at: Time
    seconds: float
    type: str
    text: str
    checkpoint_id: str | None


class AttemptResponse(TypedDict):
    """One execution of the run. `end`: the type of the event that ended it."""

    number: int
    scheduled_at: Time
    started_at: Time | None
    ended_at: Time | None
    executor: str | None
    end: str | None
    steps: int


class StoryResponse(TypedDict):
    """The story of a run. `usage`: tokens by model, of all attempts; `left_out`: how many chapters come after these;
    `complete`: whether the log was read until now, or until nothing of the run could follow."""

    run_id: Id
    thread_id: Id
    graph_id: str
    assistant_id: Id | None
    asked_by: str | None
    status: str
    asked_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    waited_seconds: float | None
    ran_seconds: float | None
    steps: int
    attempts: list[AttemptResponse]
    interrupts: AnyObject
    error: AnyObject | None
    usage: dict[str, dict[str, int]]
    chapters: list[ChapterResponse]
    left_out: int
    complete: bool


QUERY = (
    Query("limit", "integer", f"chapters of a response, at most {LIMIT}"),
    Query("after", "string", "offset-index of a chapter: what follows it"),
)


@requires("threads.read")
@sends("X-Pagination-Next")
async def explain(request: web.Request) -> web.Response:
    """Return the story of a run: who asked, what was decided and why, attempts, steps, tokens, each with its place in
    the log; with `Accept: text/plain` as `threadlog explain` prints it. A run that was deleted has one for as long as
    its thread is there.

    GET /threads/{thread_id}/runs/{run_id}/explain, GET /runs/{run_id}/explain (threadlog's own, docs/audit.md).
    """
    api = api_of(request)
    thread_id = thread_id_or_none(request)
    run_id = path_uuid(request, "run_id", "run")
    only = await allowed(request, "threads.read", {"thread_id": thread_id, "run_id": run_id})
    limit = query_int(request, "limit", 1000, 1, LIMIT)
    after = place_in_log(query_text(request, "after")) or (-1, 0)
    since: datetime | None = None
    run = await runs.get(api.pool, run_id, thread_id, only)
    if run is not None:
        thread_id, since = str(run["thread_id"]), run["created_at"]
    elif thread_id is not None and (thread := await threads.get(api.pool, thread_id, only)) is not None:
        since = max(thread["created_at"], time_in(run_id) or thread["created_at"])
    if thread_id is None or since is None:
        raise _not_found()
    story = Story.part(run_id, after, limit)
    async with api.scans:  # few at a time: each looks through much that is not of its run
        await read_story(api.log, story, thread_id, since, max_bytes=SCAN_BYTES)
    if not story.known:
        raise _not_found()
    headers = {}
    if story.left_out:
        last = story.chapters[-1]
        headers["X-Pagination-Next"] = f"{last.offset}-{last.index}"
    if "text/plain" in header(request, "Accept"):
        return web.Response(text="\n".join(lines_of(story)) + "\n", headers=headers)
    return reply(story, headers=headers)


def _not_found() -> ApiError:
    return ApiError(404, "Run not found", code="run_not_found")
