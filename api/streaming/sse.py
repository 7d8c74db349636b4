"""Server-sent events encoder: turns frames into bytes, and the loop that writes them to a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import orjson
from aiohttp import web

from threadlog.api.http.disconnects import Disconnects, abort_connection, client_gone, end_stream
from threadlog.api.http.errors import is_unavailable
from threadlog.api.streaming.cursor import EventId
from threadlog.api.streaming.subscriptions import Item, NewFrames, RunSubscription

T = TypeVar("T")

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_HEARTBEAT = b": heartbeat\n\n"
# Shown whatever modes and namespaces a client has asked for.
_ALWAYS = frozenset((b"metadata", b"error"))
# Clients know these by one name, wherever in the graph they come from.
_WITHOUT_NAMESPACE = frozenset((b"messages/metadata", b"messages/partial", b"messages/complete", b"events"))


async def open_stream(request: web.Request, headers: dict[str, str] | None = None) -> web.StreamResponse:
    """Send the headers at once, so that the client knows where to resume before the first event."""
    response = web.StreamResponse(headers={**_HEADERS, **(headers or {})})
    await response.prepare(request)
    return response


def block(name: bytes, data: bytes, frame_id: object = None) -> bytes:
    if frame_id is None:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"event: %b\ndata: %b\nid: %b\n\n" % (name, data, str(frame_id).encode())


def id_block(event_id: bytes) -> bytes:
    """A block with an id only: not an event, it sets the `Last-Event-ID` that the client sends when it resumes."""
    return b"id: %b\n\n" % event_id


class FrameFilter(dict[bytes, bytes]):
    """Which frames a client wants, and what it calls them: frame name → SSE event name, empty to leave it out.

    `modes`: only these, none for all. `namespaces`: only these graphs, `""` for the root, None for all; a subgraph's
    start and end also with the graph that it was started from. A dict that finds out what it lacks: a run has few names
    and many frames.
    """

    def __init__(self, modes: Iterable[str] = (), namespaces: Iterable[str] | None = None) -> None:
        self._modes = {mode.encode() for mode in modes}
        if b"messages-tuple" in self._modes:
            self._modes.add(b"messages")
        self._namespaces = None if namespaces is None else {namespace.encode() for namespace in namespaces}

    def __missing__(self, name: bytes) -> bytes:
        shown = self[name] = self._shown(name)
        return shown

    def _shown(self, name: bytes) -> bytes:
        if name in _ALWAYS:
            return name
        event, _, namespace = name.partition(b"|")
        mode = event.partition(b"/")[0]
        if name.startswith(b"~") or (self._modes and mode not in self._modes):
            return b""
        if not self._in_namespaces(mode, namespace):
            return b""
        return event if event in _WITHOUT_NAMESPACE else name

    def _in_namespaces(self, mode: bytes, namespace: bytes) -> bool:
        if self._namespaces is None or namespace in self._namespaces:
            return True
        return mode == b"lifecycle" and _started_from(namespace) in self._namespaces


def _started_from(namespace: bytes) -> bytes:
    """The graph that a subgraph was started from: without its last task, and the number of a task's second subgraph."""
    segments = namespace.split(b"|")
    while len(segments) > 1 and segments[-1].isdigit():
        segments.pop()
    return b"|".join(segments[:-1])


def render_frames(batch: NewFrames, shown: FrameFilter, *, ids: bool) -> bytes:
    """The record's new frames as SSE blocks, their data untouched."""
    frames = batch.frames.frames
    if batch.first:
        frames = frames[batch.first :]
    if not ids:
        return b"".join([b"event: %b\ndata: %b\n\n" % (event, data) for name, data in frames if (event := shown[name])])
    first = EventId(batch.offset, batch.frames.attempt, batch.frames.seq + batch.first)
    return b"".join(
        [
            b"event: %b\ndata: %b\nid: %d-%d\n\n" % (event, data, batch.offset, place)
            for place, (name, data) in enumerate(frames, start=first.position)
            if (event := shown[name])
        ]
    )


class RunView:
    """A run's items as SSE, and the `error` event of a run that failed without its executor having sent one.

    `feedback`: returns the data of the `feedback` event that follows a successful run's last, None without one.
    """

    def __init__(
        self,
        subscription: RunSubscription,
        shown: FrameFilter,
        *,
        ids: bool,
        new: bool,
        feedback: Callable[[], Awaitable[dict[str, str] | None]] | None = None,
    ) -> None:
        self._subscription, self._shown, self._ids, self._feedback = subscription, shown, ids, feedback
        self._started = not new

    def render(self, items: list[Item]) -> bytes:
        self._started = self._started or bool(items)
        return b"".join([render_frames(i, self._shown, ids=self._ids) for i in items if isinstance(i, NewFrames)])

    async def ending(self) -> bytes:
        """The `error` event of a run whose executor died before it sent one, or the `feedback` event; else empty."""
        end = self._subscription.end
        if end is not None and end.kind == "success" and self._feedback is not None:
            links = await self._feedback()
            return b"" if links is None else block(b"feedback", orjson.dumps(links))
        if end is None or end.kind not in ("error", "timeout") or self._subscription.error_seen:
            return b""
        parts = []
        if not self._started:
            start = {"run_id": self._subscription.run_id, "attempt": end.attempt}
            parts.append(block(b"metadata", orjson.dumps(start)))
        parts.append(block(b"error", orjson.dumps(end.error or {"error": "Error", "message": ""})))
        return b"".join(parts)


class Source(Protocol[T]):
    """What a stream is made of, such as a `Subscription`."""

    closed: bool

    def close(self) -> None:
        """End now, because the client has disconnected."""
        ...

    async def next(self, heartbeat_seconds: float) -> list[T] | None:
        """The next items; an empty list after so many seconds without any; None at the end."""
        ...


class View(Protocol[T]):
    """How the items of a source look as server-sent events."""

    def render(self, items: list[T]) -> bytes | Awaitable[bytes]:
        """The items as SSE; empty if the client sees none of them."""
        ...

    def ending(self) -> bytes | Awaitable[bytes]:
        """What follows the last item; empty for nothing. Not called when the client has left or the server stops."""
        ...


async def stream_to(
    request: web.Request,
    headers: dict[str, str],
    subscription: Source[T],
    view: View[T],
    *,
    disconnects: Disconnects,
    heartbeat_seconds: float,
    first: bytes = b"",
) -> web.StreamResponse:
    """Respond with `first`, then with the subscription's items until it ends or the client leaves.

    An error aborts the connection, so that the client resumes where it was; raised is what is not an outage of the
    log, the database or the connection.
    """
    response = await open_stream(request, headers)
    with disconnects.watch(request, subscription.close):
        try:
            if first:
                await response.write(first)
            while (items := await subscription.next(heartbeat_seconds)) is not None:
                if not items:
                    await response.write(_HEARTBEAT)
                    continue
                data = view.render(items)
                if not isinstance(data, bytes):
                    data = await data
                if data:
                    await response.write(data)
            if not client_gone(request):
                if not subscription.closed:
                    last = view.ending()
                    if not isinstance(last, bytes):
                        last = await last
                    if last:
                        await response.write(last)
                await end_stream(request, response)
        except Exception as error:
            abort_connection(request)
            if not is_unavailable(error):
                raise
    return response
