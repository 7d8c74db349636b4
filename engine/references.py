"""References to stored channel values, as they stand in checkpoints and events (ARCHITECTURE "Checkpoints")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Reference = dict[str, Any]


def hashes(reference: Reference) -> Iterator[str]:
    """The content hashes a reference needs to be read, in order; none for an inline value."""
    if (h := reference.get("h")) is not None:
        yield h
    elif (segments := reference.get("s")) is not None:
        for segment in segments:
            yield segment[0]
    elif (fields := reference.get("d")) is not None:
        for field in fields.values():
            yield from hashes(field)


def needed(references: Iterable[Reference]) -> set[str]:
    """All content hashes these references need."""
    return {h for reference in references for h in hashes(reference)}
