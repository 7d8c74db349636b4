"""Frame cursor and end of a run: how far a client is in the run's frames, and when the run's stream is complete."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import orjson

from threadlog.engine.log.records import Frames

RunEndKind = Literal["success", "error", "timeout", "interrupted", "gone"]

# Events after which a run emits nothing more that a client should see.
_WITH_FRAMES: dict[str, RunEndKind] = {"run.succeeded": "success", "run.failed": "error", "run.timed_out": "timeout"}
_AT_ONCE: dict[str, RunEndKind] = {"run.interrupted": "interrupted", "run.rolled_back": "gone", "run.deleted": "gone"}


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended; `frames` of `attempt` belong before the end (0, 0 when nothing is to be waited for).

    `marked`: so does its mark (`engine.processor.run_ends`), and what comes before that.
    """

    kind: RunEndKind
    attempt: int = 0
    frames: int = 0
    error: dict[str, Any] | None = None
    interrupts: dict[str, list[Any]] | None = None
    marked: bool = False


def run_end_of(event: dict[str, Any], run_id: str) -> RunEnd | None:
    """The end that this event means for the run, if any."""
    kind = event["type"]
    if kind == "thread.deleted":
        return RunEnd("gone")
    if event.get("run_id") != run_id:
        return None
    if kind in _WITH_FRAMES:
        return RunEnd(
            _WITH_FRAMES[kind],
            event.get("attempt", 0),
            event.get("frames", 0),
            event.get("error"),
            event.get("interrupts"),
        )
    return RunEnd(_AT_ONCE[kind]) if kind in _AT_ONCE else None


def run_end_of_row(row: asyncpg.Record) -> RunEnd | None:
    """The end that a row of `projections.queries.runs.progress` means, None while its run is pending or running."""
    if row["status"] in ("pending", "running"):
        return None
    error = None if row["error"] is None else orjson.loads(row["error"])
    return RunEnd(row["status"], row["attempt"], row["frames"] or 0, error)


VALUES = frozenset((b"values", b"~output"))
"""Names of the frames that hold a run's values: `~output`, which clients never see, has the final ones of a run whose
stream modes lack `values`."""

FROM_START = frozenset(("-1", "-", "0"))
"""`Last-Event-ID` of a client that wants everything from the beginning."""

_ATTEMPT = 1_000_000_000
_DIGITS = 18  # offsets have 64 bits


@dataclass(frozen=True, slots=True)
class EventId:
    """Where a client is: the record's offset in `stream`, the attempt, the frame's number in it.

    As text `<offset>-<attempt * 10^9 + number>`, and `-<n>` more for the nth thing shown after that frame which is
    none. The offset is where to look; attempt and number say what the client has, also when a crash of the log's
    database moved unflushed frames to other offsets.
    """

    offset: int
    attempt: int
    number: int
    sub_index: int = 0

    @property
    def position(self) -> int:
        """The second part; one more for the frame after it."""
        return self.attempt * _ATTEMPT + self.number

    def __str__(self) -> str:
        text = f"{self.offset}-{self.position}"
        return f"{text}-{self.sub_index}" if self.sub_index else text

    @staticmethod
    def parse(text: str) -> EventId | None:
        """The id, or None when it is not one of ours."""
        parts = text.strip().split("-")
        if not 2 <= len(parts) <= 3 or not all(part.isdecimal() and len(part) <= _DIGITS for part in parts):
            return None
        attempt, number = divmod(int(parts[1]), _ATTEMPT)
        return EventId(int(parts[0]), attempt, number, int(parts[2]) if len(parts) == 3 else 0)


class FrameCursor:
    """Which frames of a run count: each once, none of an attempt that a later one has replaced.

    `next_frame`: (attempt, number of its next frame) for a client that has what came before. None: unknown, the first
    frame that comes sets it.
    """

    __slots__ = ("attempt", "ended", "error_seen", "is_set", "next_number")

    def __init__(self, next_frame: tuple[int, int] | None = None) -> None:
        self.attempt, self.next_number = next_frame or (0, 0)
        self.is_set = next_frame is not None
        self.error_seen = False
        self.ended = False

    def admit(self, frames: Frames) -> int | None:
        """The index of the record's first frame that is new, None if none is, or if it is the mark of the run's end."""
        if frames.is_end_mark:
            self.ended = True
            return None
        if frames.attempt < self.attempt:
            return None
        if frames.attempt > self.attempt:
            self.attempt, self.next_number, self.error_seen = frames.attempt, 0, False
        self.is_set = True
        count = len(frames.frames)
        first = max(0, self.next_number - frames.seq)
        self.next_number = max(self.next_number, frames.seq + count)
        if any(name == b"error" for name, _ in frames.frames):
            self.error_seen = True
        return first if first < count else None

    def reached(self, end: RunEnd) -> bool:
        """Whether every frame that belongs before this end has passed."""
        if end.marked and not self.ended:
            return False
        if end.frames == 0:  # of a cancelled run only known once its executor has stopped: its streams end before
            return True
        return self.attempt > end.attempt or (self.attempt == end.attempt and self.next_number >= end.frames)


UNCOUNTED_WAIT_SECONDS = 0.5
"""Wait for the last frames of a run of which this server has seen none: it can't tell when they have all come."""


class EndOfRun:
    """How one run ended, and whether the frames that belong before its end have passed or are given up.

    They are waited for from the first `seconds_to_wait` after the end on, `frame_wait_seconds` at most.
    """

    __slots__ = ("_frame_wait_seconds", "_give_up_at", "_run_id", "cursor", "end")

    def __init__(self, run_id: str, frame_wait_seconds: float, cursor: FrameCursor) -> None:
        self.cursor = cursor
        self.end: RunEnd | None = None
        self._run_id = run_id
        self._frame_wait_seconds = frame_wait_seconds
        self._give_up_at: float | None = None

    def set(self, end: RunEnd | None) -> bool:
        """Note how the run ended. Returns False if that was known already, or `end` is None."""
        if self.end is not None or end is None:
            return False
        self.end = end
        return True

    def on_event(self, event: dict[str, Any]) -> bool:
        """Returns whether this event of the thread is the run's end."""
        return self.end is None and self.set(run_end_of(event, self._run_id))

    def has_all_frames(self) -> bool:
        return self.end is not None and self.cursor.reached(self.end)

    def has_all_counted_frames(self) -> bool:
        """As `has_all_frames`, where it is known which these are: of a run that is being stopped it is not."""
        return self.end is not None and (self.end.frames > 0 or self.end.marked) and self.cursor.reached(self.end)

    def is_over(self) -> bool:
        """Whether the run has ended and none of its frames is waited for any more."""
        return self.has_all_frames() or self.has_given_up()

    def has_given_up(self) -> bool:
        return self._give_up_at is not None and asyncio.get_running_loop().time() >= self._give_up_at

    def seconds_to_wait(self, at_most: float) -> float:
        """How long to wait for the next frame or the end before `is_over` is to be asked again."""
        if self.end is None:
            return at_most
        now = asyncio.get_running_loop().time()
        if self._give_up_at is None:
            known = self.cursor.is_set or self.end.marked
            self._give_up_at = now + (self._frame_wait_seconds if known else UNCOUNTED_WAIT_SECONDS)
        return max(0.0, min(at_most, self._give_up_at - now))
