"""Stream handler of a thread: every run, one after the other, and state updates; it stays open."""

from __future__ import annotations

import orjson
from aiohttp import web

from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown
from threadlog.api.http.requests import header, path_of, path_uuid, query_list
from threadlog.api.http.routes import Query, Route, requires, sends, takes
from threadlog.api.streaming.cursor import FROM_START, EventId, run_end_of_row
from threadlog.api.streaming.sse import FrameFilter, block, stream_to
from threadlog.api.streaming.subscriptions import Item, NewFrames, RunDone, ThreadEvent, ThreadSubscription
from threadlog.api.threads.lookup import readable, require_thread
from threadlog.api.threads.state import read_state
from threadlog.engine.log.records import partition_of
from threadlog.projections.queries import runs

_MODES = ("run_modes", "lifecycle", "state_update")


class ThreadView:
    """Items of a thread as SSE. Each event has an id; one that is not a frame has the last id with a sub-index."""

    def __init__(self, api: Api, thread_id: str, modes: set[str], at: EventId) -> None:
        self._api, self._thread_id = api, thread_id
        self._runs = "run_modes" in modes
        self._lifecycle = self._runs or "lifecycle" in modes
        self._updates = "state_update" in modes
        self._at = at
        self._shown = FrameFilter()

    async def render(self, items: list[Item]) -> bytes:
        parts: list[bytes] = []
        for item in items:
            if isinstance(item, NewFrames):
                self._frames(item, parts)
            elif isinstance(item, RunDone):
                if self._lifecycle:
                    done = {"status": "run_done", "run_id": item.run_id}
                    parts.append(block(b"metadata", orjson.dumps(done), self._next_sub_id()))
            elif isinstance(item, ThreadEvent) and self._updates:
                checkpoint = (item.event.get("result") or {}).get("checkpoint") or {}
                state = await read_state(
                    self._api,
                    self._thread_id,
                    checkpoint_id=checkpoint.get("checkpoint_id"),
                    ns=checkpoint.get("checkpoint_ns") or "",
                )
                parts.append(block(b"state_update", orjson.dumps({"state": state}), self._next_sub_id()))
        return b"".join(parts)

    def ending(self) -> bytes:
        """Nothing: the stream ends with the thread."""
        return b""

    def _frames(self, batch: NewFrames, parts: list[bytes]) -> None:
        attempt, number = batch.frames.attempt, batch.frames.seq
        for index, (name, data) in enumerate(batch.frames.frames[batch.first :], start=batch.first):
            self._at = EventId(batch.offset, attempt, number + index)
            event = self._shown[name]
            if event and (self._runs or (self._lifecycle and event == b"metadata")):
                parts.append(block(event, data, self._at))

    def _next_sub_id(self) -> EventId:
        at = self._at
        self._at = EventId(at.offset, at.attempt, at.number, at.sub_index + 1)
        return self._at


@requires("threads.read")
@takes("Last-Event-ID")
@sends("Location")
async def join(request: web.Request) -> web.StreamResponse:
    """Stream all runs of a thread from now on, or from `Last-Event-ID` on.

    GET /threads/{thread_id}/stream (contract 1.2, 2.6).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    modes = query_list(request, "stream_modes", "stream_mode") or ["run_modes"]
    for mode in modes:
        if mode not in _MODES:
            raise ApiError(422, f"stream_modes: {shown(mode)} is not one of {', '.join(_MODES)}")
    only = await readable(request, api, thread_id)
    last_event_id = header(request, "Last-Event-ID")
    after = EventId.parse(last_event_id)
    subscription = ThreadSubscription(
        api.hub,
        api.log,
        thread_id,
        buffer_bytes=api.settings.client_buffer_bytes,
        frame_wait_seconds=api.settings.frame_wait_seconds,
        after=after,
    )
    with subscription:
        position = api.hub.stream_position(partition_of(thread_id, api.log.partitions))
        await require_thread(api, thread_id, only)  # again, now that no event can be missed
        if after is not None or last_event_id in FROM_START:
            await _replay(api, subscription, thread_id, after, position)
        view = ThreadView(api, thread_id, set(modes), after or EventId(max(0, position - 1), 0, 0))
        return await stream_to(
            request,
            {"Location": path_of(request)},
            subscription,
            view,
            disconnects=api.disconnects,
            heartbeat_seconds=api.settings.heartbeat_seconds,
        )


async def _replay(
    api: Api, subscription: ThreadSubscription, thread_id: str, after: EventId | None, position: int
) -> None:
    """Continue after a frame; or start with the first resumable run, and of the past show only resumable ones."""
    past = await runs.progress_of_thread(api.pool, thread_id)
    only = None
    if after is not None:
        subscription.start_at(after.offset)
    else:
        past = [row for row in past if row["resumable"] == "true"]
        only = frozenset(str(row["run_id"]) for row in past)
        if past:
            subscription.start_at(min(row["stream_from"] for row in past))
    ends = {str(row["run_id"]): end for row in past if (end := run_end_of_row(row)) is not None}
    subscription.past(ends, only=only, before=position)


routes = [
    Route(
        "GET", "/threads/{thread_id}/stream", join, "Follow all runs of a thread", stream=True, errors=(404,),
        query=(Query("stream_modes", "array", "run_modes, lifecycle, state_update"),),
    ),
]  # fmt: skip
