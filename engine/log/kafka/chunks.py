"""Values above a broker's limit: split into chunks when appended, joined when read.

A value of more than `CHUNK_BYTES` becomes several Kafka records with the same key and these headers (ASCII):

    chunk        <id>:<index>:<count>      id: 32 hex digits of the appended record, index from 0
    chunk-first  <offset>                  on the last chunk only: where the first one is

The record is at its last chunk's offset. Other records may lie between its chunks. A set without its last chunk was not
appended (its producer died or gave up) and does not count; neither does one whose beginning retention has taken.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Half of a broker's default limit of a message (1 MiB): a chunk fits with its key and headers.
CHUNK_BYTES = 512 * 1024

# How much of unfinished sets a tail keeps; what does not fit is read again when the last chunk comes.
PENDING_BYTES = 64 * 1024 * 1024

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The headers of a chunk. `first`: offset of the set's first chunk, on the last one."""

    id: str
    index: int
    count: int
    first: int | None = None

    def headers(self) -> list[tuple[str, bytes]]:
        headers = [("chunk", f"{self.id}:{self.index}:{self.count}".encode())]
        if self.first is not None:
            headers.append(("chunk-first", str(self.first).encode()))
        return headers


def split(value: bytes) -> list[tuple[Chunk, bytes]]:
    """The chunks of a large value; the last one's `first` is for the caller to fill in."""
    id = uuid.uuid4().hex
    view = memoryview(value)
    count = -(-len(value) // CHUNK_BYTES)
    return [(Chunk(id, i, count), bytes(view[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES])) for i in range(count)]


def chunk_of(headers: Iterable[tuple[str, bytes | None]]) -> Chunk | None:
    """The chunk these headers tell of; None for a record that is whole, or whose headers nobody here has written."""
    found = dict(headers)
    told = found.get("chunk")
    if told is None:
        return None
    try:
        id, index, count = told.decode().split(":")
        first = found.get("chunk-first")
        chunk = Chunk(id, int(index), int(count), int(first) if first is not None else None)
    except ValueError:
        return None
    return chunk if 0 <= chunk.index < chunk.count and (chunk.first is None or chunk.first >= 0) else None


class Joiner:
    """Joins the chunks of one topic-partition, as they come by."""

    def __init__(self) -> None:
        self._sets: dict[str, list[bytes]] = {}
        self._bytes = 0

    def add(self, chunk: Chunk, value: bytes) -> bytes | None:
        """The joined value if this is the last chunk and all came by in order; otherwise None."""
        parts = self._sets.get(chunk.id)
        if chunk.index + 1 == chunk.count:
            self._forget(chunk.id)
            complete = parts is not None and len(parts) == chunk.index
            return b"".join([*parts, value]) if parts is not None and complete else None
        if chunk.index == 0:
            self._forget(chunk.id)
            parts = self._sets[chunk.id] = []
        if parts is not None:
            if len(parts) == chunk.index:
                parts.append(value)
                self._bytes += len(value)
            else:
                self._forget(chunk.id)
        while self._bytes > PENDING_BYTES and len(self._sets) > 0:
            self._forget(next(iter(self._sets)))  # the one begun first: its producer may be long gone
        return None

    def _forget(self, id: str) -> None:
        for part in self._sets.pop(id, ()):
            self._bytes -= len(part)
