"""The time as commands and events have it. (The domain reads no clock: it gets the command's `at`.)"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(slots=True)
class ClockOffset:
    """How far a clock is ahead of the real one: a test server's (`threadlog.testing`) is moved forward."""

    ahead: timedelta = timedelta(0)


CLOCK_OFFSET: ContextVar[ClockOffset | None] = ContextVar("threadlog_clock_offset", default=None)
"""Of the tasks of one test server; nothing else sets it."""


def now() -> datetime:
    """Now, in UTC."""
    offset = CLOCK_OFFSET.get()
    return datetime.now(UTC) if offset is None else datetime.now(UTC) + offset.ahead


def utc_now() -> str:
    """Now in ISO-8601, UTC, with microseconds."""
    return now().isoformat(timespec="microseconds")
