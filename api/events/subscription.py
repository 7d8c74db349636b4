"""Event subscription: one client's view of a thread's event log, the retained past first, then live.

**Sequence numbers.** An event's number is made of where its frame is in the `stream` topic: `offset * 2^17 + n` for the
nth event of the record. So it increases strictly within a thread, is the same in every connection, at every server and
after a restart, and leaves gaps. 2^53, up to which JavaScript counts exactly, is reached after 6.8e10 records of one
partition. The end of a run comes from the `events` topic: its number is one more than that of the run's last event, or
of its mark (`engine.processor.run_ends`), its time that of the record with it. So a cancelled run's end is shown when
its executor has stopped: only then it is known which frames came before it. Ends are in the order in which the runs
have ended: that of a run whose frames have all come may stand behind the mark of another.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

import asyncpg
import orjson

from threadlog.api.context import Api
from threadlog.api.events.content_blocks import Namespace
from threadlog.api.events.filters import EventFilter, FilterUnion
from threadlog.api.events.run_order import Batch, RunOrder
from threadlog.api.events.translate import Fact, RunTranslator, channel_of
from threadlog.api.streaming.cursor import RunEnd, run_end_of_row
from threadlog.api.streaming.subscriptions import CaughtUp, Item, NewFrames, RunDone, ThreadSubscription
from threadlog.engine.log.port import OffsetGone, Topic
from threadlog.engine.log.records import Frames, partition_of
from threadlog.engine.processor.run_ends import has_mark, in_flight_after
from threadlog.projections.queries import runs

logger = logging.getLogger(__name__)

PER_RECORD = 1 << 17
_CLOCKS_DIFFER_MS = 60_000
_FINAL = frozenset(("success", "error", "timeout", "interrupted"))


def sequence_at(offset: int) -> int:
    """What all sequence numbers of events in this record of `stream`, and in later ones, are above."""
    return offset * PER_RECORD


@dataclass(frozen=True, slots=True)
class RunInfo:
    """`shown`: its frames can be replayed, so that every client of the thread can be shown the same."""

    graph_name: str
    shown: bool


class ProtocolEvent(NamedTuple):
    """An event as it goes out: `body` is its JSON, `name` of a custom event that has one."""

    seq: int
    method: str
    namespace: Namespace
    name: str | None
    body: bytes

    @property
    def channel(self) -> str:
        return channel_of(self.method)


class EventSubscription(ThreadSubscription):
    """A thread's frames and run ends from the first retained run on; reads of the log only where runs are."""

    def __init__(self, api: Api, thread_id: str) -> None:
        super().__init__(
            api.hub,
            api.log,
            thread_id,
            buffer_bytes=api.settings.client_buffer_bytes,
            frame_wait_seconds=api.settings.frame_wait_seconds,
        )
        self.infos: dict[str, RunInfo] = {}
        self._api = api
        self._starts: dict[str, int] = {}
        self._ordered = RunOrder(self._is_open, max_bytes=api.settings.client_buffer_bytes)

    async def load(self, run_id: str | None = None) -> None:
        """Find what is retained of the thread's past runs, or of this one. Call it first, within the `with`."""
        partition = partition_of(self.thread_id, self._api.log.partitions)
        position = self._position()
        rows = [row for row in await runs.streams_of(self._api.pool, self.thread_id) if row["resumable"] == "true"]
        if run_id is not None:
            rows = [row for row in rows if str(row["run_id"]) == run_id]
        rows = await self._retained(partition, rows)
        self._starts = {str(row["run_id"]): row["stream_from"] for row in rows}
        self.infos.update((str(row["run_id"]), info_of(row)) for row in rows)
        ends = {str(row["run_id"]): end for row in rows if (end := _end_of_row(row)) is not None}
        self.past(ends, only=frozenset(self._starts), before=position)
        if rows:
            self.start_at(min(self._starts.values()))

    async def _retained(self, partition: int, rows: list[asyncpg.Record]) -> list[asyncpg.Record]:
        """Those whose frames may still be in the log: a run that ended before its first record has none there."""
        first, end = await self._api.log.bounds(Topic.STREAM, partition)
        if first >= end or all(row["stream_from"] >= first for row in rows):
            return rows
        try:
            records = await self._api.log.read(Topic.STREAM, partition, first, end=end, max_bytes=1)
        except OffsetGone:
            return rows
        if not records:
            return rows
        since_ms = records[0].timestamp_ms - _CLOCKS_DIFFER_MS
        return [row for row in rows if row["status"] not in _FINAL or _ms(row["updated_at"]) >= since_ms]

    def next_offset(self, offset: int) -> int:
        """Between runs nothing is read: the next run's frames begin where the log ended when it was created."""
        if self._runs or self._ends:
            return offset
        self._starts = {run_id: start for run_id, start in self._starts.items() if run_id not in self._done}
        return max(offset, min(self._starts.values())) if self._starts else self._position()

    def _position(self) -> int:
        return self._api.hub.stream_position(partition_of(self.thread_id, self._api.log.partitions))

    def caught_up(self) -> list[Item]:
        return [*self._released(), *super().caught_up(), CaughtUp()]

    def on_event(self, offset: int, event: dict[str, Any]) -> None:
        if event["type"] == "run.created":
            kwargs = (event.get("run") or {}).get("kwargs") or {}
            self.infos[event["run_id"]] = RunInfo(event["graph_id"], bool(kwargs.get("resumable")))
        super().on_event(offset, event)
        if self._read_from is None and (items := self._released()):
            self._queue.extend(items)
            self.waiter.notify()

    def end_of(self, event: dict[str, Any]) -> RunEnd | None:
        kind, run_id = event["type"], event["run_id"]
        if kind == "run.interrupted" and event.get("stopping"):
            return None  # `run.stopped` follows, and tells of the frames
        if kind == "run.stopped" and run_id not in self._done:  # else it was rolled back or deleted
            return RunEnd("interrupted", event["attempt"], event.get("frames", 0), marked=True)
        end = super().end_of(event)
        return None if end is None else replace(end, marked=has_mark(event))

    def accept(self, offset: int, frames: Frames) -> list[Item]:
        return self._taken(self._ordered.passed(offset, frames))

    def wait_timeout(self, heartbeat_seconds: float) -> float:
        return self._ordered.seconds_to_wait(super().wait_timeout(heartbeat_seconds), self._frame_wait_seconds)

    def on_timeout(self) -> bool:
        given_up = super().on_timeout()
        if items := self._taken(self._ordered.given_up()):
            self._queue.extend(items)
        return given_up or bool(items)

    def _released(self) -> list[Item]:
        return self._taken(self._ordered.released())

    def _taken(self, records: list[Batch]) -> list[Item]:
        items: list[Item] = []
        for offset, frames in records:
            if self._ends:  # noted while the log was read; a run not begun here has its frames ahead of it
                later = in_flight_after(frames) if frames.is_end_mark else None
                items += self._ended_so_far(later)
            accepted = super().accept(offset, frames)
            if frames.is_end_mark and (mine := _done_in(accepted, frames.run_id)) is not None:
                accepted.insert(mine, NewFrames(offset, 0, frames))
            elif frames.is_end_mark:
                accepted.append(NewFrames(offset, 0, frames))
            items += accepted
        if self._ends and self._read_from is None:
            items += self._ended_so_far(None)
        return items

    def _ended_so_far(self, later: str | None) -> list[Item]:
        """The ends of runs begun here whose frames have all come, up to where there is one to wait for; `later`: not
        that of this run."""
        begun = [run_id for run_id in self._ends if run_id in self._runs and run_id != later]
        complete = [run_id for run_id in begun if self._has_all_frames_of(run_id)]
        return self._flush([run_id for run_id in complete if self._read_from is not None or self.may_end(run_id)])

    def may_end(self, run_id: str) -> bool:
        """Ends are in the order of their events. In the log, the next record tells; live, an end before this one may
        have its mark still to come."""
        if self._read_from is not None:
            return self._is_marked(run_id)
        before = takewhile(lambda other: other != run_id, self._ends)
        return not any(self._is_marked(other) and not self._has_all_frames_of(other) for other in before)

    def _is_marked(self, run_id: str) -> bool:
        end = self._ends[run_id].end
        return end is not None and end.marked

    def _is_open(self, run_id: str) -> bool:
        """Whether the end of this run is still to come, for certain."""
        info = self.infos.get(run_id)
        if info is None or not info.shown:
            return False
        return run_id not in self._ends and run_id not in self._done and run_id not in self._past


