"""Upcasters: an event of an earlier format as one of the present format, for every reader of the log.

An event whose `schema_version` is 2.0 or later has the number before the dot on the wire, as `v`; without it that is 1.
A format that an older one can't be read as has an entry in `UPCASTERS` for each step. What was only added needs none:
the field has a default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from threadlog.engine.domain.events.base import Event

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""By type and `v` of what it takes: it returns the event in the next format, with that `v`. Pure, and never raises."""


def major_of(kind: type[Event]) -> int:
    """The number before the dot of the event's version."""
    return int(kind.schema_version.partition(".")[0])


def upcast(event: dict[str, Any]) -> dict[str, Any]:
    """The event in the present format of its type. One of a later format, or of an unknown type, stays as it is."""
    while (step := UPCASTERS.get((event["type"], event.get("v", 1)))) is not None:
        event = step(event)
    return event
