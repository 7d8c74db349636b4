"""Ids: made anew, read from a client's text, derived from a graph's name."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
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


def stateless_thread_id(run_id: str) -> str:
    """The id of a stateless run's own thread: a UUIDv7 of the same time."""
    raw = UUID(run_id).bytes
    return _derived(raw[:6], raw, b"stateless")


def fired_run_id(cron_id: str, due: str) -> str:
    """The id of the run that a cron creates for a time (ISO-8601): a UUIDv7 of that time."""
    milliseconds = int(datetime.fromisoformat(due).timestamp() * 1000)
    return _derived(milliseconds.to_bytes(6, "big"), f"{cron_id} {due}".encode(), b"cron")


def keyed_id(request_id: str, begun_at: datetime, n: int) -> str:
    """The id of the n-th object that a request with an idempotency key makes: a UUIDv7 of the time it began."""
    milliseconds = int(begun_at.timestamp() * 1000)
    return _derived(milliseconds.to_bytes(6, "big"), f"{request_id} {begun_at.isoformat()} {n}".encode(), b"keyed")


def _derived(milliseconds: bytes, source: bytes, purpose: bytes) -> str:
    """A UUIDv7 of this time, the rest of it a digest."""
    made = bytearray(milliseconds + blake2b(source, digest_size=10, person=purpose).digest())
    made[6] = 0x70 | (made[6] & 0x0F)
    made[8] = 0x80 | (made[8] & 0x3F)
    return str(UUID(bytes=bytes(made)))
