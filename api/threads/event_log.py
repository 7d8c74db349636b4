"""Audit handler: GET /threads/{id}/events returns what the log has of a thread, in pages or as a stream."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import allowed
from threadlog.api.context import Api, api_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.models import AnyObject, Time
from threadlog.api.http.requests import header, path_uuid, place_in_log, query_int, query_list, query_moment, query_text
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Query, Route, requires, sends, takes
from threadlog.api.streaming.hub import WakeUp
from threadlog.api.streaming.sse import block, stream_to
from threadlog.api.threads.lookup import thread_not_found
from threadlog.engine.ids import as_uuid
from threadlog.engine.log.history import LoggedEvent, PartitionHistory, has_type, is_of_run
from threadlog.engine.log.records import Frames, partition_of
from threadlog.projections.queries import system, threads

LIMIT = 1000
SCAN_BYTES = 16 * 1024 * 1024
"""Bytes of the partition's records that one page looks through: other threads' are among them."""
_DELETED = "thread.deleted"


class LoggedEventResponse(TypedDict):
    """An event at its place in the log. `id`: where to go on after it."""

    id: str
    partition: int
    offset: int
    index: int
    at: Time
    command_id: str
    actor: str | None
    type: str
    event: AnyObject


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events of a thread are wanted: of a run, of types (`run.*`: of all that begin so), of a time."""

    thread_id: str
    run_id: str | None
    types: tuple[str, ...]
    since: datetime | None
    until: datetime | None

    def items(self, logged: LoggedEvent, after: tuple[int, int]) -> list[LoggedEventResponse]:
        record = logged.record
        if record.key != self.thread_id or not self._in_time(record.at):
            return []
        if self.run_id is not None and not any(is_of_run(event, self.run_id) for event in record.events):
            return []
        return [
            {
                "id": f"{logged.offset}-{index}",
                "partition": logged.partition,
                "offset": logged.offset,
                "index": index,
                "at": record.at,
                "command_id": record.cmd_id,
                "actor": record.actor,
                "type": event["type"],
                "event": event,
            }
            for index, event in enumerate(record.events)
            if (logged.offset, index) > after and has_type(event["type"], self.types)
        ]

    def _in_time(self, at: str) -> bool:
        if self.since is None and self.until is None:
            return True
        time = datetime.fromisoformat(at)
        return (self.since is None or time >= self.since) and (self.until is None or time < self.until)


@requires("threads.read")
@takes("Last-Event-ID")
@sends("X-Pagination-Next")
async def read(request: web.Request) -> web.StreamResponse:
    """Return the events of a thread, oldest first: a page of them, or with `Accept: text/event-stream` a stream that
    goes on with what happens. `X-Pagination-Next` is the `after` of the next page, if there may be more.

    GET /threads/{thread_id}/events (threadlog's own, docs/audit.md).
    """
    api = api_of(request)
    thread_id = path_uuid(request, "thread_id", "thread")
    only = await allowed(request, "threads.read", {"thread_id": thread_id})
    wanted = _filter(request, thread_id)
    streamed = "text/event-stream" in header(request, "Accept")
    limit = query_int(request, "limit", 100, 1, LIMIT)
    after = place_in_log((header(request, "Last-Event-ID") if streamed else "") or query_text(request, "after"))
    if streamed and ("limit" in request.query or wanted.until is not None):
        raise ApiError(422, "A stream has neither a limit nor an end: leave limit and until out")
    row = await threads.get(api.pool, thread_id, only)
    if row is None:
        raise thread_not_found(thread_id)
    begin = _milliseconds(max(row["created_at"], wanted.since) if wanted.since else row["created_at"])
    partition = partition_of(thread_id, api.log.partitions)
    history = await PartitionHistory.open(
        api.log,
        partition,
        **({"since_ms": begin} if after is None else {"offset": after[0]}),
    )
    if streamed:
        follower = _Follower(api, history, wanted, after or (-1, 0))
        with follower:
            follower.projected(await system.projected(api.pool, partition))
            return await stream_to(
                request, {}, follower, follower,
                disconnects=api.disconnects, heartbeat_seconds=api.settings.heartbeat_seconds,
            )  # fmt: skip
    items, more = await _page(api, history, wanted, after or (-1, 0), limit)
    return reply(items, headers={} if more is None else {"X-Pagination-Next": more})


