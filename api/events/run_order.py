"""Run order: holds back frames until the end of the run before them is known.

Frames and events come to the api by two topics. A run's first frame may thus be here before the end of the run before,
which has happened first: its place is before them, for clients that are here now as for those that read the log later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from threadlog.engine.log.records import Frames

Batch = tuple[int, Frames]
"""A record of `stream`: its offset, and what is in it."""


class RunOrder:
    """The records of one thread, each once the ends before it are known. `is_open(run_id)`: a run's end is to come.

    More than `max_bytes` are not held back.
    """

    def __init__(self, is_open: Callable[[str], bool], *, max_bytes: int) -> None:
        self._is_open, self._max_bytes = is_open, max_bytes
        self._held: deque[Batch] = deque()
        self._held_bytes = 0
        self._give_up_at: float | None = None
        self._last = ""  # the run whose frames passed last
        self._marked = ""  # the run whose mark passed last

    def passed(self, offset: int, frames: Frames) -> list[Batch]:
        """What may go on, now that this record has come."""
        if not self._held and not self._waits(frames):
            return [self._let(offset, frames)]
        self._held.append((offset, frames))
        self._held_bytes += sum(len(data) for _, data in frames.frames)
        return self.given_up(force=True) if self._held_bytes > self._max_bytes else self.released()

    def released(self) -> list[Batch]:
        """What may go on, now that something has happened."""
        out: list[Batch] = []
        while self._held and not self._waits(self._held[0][1]):
            out.append(self._let(*self._held.popleft()))
        if not self._held:
            self._held_bytes, self._give_up_at = 0, None
        return out

    def seconds_to_wait(self, at_most: float, patience_seconds: float) -> float:
        """How long to wait before `given_up` is to be asked; a record is held back for `patience_seconds`."""
        if not self._held:
            return at_most
        now = asyncio.get_running_loop().time()
        if self._give_up_at is None:
            self._give_up_at = now + patience_seconds
        return max(0.0, min(at_most, self._give_up_at - now))

    def given_up(self, *, force: bool = False) -> list[Batch]:
        """All that is held back, if it has been so for too long."""
        waits = self._give_up_at is None or asyncio.get_running_loop().time() < self._give_up_at
        if not self._held or (waits and not force):
            return []
        out = [self._let(*batch) for batch in self._held]
        self._held.clear()
        self._held_bytes, self._give_up_at = 0, None
        return out

    def _waits(self, frames: Frames) -> bool:
        if self._marked and self._marked != frames.run_id and self._is_open(self._marked):
            return True
        before = self._last
        return not frames.is_end_mark and before not in ("", frames.run_id) and self._is_open(before)

    def _let(self, offset: int, frames: Frames) -> Batch:
        if frames.is_end_mark:
            self._marked = frames.run_id
        else:
            self._last = frames.run_id
        return offset, frames
