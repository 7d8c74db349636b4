"""How a list is cut into stored segments so that storage grows with what was added. Pure: no encoding, no I/O.

A list is the concatenation of segments. What of a new value is found in segments that are stored already is kept;
the rest becomes new segments. Sixteen neighbours of one size class are written again as one (as in a log-structured
merge tree), so a list that only grows is written about log16(n) times and has at most 15 segments per size class.

Elements are compared by signature: equal signatures mean equal stored bytes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Signature = Hashable
_FAN = 16
_ALIKE = 64  # segments remembered that begin with the same element, the longest ones


@dataclass(frozen=True, slots=True)
class Segment:
    """A stored run of elements."""

    hash: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Elements `start` to `end` of the new list: in `stored`, or to be written (None)."""

    start: int
    end: int
    stored: Segment | None


class Segments:
    """The segments known to be stored for a thread, found by their first element."""

    def __init__(self) -> None:
        self._by_first: dict[Signature, list[Segment]] = {}
        self._hashes: set[str] = set()
        self._elements: set[Signature] = set()

    def add(self, segment: Segment) -> None:
        """From now on `split` may refer to this segment."""
        if segment.hash not in self._hashes and segment.signatures:
            self._hashes.add(segment.hash)
            alike = self._by_first.setdefault(segment.signatures[0], [])
            insort(alike, segment, key=_shortness)
            if len(alike) > _ALIKE:
                self._hashes.discard(alike.pop().hash)
            self._elements.update(segment.signatures)

    def __contains__(self, hash: str) -> bool:
        return hash in self._hashes

    def clear(self) -> None:
        self._by_first.clear()
        self._hashes.clear()
        self._elements.clear()

    def split(self, signatures: Sequence[Signature]) -> list[Part]:
        """Parts whose concatenation is the list with these signatures, in order, without gaps."""
        return _merged(self._matched(signatures))

    def _matched(self, signatures: Sequence[Signature]) -> list[Part]:
        parts: list[Part] = []
        at, end = 0, len(signatures)
        open_at: int | None = None  # where the run of elements without a segment began …
        open_old = False  # … and whether they are in some stored segment that as a whole no longer fits
        while at < end:
            found = self._longest(signatures, at)
            old = found is None and signatures[at] in self._elements
            if open_at is not None and (found is not None or old != open_old):
                # Elements that were there before get a segment of their own, so that the next change beside them
                # does not write them once more.
                parts.append(Part(open_at, at, None))
                open_at = None
            if found is not None:
                parts.append(Part(at, at + len(found.signatures), found))
                at += len(found.signatures)
            else:
                if open_at is None:
                    open_at, open_old = at, old
                at += 1
        if open_at is not None:
            parts.append(Part(open_at, end, None))
        return parts

    def _longest(self, signatures: Sequence[Signature], at: int) -> Segment | None:
        for segment in self._by_first.get(signatures[at], ()):
            if tuple(signatures[at : at + len(segment.signatures)]) == segment.signatures:
                return segment
        return None


def _shortness(segment: Segment) -> int:
    return -len(segment.signatures)


def _level(part: Part) -> int:
    """The size class: 1-15 elements 0, 16-255 1, …"""
    return ((part.end - part.start).bit_length() - 1) // 4


def _merged(parts: list[Part]) -> list[Part]:
    out: list[Part] = []
    for part in parts:
        out.append(part)
        while True:
            if len(out) >= 2 and out[-1].stored is None and _level(out[-2]) < _level(out[-1]):
                # What is being written takes smaller ones before it along: size classes fall from left to right.
                out[-2:] = [Part(out[-2].start, out[-1].end, None)]
            elif len(out) >= _FAN and len({_level(p) for p in out[-_FAN:]}) == 1:
                out[-_FAN:] = [Part(out[-_FAN].start, out[-1].end, None)]
            else:
                break
    if out and len(out) > _FAN * (_level(Part(0, out[-1].end, None)) + 2):  # worn by edits: start afresh
        return [Part(0, out[-1].end, None)]
    return out
