"""Ids: made anew, read from a client's text, derived from a graph's name."""

from __future__ import annotations

import re
from functools import lru_cache
from uuid import UUID, uuid5

import uuid_utils

# LangGraph Server's: a graph's default assistant has the same id on every server of this API.
_ASSISTANTS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_id() -> str:
    """An id that no other process makes: UUIDv7, so that ids sort by their time."""
    return str(uuid_utils.uuid7())


@lru_cache(maxsize=1024)
def default_assistant_id(graph_id: str) -> str:
    """The id of the assistant that every graph has without being asked."""
    return str(uuid5(_ASSISTANTS, graph_id))


def as_uuid(value: str) -> str | None:
    """The canonical form, or None when it is not a UUID."""
    if _CANONICAL.fullmatch(value):
        return value
    if len(value) < 32:  # a graph's name, mostly: an exception costs more than looking
        return None
    try:
        return str(UUID(value))
    except ValueError:
        return None
