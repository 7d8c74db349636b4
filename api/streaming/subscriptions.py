"""Stream subscriptions: one client's view of a run or thread, from memory while it keeps up, else from the log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Self

from threadlog.api.streaming.cursor import EndOfRun, EventId, FrameCursor, RunEnd, run_end_of
from threadlog.api.streaming.hub import StreamHub, WakeUp
from threadlog.engine.log.port import Log, OffsetGone, Topic
from threadlog.engine.log.records import Frames, partition_of
from threadlog.engine.log.unreadable import frames_in

READ_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class NewFrames:
    """New frames of one record: those from `first` on."""

    offset: int
    first: int
    frames: Frames


@dataclass(frozen=True, slots=True)
class RunDone:
    """All frames of this run have been handed on, or the wait for them has been given up."""

    run_id: str
    end: RunEnd


@dataclass(frozen=True, slots=True)
class ThreadEvent:
    """A projected event of the thread that clients of the thread's stream receive as such."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What the log held when the subscription began has been handed on; only of subscriptions that tell."""


Item = NewFrames | RunDone | ThreadEvent | CaughtUp


class Subscription:
    """A stream's items in order: `NewFrames`, then one `RunDone` per run. Used by one task, on the hub's loop.

    From its `with` on it misses nothing: it reads the log from there, or from an earlier offset given to `start_at`,
    until it has caught up with the tail. A consumer that falls more than `buffer_bytes` behind reads the log again.
    """

    def __init__(self, hub: StreamHub, log: Log, thread_id: str, run_id: str | None, *, buffer_bytes: int) -> None:
        self.thread_id = thread_id
        self.run_id = run_id
        self.closed = False
        self.waiter = WakeUp()
        self._hub = hub
        self._log = log
        self._partition = partition_of(thread_id, log.partitions)
        self._buffer_bytes = buffer_bytes
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._read_from: int | None = None  # not None: behind the tail, what comes live is left to the log

    @property
    def queued_bytes(self) -> int:
        """Of frames in memory that the client has not taken."""
        return self._queued_bytes

    def __enter__(self) -> Self:
        self._hub.subscribe(self)
        self._read_from = self._hub.stream_position(self._partition)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.unsubscribe(self)
        self.closed = True
        self._queue.clear()

    def start_at(self, offset: int) -> None:
        """Begin with what the log holds from this offset on."""
        self._read_from = offset

    def close(self) -> None:
        """End now, because the client has disconnected."""
        self.closed = True
        self.waiter.notify()

    async def next(self, heartbeat_seconds: float) -> list[Item] | None:
        """Returns the items queued since the last call; an empty list after `heartbeat_seconds` without any; None at
        the end. Raises `LogUnavailable` while it has to read the log and can't.
        """
        while not self.closed:
            if self._queue:
                items = list(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
                return items
            if self._read_from is not None:
                if items := await self._read_log(self._read_from):
                    return items
            elif self.finished():
                return None
            elif not await self.waiter.wait(self.wait_timeout(heartbeat_seconds)) and not self.on_timeout():
                return []
        return None

    # --- hooks of the subclasses

    def finished(self) -> bool:
        """Whether the subscription, caught up and with an empty queue, is at its end."""
        return False

    def has_all_frames(self) -> bool:
        """Whether nothing that is still to be read from the log can matter."""
        return False

    def next_offset(self, offset: int) -> int:
        """Where reading of the log goes on: at this offset, or beyond what is known not to matter."""
        return offset

    def caught_up(self) -> list[Item]:
        """Items that were held back while the log was read."""
        return []

    def lacks(self, first: int) -> None:
        """Called when the log was to be read from an offset that it has no more; it begins with `first`."""

    def wait_timeout(self, heartbeat_seconds: float) -> float:
        return heartbeat_seconds

    def on_timeout(self) -> bool:
        """Called after silence; True when the subscription has given up waiting for frames."""
        return False

    def accept(self, offset: int, frames: Frames) -> list[Item]:
        raise NotImplementedError

    # --- Subscriber

    def on_frames(self, offset: int, size: int, frames: Frames) -> None:
        if self._read_from is not None or self.closed:
            return
        if self._queued_bytes + size > self._buffer_bytes and self._queue:
            self._fall_behind(offset)
            return
        if items := self.accept(offset, frames):
            self._queue.extend(items)
            self._queued_bytes += size
            self.waiter.notify()

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        raise NotImplementedError

    def on_shutdown(self) -> None:
        self.close()

    # --- the log

    def _fall_behind(self, offset: int) -> None:
        """Drop no frame: what is queued stays, the log is read from this record on once the queue is empty."""
        self._read_from = offset
        self.waiter.notify()

    async def _read_log(self, start: int) -> list[Item]:
        # The tail hands out everything from `upto` on. Between comparing and going live nothing is awaited, so
        # there is neither a gap nor a frame twice.
        upto = self._hub.stream_position(self._partition)
        start = self.next_offset(start)
        if start >= upto or self.has_all_frames():
            self._read_from = None
            return self.caught_up()
        try:
            records = await self._log.read(Topic.STREAM, self._partition, start, end=upto, max_bytes=READ_BYTES)
        except OffsetGone as gone:
            self._read_from = max(gone.first, start + 1)
            self.lacks(gone.first)
            return []
        self._read_from = records[-1].offset + 1 if records else upto
        items: list[Item] = []
        for record in records:
            if record.key == self.thread_id:
                frames = frames_in(record)
                if frames is None:
                    continue
                if self.run_id is None or frames.run_id == self.run_id:
                    items += self.accept(record.offset, frames)
        return items


class RunSubscription(Subscription):
    """One run's frames. It finishes when the run has ended and all its frames have been handed on."""

    def __init__(
        self,
        hub: StreamHub,
        log: Log,
        thread_id: str,
        run_id: str,
        *,
        buffer_bytes: int,
        frame_wait_seconds: float,
    ) -> None:
        super().__init__(hub, log, thread_id, run_id, buffer_bytes=buffer_bytes)
        self._run_end = EndOfRun(run_id, frame_wait_seconds, FrameCursor())
        self._continued = False
        self._begin: int | None = None  # not None: read from there if the frames that are missing at the end are

    @property
    def end(self) -> RunEnd | None:
        """How the run ended, None while it has not."""
        return self._run_end.end

    @property
    def error_seen(self) -> bool:
        """Whether the client has the run's `error` event."""
        return self._run_end.cursor.error_seen

    def __enter__(self) -> Self:
        super().__enter__()
        self._run_end.cursor = FrameCursor(self._hub.progress(str(self.run_id)))
        return self

    def start(self) -> None:
        """The run does not exist yet: there is nothing to read of it. Call it right after the `with`."""
        self.from_start()
        self._read_from = None

    def from_start(self) -> None:
        """The client has none of the run's frames yet."""
        self._run_end.cursor = FrameCursor((0, 0))

    def continue_after(self, at: EventId) -> None:
        """The client has everything up to this frame."""
        self._run_end.cursor = FrameCursor((at.attempt, at.number + 1))
        self._continued = True

    def start_near(self, offset: int, begin: int) -> None:
        """Begin with what the log holds from this offset on, which the client names. It may be of another run, or made
        up: if the run has ended and frames are missing then, go on with the run's first, at `begin`.
        """
        self.start_at(max(offset, begin))
        self._begin = begin

    def ended(self, end: RunEnd) -> None:
        """Note how the run ended, as its row tells; events note it by themselves."""
        if self._run_end.set(end):
            self._note_end()

    def accept(self, offset: int, frames: Frames) -> list[Item]:
        first = self._run_end.cursor.admit(frames)
        return [] if first is None else [NewFrames(offset, first, frames)]

    def on_frames(self, offset: int, size: int, frames: Frames) -> None:
        super().on_frames(offset, size, frames)
        if self.end is not None:
            self.waiter.notify()  # nothing new may have come, yet the count may be complete

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        if self._run_end.on_event(event):
            self._note_end()

    def finished(self) -> bool:
        return self._run_end.is_over()

    def has_all_frames(self) -> bool:
        return self._run_end.has_all_counted_frames()

    def caught_up(self) -> list[Item]:
        if self._begin is not None and self.end is not None and not self._run_end.has_all_frames():
            self._read_from, self._begin = self._begin, None
        return []

    def lacks(self, first: int) -> None:
        # Retention may have had all of them: unless one is found, it is not known what there is to wait for.
        self._run_end.cursor.is_set = False

    def wait_timeout(self, heartbeat_seconds: float) -> float:
        return self._run_end.seconds_to_wait(heartbeat_seconds)

    def on_timeout(self) -> bool:
        return self._run_end.has_given_up()

    def _note_end(self) -> None:
        if self._continued and self.has_all_frames():
            self._run_end.cursor.error_seen = True  # the client has all there is, an `error` included
        self.waiter.notify()


class ThreadSubscription(Subscription):
    """All runs of a thread, for ever: frames, a `RunDone` after each run's last frame, and `state.updated` events."""

    def __init__(
        self,
        hub: StreamHub,
        log: Log,
        thread_id: str,
        *,
        buffer_bytes: int,
        frame_wait_seconds: float,
        after: EventId | None = None,
    ) -> None:
        super().__init__(hub, log, thread_id, None, buffer_bytes=buffer_bytes)
        self._frame_wait_seconds = frame_wait_seconds
        self._after = after
        self._runs: dict[str, FrameCursor] = {}
        self._current = ""
        self._ends: dict[str, EndOfRun] = {}  # ended, but not all of their frames have been handed on
        self._past: dict[str, RunEnd] = {}  # of runs that had ended before this client came
        self._only: tuple[frozenset[str], int] = (frozenset(), 0)
        self._done: set[str] = set()
        self._deleted = False

    def past(self, ends: dict[str, RunEnd], *, only: frozenset[str] | None, before: int) -> None:
        """Set the ends of runs that ended before this client came, each shown if frames of its run are.

        `only`: of the records `before` this offset, show those of these runs alone.
        """
        self._past = ends
        if only is not None:
            self._only = (only, before)

    def finished(self) -> bool:
        return self._deleted

    def wait_timeout(self, heartbeat_seconds: float) -> float:
        for run_id, run_end in self._ends.items():
            run_end.cursor = self._cursor_of(run_id)
            heartbeat_seconds = run_end.seconds_to_wait(heartbeat_seconds)
        return heartbeat_seconds

    def on_timeout(self) -> bool:
        """Show the ends of runs whose frames never came."""
        items = self._flush([run_id for run_id, run_end in self._ends.items() if run_end.has_given_up()])
        self._queue.extend(items)
        return bool(items)

    def accept(self, offset: int, frames: Frames) -> list[Item]:
        run_id = frames.run_id
        if offset < self._only[1] and run_id not in self._only[0]:
            return []
        items: list[Item] = []
        if frames.is_end_mark:
            if run_id in self._done:
                return []
        elif run_id != self._current:
            # One run after the other: the first frame of the next run shows that the previous one is over.
            items = self._flush([self._current])
            self._current = run_id
        cursor = self._runs.get(run_id)
        if cursor is None:
            cursor = self._runs[run_id] = FrameCursor(self._cursor_start(offset, frames))
            if run_id in self._past:
                self._note_end(run_id, self._past.pop(run_id))
        first = cursor.admit(frames)
        if first is not None:
            items.append(NewFrames(offset, first, frames))
        if (run_end := self._ends.get(run_id)) is not None:
            run_end.cursor = cursor
            if run_end.has_all_counted_frames() and self.may_end(run_id):
                items += self._flush([run_id])
        return items

    def may_end(self, run_id: str) -> bool:
        """Whether the end of a run, all of whose frames have been handed on, has its place here."""
        return True

    def caught_up(self) -> list[Item]:
        return self._flush([id for id in self._ends if self._has_all_frames_of(id) and self.may_end(id)])

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "thread.deleted":
            self._deleted = True
        elif kind == "state.updated":
            self._queue.append(ThreadEvent(event))
        elif kind == "run.created":
            self._runs.setdefault(event["run_id"], FrameCursor((0, 0)))
            return
        elif "run_id" in event and (end := self.end_of(event)) is not None:
            run_id = event["run_id"]
            self._note_end(run_id, end)
            if self._read_from is None and self._has_all_frames_of(run_id) and self.may_end(run_id):
                self._queue.extend(self._flush([run_id]))
        else:
            return
        self.waiter.notify()

    def end_of(self, event: dict[str, Any]) -> RunEnd | None:
        """The end of its run that this event means for the stream, if any."""
        return run_end_of(event, event["run_id"])

    def _cursor_start(self, offset: int, frames: Frames) -> tuple[int, int] | None:
        after = self._after
        if after is None or after.offset != offset or after.attempt != frames.attempt:
            return None
        if after.sub_index:
            self._done.add(frames.run_id)
        return after.attempt, after.number + 1

    def _note_end(self, run_id: str, end: RunEnd) -> None:
        run_end = self._ends[run_id] = EndOfRun(run_id, self._frame_wait_seconds, self._cursor_of(run_id))
        run_end.set(end)

    def _cursor_of(self, run_id: str) -> FrameCursor:
        """How far this client is in the run; the hub's position where the frames passed before the client came."""
        return self._runs.get(run_id) or FrameCursor(self._hub.progress(run_id))

    def _has_all_frames_of(self, run_id: str) -> bool:
        """Whether no frame of this run, which has ended, is waited for."""
        run_end = self._ends[run_id]
        run_end.cursor = self._cursor_of(run_id)
        return run_end.has_all_frames()

    def _flush(self, run_ids: list[str]) -> list[Item]:
        items: list[Item] = []
        for run_id in run_ids:
            run_end = self._ends.pop(run_id, None)
            if run_end is not None and run_end.end is not None:
                self._runs.pop(run_id, None)
                if run_id not in self._done:
                    self._done.add(run_id)
                    items.append(RunDone(run_id, run_end.end))
        return items
