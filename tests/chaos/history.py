"""What became of every run: as the log tells it, and as the nodes' own marks do."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from threadlog.engine.log.history import LoggedEvent, LoggedHistory
from threadlog.engine.log.port import Log, Record, Topic
from threadlog.engine.log.records import Frames

ENDS = frozenset(
    ("run.succeeded", "run.failed", "run.timed_out", "run.interrupted", "run.rolled_back", "run.deleted")
)  # fmt: skip

Event = tuple[int, int, int]  # of `talk`: attempt, step, number


@dataclass
class Run:
    """One run, by the log's account. `lost`: how many attempts lost their executor."""

    run_id: str
    thread_id: str
    graph: str
    steps: int
    resumes: bool
    temporary: bool
    attempts: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    lost: int = 0
    error: Any = None
    shown: list[Event] = field(default_factory=list)  # its custom events, as a reader of the log sees them
    reached: tuple[int, int] = (0, 0)  # attempt and number of the frame that comes next

    @property
    def end(self) -> str:
        return self.ends[0] if self.ends else ""


@dataclass
class Told:
    """The accepted events of a log, run by run."""

    runs: dict[str, Run] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)  # threads
    records: list[LoggedEvent] = field(default_factory=list)

    def add(self, happened: LoggedEvent) -> None:
        self.records.append(happened)
        for event in happened.record.events:
            kind = event["type"]
            run = self.runs.get(event.get("run_id", ""))
            if kind == "run.created":
                self._created(event)
            elif kind == "thread.deleted":
                self.deleted.add(event["thread_id"])
                for one in self.runs.values():
                    if one.thread_id == event["thread_id"] and not one.ends:
                        one.ends.append(kind)
            elif run is not None and kind == "run.scheduled":
                run.attempts.append(event["attempt"])
            elif run is not None and kind == "run.lease_expired":
                run.lost += 1
            elif run is not None and kind in ENDS:
                run.ends.append(kind)
                run.error = event.get("error")
                if run.resumes and kind == "run.succeeded":
                    self._answered(run)

    def _created(self, event: dict[str, Any]) -> None:
        asked = event["run"]
        metadata = asked.get("metadata") or {}
        run = Run(
            event["run_id"],
            event["thread_id"],
            metadata.get("graph", ""),
            metadata.get("steps", 0),
            (asked.get("kwargs") or {}).get("command") is not None,
            event.get("temporary", False),
        )
        if run.run_id in self.runs:
            self.runs[run.run_id].ends.append("created twice")
        last = next((other for other in reversed(self.runs.values()) if other.thread_id == run.thread_id), None)
        if run.resumes and last is not None and last.resumes and last.end == "run.succeeded":
            run.steps = 0  # as in `_answered`; the first of the two was quicker than the client
        self.runs.setdefault(run.run_id, run)

    def _answered(self, run: Run) -> None:
        """The same answer given again (a request sent twice because its reply got lost) finds nothing left to do."""
        for other in self.runs.values():
            if other.thread_id == run.thread_id and other.resumes and not other.ends:
                other.steps = 0

    def threads(self) -> dict[str, list[Run]]:
        """The runs of each thread that still exists, in the order of their creation."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs.values():
            if run.thread_id not in self.deleted:
                found[run.thread_id].append(run)
        return found


async def told(log: Log) -> Told:
    """Read all of `events`, and the frames of `stream`."""
    result = Told()
    async with aclosing(LoggedHistory(log, range(log.partitions)).until_now()) as past:
        async for happened in past:
            result.add(happened)
    for partition in range(log.partitions):
        async for record in _records(log, Topic.STREAM, partition):
            _show(result, Frames.decode(record.value))
    return result


async def _records(log: Log, topic: Topic, partition: int) -> AsyncIterator[Record]:
    start, end = await log.bounds(topic, partition)
    while start < end:
        records = await log.read(topic, partition, start, end=end)
        if not records:
            return
        for record in records:
            yield record
        start = records[-1].offset + 1


def _show(result: Told, frames: Frames) -> None:
    """Each frame once, and none of an attempt that a later one has replaced: the rule for readers of `stream`."""
    run = result.runs.get(frames.run_id)
    if run is None:
        return
    attempt, number = run.reached
    if frames.attempt < attempt:
        return
    if frames.attempt > attempt:
        number = 0
    for i, (name, data) in enumerate(frames.frames):
        if frames.seq + i >= number and name == b"custom":
            run.shown.append(event_of(orjson.loads(data)))
    run.reached = (frames.attempt, max(number, frames.seq + len(frames.frames)))


def event_of(data: Any) -> Event:
    return data["attempt"], data["step"], data["event"]


@dataclass
class Stay:
    """One attempt of a run in one process: from its first mark to its last, in nanoseconds."""

    run_id: str
    attempt: int
    pid: int
    begin: int
    end: int
    sent: list[Event] = field(default_factory=list)


def stays(folder: Path) -> dict[str, list[Stay]]:
    """By thread, in the order of their beginnings."""
    found: dict[str, list[Stay]] = {}
    for path in folder.glob("*.jsonl"):
        of_thread: dict[tuple[str, int, int], Stay] = {}
        for line in path.read_text().splitlines():
            try:
                mark = json.loads(line)
            except json.JSONDecodeError:  # empty, or cut by SIGKILL: that process did not get further
                continue
            key = (mark["run"], mark["attempt"], mark["pid"])
            stay = of_thread.setdefault(key, Stay(*key, begin=mark["at"], end=mark["at"]))
            stay.end = max(stay.end, mark["at"])
            if mark["what"] == "sent":
                stay.sent.append((mark["attempt"], mark["step"], mark["event"]))
        found[path.stem] = sorted(of_thread.values(), key=lambda stay: stay.begin)
    return found
