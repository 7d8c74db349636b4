"""When a cron is due next: five and six fields, both changes of the clock, ends, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from threadlog.engine.schedules import ScheduleError, end_of, next_due


def after(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(schedule: str, zone: str | None, start: str, count: int) -> list[str]:
    """The next few times after `start` (UTC), without what they have in common."""
    at, found = after(start), []
    for _ in range(count):
        due = next_due(schedule, zone, at)
        assert due is not None
        at = datetime.fromisoformat(due)
        found.append(f"{at:%m-%d %H:%M:%S}")
    return found


def test_five_fields_are_due_at_the_full_minute() -> None:
    assert times("*/20 9 * * *", None, "2026-03-01T08:59:59.5", 4) == [
        "03-01 09:00:00", "03-01 09:20:00", "03-01 09:40:00", "03-02 09:00:00",
    ]  # fmt: skip


def test_the_seconds_are_the_last_of_six_fields() -> None:
    assert times("* * * * * */20", None, "2026-03-01T08:59:50", 3) == [
        "03-01 09:00:00", "03-01 09:00:20", "03-01 09:00:40"
    ]  # fmt: skip
    assert times("0 9 * * MON 30", None, "2026-03-01T00:00:00", 2) == ["03-02 09:00:30", "03-09 09:00:30"]


def test_a_time_is_never_the_one_it_is_asked_after() -> None:
    assert next_due("0 9 * * *", None, after("2026-03-01T09:00:00")) == "2026-03-02T09:00:00.000000+00:00"
    assert next_due("0 9 * * *", None, after("2026-03-01T08:59:59.999999")) == "2026-03-01T09:00:00.000000+00:00"


@pytest.mark.parametrize("schedule", ["30 2 * * *", "30 2 * * * 0"])
def test_a_time_of_day_that_the_clock_skips_is_due_when_the_clock_goes_on(schedule: str) -> None:
    # Berlin, 29 March 2026: 02:00 becomes 03:00, which is 01:00 UTC.
    assert times(schedule, "Europe/Berlin", "2026-03-27T12:00:00", 3) == [
        "03-28 01:30:00", "03-29 01:00:00", "03-30 00:30:00"
    ]  # fmt: skip


@pytest.mark.parametrize("schedule", ["30 2 * * *", "30 2 * * * 0"])
@pytest.mark.parametrize("start", ["2026-10-24T12:00:00", "2026-10-25T00:10:00"])
def test_a_time_of_day_that_comes_twice_is_due_once(schedule: str, start: str) -> None:
    # Berlin, 25 October 2026: 03:00 becomes 02:00, at 01:00 UTC; 02:30 is 00:30 UTC and 01:30 UTC.
    assert times(schedule, "Europe/Berlin", start, 2) == ["10-25 00:30:00", "10-26 01:30:00"]


@pytest.mark.parametrize("schedule", ["30 2 * * *", "30 2 * * * 0"])
def test_in_the_repeated_hour_the_next_one_is_tomorrows(schedule: str) -> None:
    assert times(schedule, "Europe/Berlin", "2026-10-25T01:05:00", 1) == ["10-26 01:30:00"]


def test_a_wildcard_is_due_in_both_repeated_hours_and_in_none_that_is_skipped() -> None:
    assert times("30 * * * *", "America/New_York", "2026-11-01T04:00:00", 4) == [
        "11-01 04:30:00", "11-01 05:30:00", "11-01 06:30:00", "11-01 07:30:00"
    ]  # fmt: skip
    assert times("30 * * * *", "America/New_York", "2026-03-08T05:00:00", 3) == [
        "03-08 05:30:00", "03-08 06:30:00", "03-08 07:30:00"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "day", "schedule"),
    [
        ("Australia/Lord_Howe", "2026-10-04", "0 */3 * * *"),  # half an hour is skipped
        ("Australia/Lord_Howe", "2026-10-04", "*/15 3 * * *"),
        ("Australia/Lord_Howe", "2027-04-04", "*/20 * * * *"),  # half an hour comes twice
        ("Australia/Lord_Howe", "2027-04-04", "45 */1 * * *"),
        ("Africa/Cairo", "2027-04-30", "*/10 0 * * FRI"),  # the first hour of that day is skipped
        ("America/Santiago", "2027-09-05", "*/30 1 * * SUN"),
        ("America/Havana", "2027-11-07", "*/30 0 * * *"),
        ("Antarctica/Troll", "2027-10-31", "*/30 1-2 * * *"),  # two hours come twice
        ("Europe/Berlin", "2026-10-25", "*/10 2 25 10 *"),  # its next match is in another year's summer
    ],
)
def test_a_wildcard_is_due_whenever_the_clock_shows_a_match(zone: str, day: str, schedule: str) -> None:
    at, end = after(day) - timedelta(hours=26), after(day) + timedelta(hours=50)
    shown = CronSim(schedule, datetime(2026, 1, 1))
    every_minute = (at + timedelta(minutes=n) for n in range(1, 76 * 60 + 1))
    expected = [minute for minute in every_minute if _matches(shown, minute.astimezone(ZoneInfo(zone)))]
    found = []
    while (due := next_due(schedule, zone, at, end_of(end.isoformat()))) is not None:
        found.append(at := datetime.fromisoformat(due))
    assert found == expected


def _matches(schedule: CronSim, clock: datetime) -> bool:
    return clock.minute in schedule.minutes and clock.hour in schedule.hours and schedule.match_day(clock.date())


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("@hourly", "11-29 18:00:00"),
        ("@daily", "11-30 00:00:00"),
        ("@midnight", "11-30 00:00:00"),
        ("@Weekly", "12-06 00:00:00"),
        ("@monthly", "12-01 00:00:00"),
        ("@yearly", "01-01 00:00:00"),
        ("0 0 ? * MON", "11-30 00:00:00"),
        ("0 0 1 * ?", "12-01 00:00:00"),
        ("0 0 * * L5", "12-25 00:00:00"),
        ("0 0 * * tue-sun/2", "12-01 00:00:00"),
        ("0 0 * * FRI-TUE/2", "12-01 00:00:00"),
        ("0 22-3 * * *", "11-29 22:00:00"),
        ("50-10/10 * * * *", "11-29 17:50:00"),
        ("* * * * * 50-10/5", "11-29 17:20:50"),
        ("0 0 1 NOV-FEB *", "12-01 00:00:00"),
    ],
)
def test_words_and_forms_that_langgraph_server_takes(schedule: str, due: str) -> None:
    assert times(schedule, None, "2026-11-29T17:20:37", 1) == [due]


def test_nothing_is_due_after_the_end() -> None:
    end = end_of("2026-03-01T09:00:00")  # without an offset: UTC
    assert next_due("0 9 * * *", None, after("2026-03-01T08:00:00"), end) == end
    assert next_due("0 9 * * *", None, after("2026-03-01T09:00:00"), end) is None
    assert end_of("2026-03-01T10:00:00+01:00") == end


@pytest.mark.parametrize(
    "schedule",
    ["", "* * * *", "* * * * * * *", "50-10/0 * * * *", "? * * * *", "0 0 5W * *", "0 0 1 1 * 0 2030",
     "61 * * * *", "* * * * * 60", "x * * * *", "*/0 * * * *", "0 0 30 2 *",
     "L * * * *", "0 0 * * 5#9", "1," * 200 + "1 * * * *", "5L/2 * * * *",
     "* * * * MON#2/2", "@reboot", "٣ * * * *"],
)  # fmt: skip
def test_a_bad_schedule_is_refused_with_a_sentence(schedule: str) -> None:
    with pytest.raises(ScheduleError, match="schedule: "):
        next_due(schedule, None, after("2026-03-01T00:00:00"))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", "../etc/passwd", "/etc/passwd", "", "x" * 5000, "a\0b"])
def test_a_bad_time_zone_is_refused_with_a_sentence(zone: str) -> None:
    with pytest.raises(ScheduleError, match="timezone: "):
        next_due("* * * * *", zone, after("2026-03-01T00:00:00"))


@pytest.mark.parametrize("end", ["soon", "", "2026-13-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_bad_end_is_refused_with_a_sentence(end: str) -> None:
    with pytest.raises(ScheduleError, match="end_time: "):
        end_of(end)
