"""Streams of one run: made by creating it, or joined later."""

from __future__ import annotations

import asyncpg
import orjson
from aiohttp import web

from api.deps import Api, api_of
from api.disconnects import client_gone
from api.errors import ApiError
from api.feeds import RunFeed
from api.limits import shown
from api.models import RunCreate, StreamMode
from api.progress import End, FrameId
from api.requests import body, header, path_uuid, query_flag, query_list, thread_in_path
from api.run_cancel import cancel_quietly
from api.run_create import prepare, submit
from api.sse import ModeFilter, RunView, open_stream, place, pump
from api.stateless import LOOK_BACK, find
from projections.queries import runs

_MODES = frozenset(StreamMode.__args__)  # type: ignore[attr-defined]
_FROM_START = frozenset(("-1", "-", "0"))


async def create(request: web.Request) -> web.StreamResponse:
    """POST …/runs/stream. Whoever streams is attached before the run exists, so no frame is missed."""
    api = api_of(request)
    thread_id = thread_in_path(request)
    new = await prepare(request, api, await body(request, RunCreate), thread_id)
    with feed_of(api, new.thread_id, new.run_id, eager=not new.resumable) as feed:
        feed.before_first()
        await submit(api, new)
        view = RunView(feed, ModeFilter(()), ids=new.resumable, new=True)
        cancels = new.asked.on_disconnect == "cancel"
        # Whoever is cut off before the first event comes back for all of them, not for what is next.
        first = place(b"0") if new.resumable else b""
        return await _follow(api, request, new.headers("stream"), feed, view, cancels=cancels, first=first)


async def join(request: web.Request) -> web.StreamResponse:
    """GET …/runs/{id}/stream: live from now on, or, of a resumable run, from `Last-Event-ID` on."""
    api = api_of(request)
    thread_id = thread_in_path(request)
    run_id = path_uuid(request, "run_id", "run")
    modes = query_list(request, "stream_mode")
    for mode in modes:
        if mode not in _MODES:
            raise ApiError(422, f"stream_mode: {shown(mode)} is not one of {', '.join(sorted(_MODES))}")
    cancels = query_flag(request, "cancel_on_disconnect")
    row = await runs.progress(api.pool, run_id, thread_id)
    if row is None:
        return await _replay_gone(request, api, run_id, thread_id, modes)
    await api.live.catch_up(str(row["thread_id"]))
    with feed_of(api, str(row["thread_id"]), run_id, eager=row["resumable"] != "true") as feed:
        row = await runs.progress(api.pool, run_id, thread_id)  # again, now that no event can be missed
        if row is None:
            return await _replay_gone(request, api, run_id, thread_id, modes)
        end = end_in(row)
        resumable = row["resumable"] == "true"
        replays = _position(feed, header(request, "Last-Event-ID"), row) if resumable else False
        headers = {"Location": request.path, "Content-Location": request.path.rpartition("/")[0]}
        if end is not None and not replays:
            response = await open_stream(request, headers)
            await response.write_eof()
            return response
        if end is not None:
            feed.ended(end)
        view = RunView(feed, ModeFilter(modes), ids=resumable, new=False)
        return await _follow(api, request, headers, feed, view, cancels=cancels)


async def _replay_gone(
    request: web.Request, api: Api, run_id: str, thread_id: str | None, modes: list[str]
) -> web.StreamResponse:
    """A stateless run may have ended, and been deleted, while its client was on the way back."""
    last_event_id = header(request, "Last-Event-ID")
    after = FrameId.parse(last_event_id)
    gone = None
    if thread_id is None and (after is not None or last_event_id in _FROM_START):
        gone = await find(api, run_id, after)
    if gone is None:
        raise ApiError(404, "Run not found")
    with feed_of(api, gone.thread_id, run_id) as feed:
        if after is None:
            feed.from_start()
        else:
            feed.continue_after(after)
        feed.start_at(gone.start)
        feed.ended(End("gone"))
        response = await open_stream(request, {"Location": request.path})
        view = RunView(feed, ModeFilter(modes), ids=True, new=False)
        await pump(api, request, response, feed, view.render)
    return response


def feed_of(api: Api, thread_id: str, run_id: str, *, eager: bool = False) -> RunFeed:
    return RunFeed(
        api.live,
        api.log,
        thread_id,
        run_id,
        buffer_bytes=api.settings.client_buffer_bytes,
        frame_wait_seconds=api.settings.frame_wait_seconds,
        eager=eager,
    )


def end_in(row: asyncpg.Record) -> End | None:
    """The end of a run as its row tells it, None while it is pending or running."""
    status = row["status"]
    if status in ("pending", "running"):
        return None
    error = None if row["error"] is None else orjson.loads(row["error"])
    return End(status, row["attempt"], row["frames"] or 0, error)


def _position(feed: RunFeed, last_event_id: str, row: asyncpg.Record) -> bool:
    """Set the feed to where the client was; False: it stays where it is, now."""
    if last_event_id in _FROM_START:
        feed.from_start()
        feed.start_at(row["stream_from"])
        return True
    at = FrameId.parse(last_event_id)
    if at is None:
        return False
    feed.continue_after(at)
    feed.start_at(max(row["stream_from"], at.offset - LOOK_BACK))
    return True


async def _follow(
    api: Api,
    request: web.Request,
    headers: dict[str, str],
    feed: RunFeed,
    view: RunView,
    *,
    cancels: bool,
    first: bytes = b"",
) -> web.StreamResponse:
    """Stream until the run's end; `cancels`: the run goes with the last client that says so."""
    if not cancels:
        response = await open_stream(request, headers)
        await pump(api, request, response, feed, view.render, view.ending, first=first)
        return response
    run_id = str(feed.run_id)
    with api.disconnects.cancels(run_id) as is_last:
        delivered = False
        try:
            response = await open_stream(request, headers)
            delivered = await pump(api, request, response, feed, view.render, view.ending, first=first)
        finally:
            if not delivered and feed.end is None and client_gone(request) and is_last():
                await cancel_quietly(api, feed.thread_id, run_id)
    return response
