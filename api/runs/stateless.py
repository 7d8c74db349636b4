"""Deleted stateless runs: their thread is deleted at their end, their frames stay in the log for a while.

A client that lost its connection reconnects to `/runs/{run_id}/stream` or `/join`, perhaps after the end, perhaps at
another server. The run's id is then all there is: the thread's id follows from it, the thread's tombstone has the time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

from threadlog.api.context import Api
from threadlog.api.http.bodies import JsonObject
from threadlog.api.streaming.cursor import VALUES, EventId, FrameCursor
from threadlog.engine.ids import stateless_thread_id
from threadlog.engine.log.port import Log, OffsetGone, Topic
from threadlog.engine.log.records import partition_of
from threadlog.engine.log.unreadable import event_in, frames_in
from threadlog.projections.queries import threads
from threadlog.projections.queries.metadata_filter import MetadataFilter

LOOK_BACK = 256
"""Records before a client's `Last-Event-ID` that are read again: after a crash of the log's database executors send
unflushed frames once more, and these may get lower offsets than the client has seen."""
_CLOCKS_DIFFER_MS = 60_000
_TAIL_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DeletedRun:
    """A run that has ended and is deleted, and where in `stream` its first frame can't be before."""

    run_id: str
    thread_id: str
    partition: int
    start: int


async def find(api: Api, run_id: str, last: EventId | None, only: MetadataFilter | None = None) -> DeletedRun | None:
    """Find a stateless run that was deleted at most `resumable_seconds` ago; None if there was none.

    `last`: the last frame that the client has, None: it has none. `only`: the run's thread has to have passed it.
    """
    thread_id = stateless_thread_id(run_id)
    if not await threads.was_deleted(api.pool, thread_id, api.settings.resumable_seconds):
        return None
    partition = partition_of(thread_id, api.log.partitions)
    since_ms = int.from_bytes(UUID(run_id).bytes[:6], "big") - _CLOCKS_DIFFER_MS
    if only is not None:
        metadata = await _metadata_of(api.log, partition, thread_id, since_ms)
        if metadata is None or not only.matches(metadata):
            return None
    first, end = await api.log.bounds(Topic.STREAM, partition)
    if last is not None:
        start = max(first, last.offset - LOOK_BACK)
    else:
        start = await _first_since(api.log, Topic.STREAM, partition, first, end, since_ms)
    # All its frames were in the log before it ended; our tail may not have come that far yet.
    loop = asyncio.get_running_loop()
    until = loop.time() + _TAIL_WAIT_SECONDS
    while api.hub.stream_position(partition) < end and loop.time() < until:
        await asyncio.sleep(0.01)
    return DeletedRun(run_id, thread_id, partition, start)


async def output(api: Api, run: DeletedRun) -> tuple[bytes | None, bytes | None]:
    """Returns `(last values, error)` that the run emitted, each None if it emitted none."""
    cursor = FrameCursor((0, 0))
    values = error = None
    at = run.start
    end = (await api.log.bounds(Topic.STREAM, run.partition))[1]
    while at < end:
        try:
            records = await api.log.read(Topic.STREAM, run.partition, at, end=end)
        except OffsetGone as missing:
            at = max(missing.first, at + 1)
            continue
        if not records:
            break
        at = records[-1].offset + 1
        for record in records:
            if record.key != run.thread_id:
                continue
            frames = frames_in(record)
            if frames is None or (first := cursor.admit(frames)) is None:
                continue
            for name, data in frames.frames[first:]:
                if name in VALUES:
                    values = data
                elif name == b"error":
                    error = data
                elif name == b"metadata":
                    error = None  # another attempt begins
    return values, error


async def _metadata_of(log: Log, partition: int, thread_id: str, since_ms: int) -> JsonObject | None:
    """The metadata that a thread was created with, by its first run, for which the log of events is read from then on;
    None if it isn't found."""
    first, end = await log.bounds(Topic.EVENTS, partition)
    at = await _first_since(log, Topic.EVENTS, partition, first, end, since_ms)
    while at < end:
        records = await log.read(Topic.EVENTS, partition, at, end=end)
        if not records:
            return None
        for record in records:
            if record.key == thread_id and (decoded := event_in(record)) is not None:
                metadata: JsonObject = {}
                for event in decoded.events:
                    metadata.update(event.get("metadata") or event.get("thread_metadata") or {})
                return metadata
        at = records[-1].offset + 1
    return None


async def _first_since(log: Log, topic: Topic, partition: int, first: int, end: int, at_ms: int) -> int:
    """The lowest offset whose record is not older than this; timestamps of a log don't decrease."""
    low, high = first, end
    while low < high:
        middle = (low + high) // 2
        try:
            records = await log.read(topic, partition, middle, end=high, max_bytes=1)
        except OffsetGone as gone:
            low = max(gone.first, middle + 1)
            continue
        if not records or records[0].timestamp_ms >= at_ms:
            high = middle
        else:
            low = records[0].offset + 1
    return low
