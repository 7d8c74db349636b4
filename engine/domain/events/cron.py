"""Events of crons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from threadlog.engine.domain.events.base import Event, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CronCreated(Event):
    type: ClassVar[str] = "cron.created"
    cron_id: str
    assistant_id: str
    schedule: str
    timezone: str | None = None
    end_time: str | None = None
    thread_id: str | None = None
    payload: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    user_id: str | None = None
    on_run_completed: Literal["delete", "keep"] | None = None
    enabled: bool = True
    next_due_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CronUpdated(Event):
    """None fields are as before, those that `clears` names are None; payload and metadata are merged.

    `reschedules`: the next time is `next_due_at` from now on.
    """

    type: ClassVar[str] = "cron.updated"
    cron_id: str
    version: int
    schedule: str | None = None
    timezone: str | None = None
    end_time: str | None = None
    clears: list[str] = field(default_factory=list)
    payload: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    on_run_completed: Literal["delete", "keep"] | None = None
    enabled: bool | None = None
    reschedules: bool = False
    next_due_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CronDeleted(Event):
    type: ClassVar[str] = "cron.deleted"
    cron_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CronFired(Event):
    """The only firing of this cron at this time; `cron.run_created` or `cron.run_refused` follows."""

    type: ClassVar[str] = "cron.fired"
    cron_id: str
    due_at: str
    run_id: str
    thread_id: str
    next_due_at: str | None = None
    schedule_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CronEnded(Event):
    """A time that was missed is not made up for, as the cron's `end_time` has passed meanwhile."""

    type: ClassVar[str] = "cron.ended"
    cron_id: str
    due_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CronRunCreated(Event):
    type: ClassVar[str] = "cron.run_created"
    cron_id: str
    due_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CronRunRefused(Event):
    """This firing has no run. `error`: {error, message}."""

    type: ClassVar[str] = "cron.run_refused"
    cron_id: str
    due_at: str
    error: JsonObject = field(default_factory=dict)


CRON_EVENTS: tuple[type[Event], ...] = (
    CronCreated,
    CronUpdated,
    CronDeleted,
    CronFired,
    CronEnded,
    CronRunCreated,
    CronRunRefused,
)