async def _page(
    api: Api, history: PartitionHistory, wanted: Filter, after: tuple[int, int], limit: int
) -> tuple[list[LoggedEventResponse], str | None]:
    items: list[LoggedEventResponse] = []
    async with api.scans:  # few at a time: each looks through much that is not of its thread
        while history.read_bytes < SCAN_BYTES:
            events = await history.read()
            if events is None:
                return items, None
            for logged in events:
                items += wanted.items(logged, after)
                if len(items) > limit:
                    return items[:limit], items[limit - 1]["id"]
    return items, str(history.next - 1)


class _Follower:
    """Subscriber of a thread whose stream is read from the log: what is told live only says that there is more.

    What the log has and the read models have not yet is held back: a client that has seen a run end finds its state.
    """

    run_id: str | None = None

    def __init__(self, api: Api, history: PartitionHistory, wanted: Filter, after: tuple[int, int]) -> None:
        self.thread_id = wanted.thread_id
        self.closed = False
        self._api, self._history, self._wanted, self._after = api, history, wanted, after
        self._waiter = WakeUp()
        self._told = False
        self._gone = False
        self._held: deque[LoggedEvent] = deque()
        self._upto = -1

    def __enter__(self) -> None:
        self._api.hub.subscribe(self)

    def __exit__(self, *_: object) -> None:
        self._api.hub.unsubscribe(self)

    # --- what the hub tells

    def on_frames(self, offset: int, size: int, frames: Frames) -> None:
        """Frames are not events."""

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        self.projected(offset)

    def projected(self, offset: int) -> None:
        """The read models have the thread's events up to here."""
        self._upto = max(self._upto, offset)
        self._told = True
        self._waiter.notify()

    def on_shutdown(self) -> None:
        self.close()

    # --- what the stream asks

    def close(self) -> None:
        self.closed = True
        self._waiter.notify()

    async def next(self, heartbeat_seconds: float) -> list[LoggedEventResponse] | None:
        """The next events; none after `heartbeat_seconds` without any; None at the end, which is the thread's."""
        while not self.closed and not self._gone:
            self._told = False
            at_end = bool(self._held)
            if not self._held:
                async with self._api.scans:
                    events = await self._history.read()
                at_end = events is None
                self._held.extend(logged for logged in events or () if logged.record.key == self.thread_id)
            if items := self._released():
                return items
            if at_end and not self._told and not await self._waiter.wait(heartbeat_seconds):
                return []
        return None

    def _released(self) -> list[LoggedEventResponse]:
        items: list[LoggedEventResponse] = []
        while self._held and self._held[0].offset <= self._upto and not self._gone:
            logged = self._held.popleft()
            items += self._wanted.items(logged, self._after)
            self._gone = any(event["type"] == _DELETED for event in logged.record.events)
        return items

    def render(self, items: list[LoggedEventResponse]) -> bytes:
        return b"".join(block(item["type"].encode(), orjson.dumps(item), item["id"]) for item in items)

    def ending(self) -> bytes:
        return b""


def _filter(request: web.Request, thread_id: str) -> Filter:
    run_id = query_text(request, "run_id")
    if run_id is not None and (run_id := as_uuid(run_id)) is None:
        raise ApiError(422, "run_id: must be a UUID")
    types = tuple(query_list(request, "type"))
    return Filter(thread_id, run_id, types, query_moment(request, "since"), query_moment(request, "until"))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


routes = [
    Route(
        "GET", "/threads/{thread_id}/events", read, "List or follow what the log has of a thread",
        returns=list[LoggedEventResponse], stream=True, errors=(400, 404),
        query=(
            Query("run_id", "string", "only what is about this run"),
            Query("type", "array", "only these types of events; run.* is all that begin so"),
            Query("since", "string", "ISO-8601 time: from then on"),
            Query("until", "string", "ISO-8601 time: before then"),
            Query("limit", "integer", f"events of a page, at most {LIMIT}"),
            Query("after", "string", "id of an event: what follows it"),
        ),
    ),
]  # fmt: skip
