"""The frames of one attempt on their way into the log: in memory, and beyond what fits there on disk."""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.executor.reporting.spill import Spill
from threadlog.engine.log.records import CHECKPOINT

logger = logging.getLogger(__name__)


class Sending(Protocol):
    """What a queue needs of the buffer that its frames leave through."""

    queued_bytes: int

    @property
    def spill_bytes(self) -> int: ...

    @property
    def full(self) -> bool: ...

    @property
    def on_loop(self) -> bool: ...

    def wake(self, queue: FrameQueue) -> None: ...

    async def room(self, queue: FrameQueue) -> None: ...


class FrameQueue:
    """The frames of one attempt that are not in the log yet. `put` may be called from any thread.

    `held`: until `release` is called they stay here, unless too much is queued in all. `key`: encrypts their data.
    """

    __slots__ = (
        "_buffer",
        "_key",
        "attempt",
        "frames",
        "held",
        "partition",
        "run_id",
        "seq",
        "spill",
        "thread_id",
        "waiting",
    )

    def __init__(
        self,
        buffer: Sending,
        *,
        run_id: str,
        thread_id: str,
        attempt: int,
        partition: int,
        held: bool = False,
        key: DataKey | None = None,
    ) -> None:
        self._buffer, self._key = buffer, key
        self.run_id, self.thread_id, self.attempt, self.partition = run_id, thread_id, attempt, partition
        self.frames: deque[tuple[bytes, bytes]] = deque()
        self.seq = 0  # of the next frame that leaves; frames put so far = seq + len(frames)
        self.held = held
        self.waiting = False  # the buffer knows that there are frames
        self.spill: Spill | None = None  # frames that come after those in memory

    @property
    def count(self) -> int:
        """Frames put so far. Exact on the loop's thread once nobody else puts."""
        return self.seq + len(self.frames) + (self.spill.count if self.spill is not None else 0)

    @property
    def full(self) -> bool:
        """Who can wait before it puts more should."""
        return self.spill is not None or self._buffer.full

    async def room(self) -> None:
        """Wait until it is not `full`."""
        await self._buffer.room(self)

    def put(self, name: bytes, data: bytes) -> None:
        """Add a frame. What the loop's own thread puts while the log can't keep up goes to disk."""
        if self._key is not None and not name.startswith(CHECKPOINT):
            data = self._key.seal_json(data)
        spill = self.spill
        if spill is None and self._buffer.full and self.waiting and self._buffer.on_loop:
            spill = self._begin_spill()
        if spill is not None and spill.put(name, data):
            return
        self.frames.append((name, data))
        self._buffer.queued_bytes += len(data)  # a lost update between threads shifts the back-pressure a little
        if not self.waiting and (not self.held or self._buffer.full):
            self.waiting = True
            self._buffer.wake(self)

    def release(self) -> None:
        """On the loop: frames put so far and from now on leave."""
        self.held = False  # before looking: a thread looks at it after it has put a frame
        if self.frames and not self.waiting:
            self.waiting = True
            self._buffer.wake(self)

    def _begin_spill(self) -> Spill | None:
        try:
            self.spill = Spill(self._buffer.spill_bytes)
        except OSError as error:
            logger.warning(
                "run %s: what it streams stays in memory, there is no file for it: %s", self.run_id, error,
                extra={"run_id": self.run_id, "thread_id": self.thread_id, "run_attempt": self.attempt},
            )  # fmt: skip
        return self.spill

    def refill(self) -> int:
        """On the loop, when there are no frames in memory: fetch some from disk; returns their bytes."""
        if self.spill is None:
            return 0
        frames = self.spill.take()
        self.frames.extend(frames)
        if self.spill.ended:
            self.spill = None
        return sum(len(data) for _, data in frames)
