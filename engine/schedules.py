"""Schedules of crons: when one is due next, by its cron expression, time zone and end.

Five fields (minute, hour, day of month, month, day of week), six with the seconds as the *last* one, or a word such as
`@daily`. What LangGraph Server takes besides (`?`, ranges that go past the end, `L5`) is put into cronsim's words.
Around a change of the clock, as Debian's cron has it: a job at a fixed time of day that the clock skips is due when the
clock goes on, one at a time that comes twice is due once; a wildcard in the minutes or hours is due at every time that
matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SCHEDULE_CHARACTERS = 250
ZONE_CHARACTERS = 100

_MINUTE = timedelta(minutes=1)
_MOST_PUT_BACK = timedelta(hours=3)  # a clock at once; where summer time is two hours, those are the most


_WORDS = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_NAMED = ", ".join(_WORDS)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class _Field(NamedTuple):
    """Its values, what they are called, and whether `?` is `*` in it."""

    first: int
    last: int
    names: tuple[str, ...] = ()
    any: bool = False


_FIELDS = (_Field(0, 59), _Field(0, 23), _Field(1, 31, any=True), _Field(1, 12, _MONTHS), _Field(0, 6, _DAYS, any=True),
           _Field(0, 59))  # fmt: skip
_RANGE = re.compile(r"([0-9]{1,2}|[A-Z]{3})-([0-9]{1,2}|[A-Z]{3})(?:/([1-9][0-9]{0,2}))?")
_LAST_DAY = re.compile(r"L([0-7])")


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
    fields = _WORDS.get(schedule.strip().lower(), schedule).split()
    if len(schedule) > SCHEDULE_CHARACTERS:
        raise ScheduleError(f"schedule: has {len(schedule)} characters; at most {SCHEDULE_CHARACTERS} are allowed")
    if len(fields) not in (5, 6):
        raise ScheduleError("schedule: must have five fields, or six with the seconds last, or be one of " + _NAMED)
    fields = [_in_cronsims_words(field, kind) for field, kind in zip(fields, _FIELDS, strict=False)]
    expression = " ".join((fields[5], *fields[:5]) if len(fields) == 6 else fields)
    fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
    shown = after.astimezone(zone)
    wall = shown.replace(tzinfo=None, fold=0)
    try:
        at = _first_after(after, CronSim(expression, wall), zone, fixed=fixed)
        if at is not None and not fixed:
            put_back = _offset(after, zone) - _offset(min(at, after + _MOST_PUT_BACK), zone)
            if put_back > timedelta(0):  # meanwhile: times that the clock has shown come again
                again = _first_after(after, CronSim(expression, wall - put_back), zone, fixed=False)
                at = at if again is None else min(at, again)
    except CronSimError as error:
        raise ScheduleError(f"schedule: {error} in {schedule!r}") from None
    except (ValueError, OverflowError, AssertionError, TypeError, IndexError):
        raise ScheduleError(f"schedule: {schedule!r} can't be understood") from None
    if at is None:
        raise ScheduleError(f"schedule: {schedule!r} never comes")
    return at


def _in_cronsims_words(field: str, kind: _Field) -> str:
    if kind.any and field == "?":
        return "*"
    return ",".join(_term(term, kind) for term in field.upper().split(","))


def _term(term: str, kind: _Field) -> str:
    if kind.names is _DAYS and (last := _LAST_DAY.fullmatch(term)):
        return f"{last[1]}L"
    if (ends := _RANGE.fullmatch(term)) is None:
        return term
    first, last_ = (_number(end, kind) for end in ends.group(1, 2))
    if not kind.first <= last_ < first <= kind.last:
        return term
    values = [*range(first, kind.last + 1), *range(kind.first, last_ + 1)]
    return ",".join(map(str, values[:: int(ends[3] or 1)]))


def _number(end: str, kind: _Field) -> int:
    return kind.names.index(end) + kind.first if end in kind.names else int(end) if end.isdigit() else -1


def _first_after(after: datetime, walls: Iterable[datetime], zone: tzinfo, *, fixed: bool) -> datetime | None:
    """The first moment after `after` at which the clock shows one of these times, which ascend. `fixed`: one that it
    skips counts as the next that it shows, one that it shows twice as the first."""
    for wall in walls:
        for at in (_first_moment(wall, zone),) if fixed else _moments(wall, zone):
            if at > after:
                return at
    return None


def _moments(wall: datetime, zone: tzinfo) -> Iterator[datetime]:
    """When the clock shows this: once, twice, or never."""
    for fold in (0, 1):
        at = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
            yield at


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _first_moment(local: datetime, zone: tzinfo) -> datetime:
    """The first time that the clock shows this, or the first after it that it shows at all."""
    while True:
        for at in _moments(local, zone):
            return at
        local = local.replace(second=0) + _MINUTE
