"""The time as commands and events have it. (The domain reads no clock: it gets the command's `at`.)"""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """Now in ISO-8601, UTC, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
