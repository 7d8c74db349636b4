"""Stream handlers of one run: create and stream it, or join it later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import asyncpg
import orjson
from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api, api_of
from threadlog.api.http.disconnects import CREATOR_LEFT, JOINER_LEFT
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.requests import (
    body,
    header,
    path_of,
    path_uuid,
    query_flag,
    query_list,
    query_namespaces,
    query_text,
    thread_id_or_none,
)
from threadlog.api.http.routes import joins, requires, sends, takes
from threadlog.api.runs.bodies import RunCreate, StreamMode
from threadlog.api.runs.cancel import cancelled_on_disconnect, may_cancel
from threadlog.api.runs.create import create_run, prepare, was_created
from threadlog.api.runs.stateless import LOOK_BACK, find
from threadlog.api.streaming.cursor import FROM_START, EventId, RunEnd, run_end_of_row
from threadlog.api.streaming.sse import FrameFilter, RunView, id_block, open_stream, stream_to
from threadlog.api.streaming.subscriptions import READ_BYTES, RunSubscription
from threadlog.engine.log.port import OffsetGone, Topic
from threadlog.engine.log.records import CHECKPOINT, partition_of
from threadlog.engine.log.unreadable import frames_in
from threadlog.projections.queries import runs
from threadlog.projections.queries.metadata_filter import MetadataFilter

_MODES = frozenset(StreamMode.__args__)  # type: ignore[attr-defined]


@joins
@requires("threads.create_run", "assistants.read")
@sends("Location", "Content-Location")
async def create(request: web.Request) -> web.StreamResponse:
    """Create a run and stream its events. Subscribes before the run exists, so that no frame is missed.

    POST …/runs/stream (contract 1.3, 2.1 to 2.3).
    """
    api = api_of(request)
    thread_id = thread_id_or_none(request)
    namespaces = query_namespaces(request)
    new = await prepare(request, api, await body(request, RunCreate), thread_id, streamed=True)
    repeated = await was_created(api, new)
    frame_filter = FrameFilter((), namespaces)
    with subscription_to(api, new.thread_id, new.run_id) as subscription:
        if not repeated:
            subscription.start()
            await create_run(api, new)
        elif not await from_its_start(api, subscription, new.run_id):
            return await _replay_deleted_run(
                request, api, new.run_id, thread_id, frame_filter, None, "0", ids=new.resumable
            )
        feedback = _feedback(api, new.run_id, new.params.feedback_keys)
        view = RunView(subscription, frame_filter, ids=new.resumable, new=True, feedback=feedback)
        cancels = CREATOR_LEFT if new.params.on_disconnect == "cancel" else None
        # A client that is cut off before the first event resumes with all events, not from the next one. At once:
        # earlier JavaScript clients take an id alone for an event, but would lose what a crash cuts off.
        first = id_block(b"0") if new.resumable else b""
        return await _follow(api, request, new.headers("stream"), subscription, view, cancels=cancels, first=first)


@requires("threads.read")
@takes("Last-Event-ID")
@sends("Location", "Content-Location")
async def join(request: web.Request) -> web.StreamResponse:
    """Stream a run's events from now on; of a resumable run, from `Last-Event-ID` or `checkpoint_id` on.

    GET …/runs/{run_id}/stream (contract 1.3, 2.4).
    """
    api = api_of(request)
    thread_id = thread_id_or_none(request)
    run_id = path_uuid(request, "run_id", "run")
    modes = query_list(request, "stream_mode")
    for mode in modes:
        if mode not in _MODES:
            raise ApiError(422, f"stream_mode: {shown(mode)} is not one of {', '.join(sorted(_MODES))}")
    frame_filter = FrameFilter(modes, query_namespaces(request))
    last_event_id = header(request, "Last-Event-ID")
    leaves = query_flag(request, "cancel_on_disconnect")
    only = await allowed(request, "threads.read", {"thread_id": thread_id, "run_id": run_id})
    cancels = JOINER_LEFT if leaves and await may_cancel(request, api, run_id, thread_id) else None
    row = await runs.progress(api.pool, run_id, thread_id, only)
    if row is None:
        return await _replay_deleted_run(request, api, run_id, thread_id, frame_filter, only, last_event_id)
    with subscription_to(api, str(row["thread_id"]), run_id) as subscription:
        row = await runs.progress(api.pool, run_id, thread_id, only)  # again, now that no event can be missed
        if row is None:
            return await _replay_deleted_run(request, api, run_id, thread_id, frame_filter, only, last_event_id)
        end = run_end_of_row(row)
        resumable = row["resumable"] == "true"
        replays = await _seek(api, subscription, request, row) if resumable else False
        headers = {"Location": path_of(request), "Content-Location": path_of(request).rpartition("/")[0]}
        if end is not None and not replays:
            response = await open_stream(request, headers)
            await response.write_eof()
            return response
        if end is not None:
            subscription.ended(end)
        feedback = _feedback(api, run_id, await api.feedback.keys_of(api.pool, run_id))
        view = RunView(subscription, frame_filter, ids=resumable, new=False, feedback=feedback)
        return await _follow(api, request, headers, subscription, view, cancels=cancels)


async def from_its_start(api: Api, subscription: RunSubscription, run_id: str) -> bool:
    """Have the subscription begin with the first frame of a run that exists; False if it is deleted."""
    row = await runs.progress(api.pool, run_id)
    if row is None:
        return False
    subscription.from_start()
    subscription.start_at(row["stream_from"])
    if (end := run_end_of_row(row)) is not None:
        subscription.ended(end)
    return True


async def _replay_deleted_run(
    request: web.Request,
    api: Api,
    run_id: str,
    thread_id: str | None,
    frame_filter: FrameFilter,
    only: MetadataFilter | None,
    last_event_id: str,
    *,
    ids: bool = True,
) -> web.StreamResponse:
    """A stateless run may have ended, and been deleted, while its client was on the way back."""
    after = EventId.parse(last_event_id)
    run = None
    if thread_id is None and (after is not None or last_event_id in FROM_START):
        run = await find(api, run_id, after, only)
    if run is None:
        raise ApiError(404, "Run not found", code="run_not_found")
    with subscription_to(api, run.thread_id, run_id) as subscription:
        if after is None:
            subscription.from_start()
        else:
            subscription.continue_after(after)
        subscription.start_at(run.start)
        subscription.ended(RunEnd("gone"))
        view = RunView(subscription, frame_filter, ids=ids, new=False)
        return await _follow(api, request, {"Location": path_of(request)}, subscription, view)


def _feedback(
    api: Api, run_id: str, keys: Sequence[str] | None
) -> Callable[[], Awaitable[dict[str, str] | None]] | None:
    return partial(api.feedback.of, run_id, keys) if keys else None


def subscription_to(api: Api, thread_id: str, run_id: str) -> RunSubscription:
    return RunSubscription(
        api.hub,
        api.log,
        thread_id,
        run_id,
        buffer_bytes=api.settings.client_buffer_bytes,
        frame_wait_seconds=api.settings.frame_wait_seconds,
    )


async def _seek(api: Api, subscription: RunSubscription, request: web.Request, row: asyncpg.Record) -> bool:
    """Position the subscription where the client was. Returns False if it is to stream from now on.

    A client that shows a checkpoint already, as `checkpoint_id`, gets what came after it; a frame it names counts more.
    """
    last_event_id = header(request, "Last-Event-ID")
    checkpoint_id = query_text(request, "checkpoint_id")
    if last_event_id in FROM_START or (checkpoint_id and not last_event_id):
        at = await _checkpoint_position(api, subscription, checkpoint_id, row["stream_from"]) if checkpoint_id else None
        if at is not None:
            subscription.continue_after(at)
            subscription.start_at(at.offset)
            return True
        subscription.from_start()
        subscription.start_at(row["stream_from"])
        return True
    at = EventId.parse(last_event_id)
    if at is None:
        return False
    subscription.continue_after(at)
    subscription.start_near(at.offset - LOOK_BACK, row["stream_from"])
    return True


async def _checkpoint_position(
    api: Api, subscription: RunSubscription, checkpoint_id: str, start: int
) -> EventId | None:
    """Where among the run's frames it made this checkpoint; None if it did not, as far as the log is read here."""
    partition = partition_of(subscription.thread_id, api.log.partitions)
    upto = api.hub.stream_position(partition)
    sought = (CHECKPOINT, orjson.dumps(checkpoint_id))
    mark = b"\n%b\n%b" % sought
    while start < upto:
        try:
            records = await api.log.read(Topic.STREAM, partition, start, end=upto, max_bytes=READ_BYTES)
        except OffsetGone as gone:
            start = max(gone.first, start + 1)
            continue
        for record in records:
            if record.key == subscription.thread_id and mark in record.value:  # most are not looked into
                frames = frames_in(record)
                if frames is not None and frames.run_id == subscription.run_id and sought in frames.frames:
                    return EventId(record.offset, frames.attempt, frames.seq + frames.frames.index(sought))
        start = records[-1].offset + 1 if records else upto
    return None


async def _follow(
    api: Api,
    request: web.Request,
    headers: dict[str, str],
    subscription: RunSubscription,
    view: RunView,
    *,
    cancels: str | None = None,
    first: bytes = b"",
) -> web.StreamResponse:
    """Stream until the run's end; `cancels`: cancel the run for this reason when the last such client leaves."""
    async with cancelled_on_disconnect(api, request, subscription, cancels):
        return await stream_to(
            request,
            headers,
            subscription,
            view,
            disconnects=api.disconnects,
            heartbeat_seconds=api.settings.heartbeat_seconds,
            first=first,
        )
