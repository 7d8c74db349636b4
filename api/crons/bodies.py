"""Request bodies of crons: create, patch, search, count."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from threadlog.api.http.bodies import Body, Filter, Indexed, Limit, Name, Names, Offset, SortOrder, Uuid
from threadlog.api.runs.bodies import RunOptions

_SCHEDULE = Field(description="Five cron fields, six with the seconds last, or a word such as @daily")
_TIMEZONE = Field(description="IANA time zone of the schedule; without one it is UTC")
_END = Field(description="ISO-8601; nothing fires after it. Without an offset it is UTC")


class _CronOptions(RunOptions):
    timezone: Annotated[Name | None, _TIMEZONE] = None
    end_time: Annotated[Name | None, _END] = None
    enabled: bool | None = None


class ThreadCronCreate(_CronOptions):
    """A cron whose runs are on one thread."""

    assistant_id: Annotated[Indexed, Field(min_length=1)]
    schedule: Annotated[Name, _SCHEDULE]


class CronCreate(ThreadCronCreate):
    """A cron whose every run has a thread of its own."""

    on_run_completed: Literal["delete", "keep"] | None = None


class CronPatch(_CronOptions):
    """What is to change. `metadata` is merged; null takes away `end_time`, `timezone` and what the runs are asked."""

    schedule: Annotated[Name | None, _SCHEDULE] = None
    on_run_completed: Literal["delete", "keep"] | None = None


class CronFilter(Body):
    assistant_id: Uuid | None = None
    thread_id: Uuid | None = None
    enabled: bool | None = None
    metadata: Filter | None = None


class CronSearch(CronFilter):
    limit: Limit = 10
    offset: Offset = 0
    sort_by: (
        Literal["cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"] | None
    ) = None
    sort_order: SortOrder | None = None
    select: Names | None = None
