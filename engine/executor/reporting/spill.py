"""Overflow of a queue of stream frames, in a temporary file: first in, first out.

A node that runs on the event loop can't be made to wait where it writes, for the loop sends what it writes. So what it
has streamed beyond what fits into memory goes to disk, and the run waits at the end of the superstep until it has left.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections import deque
from typing import BinaryIO, cast

SPILL_BYTES = 2 * 1024**3
_READ_BYTES = 1024 * 1024
_HEAD = struct.Struct("!II")  # lengths of a frame's name and data

Frame = tuple[bytes, bytes]


class StreamTooFast(RuntimeError):
    """A node streams faster than the log takes it, for too long."""


class Spill:
    """Frames on disk. `put` may be called from any thread."""

    def __init__(self, most_bytes: int = SPILL_BYTES) -> None:
        """`most_bytes`: of the file. Raises OSError when there can't be such a file."""
        self.most_bytes = most_bytes
        file = tempfile.TemporaryFile(prefix="threadlog-stream-", buffering=0)  # noqa: SIM115  closed by `take`
        self._file = cast(BinaryIO, file)
        self._descriptor = self._file.fileno()
        self._lock = threading.Lock()
        self._written = self._read = 0
        self._after: deque[Frame] = deque()  # what the disk did not take
        self.count = 0  # frames

    @property
    def too_large(self) -> bool:
        """Nodes must not put any more."""
        return self._written > self.most_bytes or bool(self._after)

    @property
    def ended(self) -> bool:
        """All has been taken; there is no file any more."""
        return self._file.closed

    def put(self, name: bytes, data: bytes) -> bool:
        """Add a frame; False if the last one has been taken meanwhile: this is not to be used any more."""
        with self._lock:
            if self._file.closed:
                return False
            if not self._after:
                record = b"".join((_HEAD.pack(len(name), len(data)), name, data))
                try:
                    taken = os.pwrite(self._descriptor, record, self._written)
                except OSError:
                    taken = 0
                if taken == len(record):
                    self._written += taken
                else:
                    self._after.append((name, data))
            else:
                self._after.append((name, data))
            self.count += 1
            return True

    def take(self) -> list[Frame]:
        """The next frames, about a megabyte of them; when none are left, the file is gone."""
        with self._lock:
            if self._read < self._written:
                frames = self._from_file()
            else:
                frames = list(self._after)
                self._after.clear()
            self.count -= len(frames)
            if not self.count:
                self._file.close()
            return frames

    def _from_file(self) -> list[Frame]:
        size = min(_READ_BYTES, self._written - self._read)
        chunk = os.pread(self._descriptor, size, self._read)
        frames: list[Frame] = []
        at = 0
        while at + _HEAD.size <= len(chunk):
            name, data = _HEAD.unpack_from(chunk, at)
            end = at + _HEAD.size + name + data
            if end > len(chunk):
                if frames:
                    break
                chunk = os.pread(self._descriptor, end, self._read)  # one that is larger than what is read at once
            start = at + _HEAD.size
            frames.append((chunk[start : start + name], chunk[start + name : end]))
            at = end
        self._read += at
        return frames