def _done_in(items: list[Item], run_id: str) -> int | None:
    return next((i for i, item in enumerate(items) if isinstance(item, RunDone) and item.run_id == run_id), None)


def _end_of_row(row: asyncpg.Record) -> RunEnd | None:
    """None also for a run that was cancelled and has not stopped."""
    end = run_end_of_row(row)
    if end is None or (end.kind == "interrupted" and row["frames"] is None):
        return None
    return replace(end, marked=end.kind == "interrupted" or not end.frames)


def info_of(row: asyncpg.Record) -> RunInfo:
    return RunInfo(row["graph_id"] or "", row["resumable"] == "true")


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


class EventTranslator:
    """The items of an `EventSubscription` as the events that the filter lets through, numbered.

    `lookup(run_id)` finds what is known of a run whose creation this process has not heard of yet; `visible()`, called
    once for each run, whether its events may be shown to this client.
    """

    def __init__(
        self,
        infos: dict[str, RunInfo],
        event_filter: EventFilter | FilterUnion,
        lookup: Callable[[str], Awaitable[RunInfo | None]],
        visible: Callable[[], Awaitable[bool]],
    ) -> None:
        self._infos, self._filter, self._lookup, self._visible = infos, event_filter, lookup, visible
        self._hidden: set[str] = set()
        self._translators: dict[str, RunTranslator] = {}
        self._over: set[str] = set()
        self._seq = 0
        self._at_ms = 0

    async def events(self, items: Iterable[Item]) -> list[ProtocolEvent]:
        out: list[ProtocolEvent] = []
        for item in items:
            if isinstance(item, NewFrames):
                await self._frames(item, out)
            elif isinstance(item, RunDone):
                await self._done(item, out)
        return out

    async def _frames(self, batch: NewFrames, out: list[ProtocolEvent]) -> None:
        frames = batch.frames
        translator = await self._translator(frames.run_id)
        if translator is None or frames.run_id in self._over:
            return
        self._at_ms = frames.at_ms
        self._seq = max(self._seq, sequence_at(batch.offset))
        if frames.is_end_mark:
            return
        self._come_to(self._seq + PER_RECORD)
        for number in range(batch.first, len(frames.frames)):
            name, data = frames.frames[number]
            try:
                facts = translator.frame(frames.attempt, name, data)
            except Exception:  # the application's data: what it makes of one frame must not end the stream
                fields = {"run_id": frames.run_id, "run_attempt": frames.attempt, "thread_id": frames.thread_id}
                seq = frames.seq + number
                logger.exception("run %s: frame %d is not shown as an event", frames.run_id, seq, extra=fields)
                continue
            self._tell(facts, f"{frames.run_id}:{frames.attempt}", frames.seq + number, out)

    async def _done(self, done: RunDone, out: list[ProtocolEvent]) -> None:
        run_id = done.run_id
        began = run_id in self._translators
        translator = await self._translator(run_id)
        self._translators.pop(run_id, None)
        if translator is None or run_id in self._over:
            return
        self._over.add(run_id)
        self._come_to(max(self._seq, self._filter.reached) + PER_RECORD)
        if not began:  # it ended before it emitted anything, just now
            self._seq = max(self._seq, self._filter.reached)
        self._tell(translator.ended(done.end), run_id, "end", out)

    def _come_to(self, seq: int) -> None:
        if self._filter.come_to(seq):
            for translator in self._translators.values():
                translator.filter_changed()

    async def _translator(self, run_id: str) -> RunTranslator | None:
        """None for a run that is not shown."""
        translator = self._translators.get(run_id)
        if translator is not None:
            return translator
        info = self._infos.get(run_id)
        if info is None:
            info = self._infos[run_id] = await self._lookup(run_id) or RunInfo("", False)
        if not info.shown or run_id in self._hidden:
            return None
        if not await self._visible():
            self._hidden.add(run_id)
            return None
        translator = self._translators[run_id] = RunTranslator(run_id, info.graph_name, self._filter)
        return translator

    def _tell(self, facts: list[Fact], run: str, place: int | str, out: list[ProtocolEvent]) -> None:
        """`run` and `place`: where the facts come from, which is the id of those that have none."""
        for nth, fact in enumerate(facts):
            self._seq += 1
            if fact.data is None or self._seq <= self._filter.since:
                continue
            # A place needs no escapes: it is made of ids and numbers.
            event_id = (
                b'"%b:%b:%d"' % (run.encode(), str(place).encode(), nth) if fact.id is None else orjson.dumps(fact.id)
            )
            body = (
                b'{"type":"event","event_id":%b,"seq":%d,"method":"%b","params":{"namespace":%b,"timestamp":%d,"data":%b}}'
                % (
                    event_id,
                    self._seq,
                    fact.method.encode(),
                    orjson.dumps(fact.namespace) if fact.namespace else b"[]",
                    self._at_ms,
                    fact.data or b"{}",
                )
            )
            out.append(ProtocolEvent(self._seq, fact.method, fact.namespace, fact.name, body))
