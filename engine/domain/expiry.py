"""The time to live of a thread: its form, and when it is over. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from threadlog.engine.domain.commands.base import JsonObject

MOST_MINUTES = 100 * 365 * 24 * 60
"""A hundred years: what is longer is a slip of a client, and would pass the last year that times can have."""


class Ttl(NamedTuple):
    """What becomes of a thread after so many idle minutes."""

    strategy: Literal["delete", "keep_latest"]
    minutes: float

    @property
    def wire(self) -> JsonObject:
        """As commands and events have it."""
        return {"strategy": self.strategy, "ttl": self.minutes}


def check_ttl(ttl: Any) -> Ttl:
    """The ttl of its wire form. Raises ValueError, naming what is wrong."""
    if not isinstance(ttl, dict):
        raise ValueError("`ttl` must be an object")
    strategy: Any = ttl.get("strategy", "delete")
    minutes: Any = ttl.get("ttl")
    if strategy not in ("delete", "keep_latest"):
        raise ValueError("`ttl.strategy` must be delete or keep_latest")
    if type(minutes) not in (int, float) or not 0 < minutes <= MOST_MINUTES:
        raise ValueError(f"`ttl.ttl` must be minutes, more than 0 and at most {MOST_MINUTES}")
    return Ttl(strategy, minutes)


def ttl_of(ttl: JsonObject | None) -> Ttl | None:
    """The ttl of an event; None without one, or if a log holds one that no decider let pass."""
    if ttl is None:
        return None
    try:
        return check_ttl(ttl)
    except ValueError:
        return None


def is_over(ttl: Ttl, since: str, at: str) -> bool:
    """Whether a thread idle `since` has expired at `at`, both ISO times."""
    return datetime.fromisoformat(since) + timedelta(minutes=ttl.minutes) <= datetime.fromisoformat(at)
