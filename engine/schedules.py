"""Schedules of crons: when one is due next, by its cron expression, time zone and end.

Five fields (minute, hour, day of month, month, day of week), or six with the seconds as the *last* one. Around a change
of the clock, as Debian's cron has it: a job at a fixed time of day that the clock skips is due when the clock goes on,
one at a time that comes twice is due once; a wildcard in the minutes or hours is due at every time that matches.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SCHEDULE_CHARACTERS = 250
ZONE_CHARACTERS = 100

_MINUTE = timedelta(minutes=1)


class ScheduleError(ValueError):
    """A schedule, a time zone or an end that can't be understood, or a schedule that never comes."""


def next_due(schedule: str, timezone: str | None, after: datetime, end: str | None = None) -> str | None:
    """The first time after `after` as ISO-8601 in UTC; None: it would be after `end`. Raises `ScheduleError`."""
    due = _next(schedule, _zone(timezone), after)
    return None if end is not None and due > datetime.fromisoformat(end) else iso(due)


def end_of(text: str) -> str:
    """An ISO-8601 time as ISO-8601 in UTC; one without an offset is UTC. Raises `ScheduleError`."""
    try:
        at = datetime.fromisoformat(text)
        return iso(at if at.tzinfo is not None else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ScheduleError("end_time: must be an ISO-8601 time, such as 2030-01-31T12:00:00+00:00") from None


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


@lru_cache(maxsize=256)
def _zone(name: str | None) -> tzinfo:
    if name is None or name == "UTC":
        return UTC
    try:
        if len(name) > ZONE_CHARACTERS:
            raise ValueError("too long")
        return ZoneInfo(name)
    except Exception:  # no such file, a folder, a path out of the data, not the format
        raise ScheduleError("timezone: must be an IANA time zone, such as Europe/Berlin") from None


def _next(schedule: str, zone: tzinfo, after: datetime) -> datetime:
    fields = schedule.split()
    if len(schedule) > SCHEDULE_CHARACTERS:
        raise ScheduleError(f"schedule: has {len(schedule)} characters; at most {SCHEDULE_CHARACTERS} are allowed")
    if len(fields) not in (5, 6):
        raise ScheduleError("schedule: must have five fields, or six with the seconds last")
    expression = " ".join((fields[5], *fields[:5]) if len(fields) == 6 else fields)
    fixed = zone is not UTC and not fields[0].startswith("*") and not fields[1].startswith("*")
    local = after.astimezone(zone)
    try:
        for due in CronSim(expression, local.replace(tzinfo=None, fold=0) if fixed else local):
            at = _first_moment(due, zone) if fixed else due.astimezone(UTC)
            if at > after:  # a wall-clock time is before it where the clock has been put back
                return at
    except CronSimError as error:
        raise ScheduleError(f"schedule: {error} in {schedule!r}") from None
    except (ValueError, OverflowError, AssertionError, TypeError, IndexError):
        raise ScheduleError(f"schedule: {schedule!r} can't be understood") from None
    raise ScheduleError(f"schedule: {schedule!r} never comes")


def _first_moment(local: datetime, zone: tzinfo) -> datetime:
    """The first time that the clock shows this, or the first after it that it shows at all."""
    while True:
        at = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None, fold=0) == local:
            return at
        local = local.replace(second=0) + _MINUTE
