"""Which of the runs that wait for an executor starts next: the settings of their threads. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from threadlog.engine.domain.commands.base import JsonObject

MOST_URGENT, LEAST_URGENT = -5, 5
DEFAULT_GROUP = "default"
CRON_GROUP = "crons"
"""Of runs of crons on threads without settings: however many are due, other runs start in turn with them."""
GROUP_CHARACTERS = 256


class Priority(NamedTuple):
    """The lower, the more urgent. Runs of the same priority start in turn by group, within a group in order."""

    priority: int = 0
    fairness_group: str = DEFAULT_GROUP

    @property
    def wire(self) -> JsonObject:
        """As commands and events have it."""
        return {"priority": self.priority, "fairness_group": self.fairness_group}


def check_priority(settings: Any) -> Priority:
    """The settings of their wire form, or as an application's function returns them: what is missing or None has its
    default, None alone is both. Raises ValueError, naming what is wrong."""
    if settings is None:
        return Priority()
    if not isinstance(settings, dict):
        raise ValueError("`priority` must be an object")
    priority, group = settings.get("priority"), settings.get("fairness_group")
    if priority is not None and (type(priority) is not int or not MOST_URGENT <= priority <= LEAST_URGENT):
        raise ValueError(f"`priority.priority` must be an integer from {MOST_URGENT} to {LEAST_URGENT}")
    if group is not None and (type(group) is not str or len(group) > GROUP_CHARACTERS):
        raise ValueError(f"`priority.fairness_group` must be a text of at most {GROUP_CHARACTERS} characters")
    return Priority(priority or 0, group or DEFAULT_GROUP)


def priority_of(settings: JsonObject | None) -> Priority | None:
    """The settings of an event; None without, or if a log holds some that no decider let pass."""
    if settings is None:
        return None
    try:
        return check_priority(settings)
    except ValueError:
        return None
