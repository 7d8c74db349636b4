"""The cron aggregate: when it is due next, and which of its firings have no run yet. Pure: it has no clock and reads no
schedule, the senders of commands do."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from threadlog.engine.domain.commands import (
    Command,
    CreateCron,
    DeleteCron,
    FireCron,
    RecordCronRun,
    UpdateCron,
)
from threadlog.engine.domain.events import (
    CommandRejected,
    CommandRepeated,
    CronCreated,
    CronDeleted,
    CronEnded,
    CronFired,
    CronRunCreated,
    CronRunRefused,
    CronUpdated,
    Event,
)

PREFIX = "cron:"
"""Before the cron's id in the aggregate's key."""

LATE = timedelta(seconds=60)
"""A firing this much after the cron's `end_time` is none: the time was missed. Less is what it takes to fire."""

CLEARABLE = ("end_time", "timezone")


class Cron(NamedTuple):
    """`version`: 0 while the cron does not exist, raised by updates.

    `pending`: the time of the firing whose run is not known to be created or refused. Until then the cron does not fire
    again, so that its runs are asked for in their order: a thread needs to remember no more than the last one.
    `fired`: the time of the last firing.
    """

    cron_id: str
    version: int = 0
    next_due_at: str | None = None
    end_time: str | None = None
    pending: str | None = None
    fired: str | None = None
    recent: tuple[str, ...] = ()


def initial(key: str) -> Cron:
    return Cron(cron_id=key.removeprefix(PREFIX))


def decide(s: Cron, command: Command, *, cmd_id: str, at: str) -> list[Event]:
    """The events of one command."""
    if cmd_id in s.recent:
        return [CommandRepeated()]
    if isinstance(command, CreateCron):
        return _create(s, command)
    if not s.version:
        return [CommandRejected(code="not_found", detail=f"Cron with ID {s.cron_id} not found")]
    match command:
        case UpdateCron():
            return _update(s, command)
        case DeleteCron():
            return [CronDeleted(cron_id=s.cron_id)]
        case FireCron():
            return _fire(s, command, at)
        case RecordCronRun(due_at=due_at, error=error):
            if due_at != s.pending:
                return []
            if error is None:
                return [CronRunCreated(cron_id=s.cron_id, due_at=due_at)]
            return [CronRunRefused(cron_id=s.cron_id, due_at=due_at, error=error)]
    raise KeyError(command.type)


def _create(s: Cron, c: CreateCron) -> list[Event]:
    if s.version:
        return [CommandRejected(code="conflict", detail=f"Cron with ID {s.cron_id} already exists")]
    return [
        CronCreated(
            cron_id=s.cron_id,
            assistant_id=c.assistant_id,
            schedule=c.schedule,
            timezone=c.timezone,
            end_time=c.end_time,
            thread_id=c.thread_id,
            payload=c.payload,
            metadata=c.metadata,
            user_id=c.user_id,
            on_run_completed=c.on_run_completed,
            enabled=c.enabled,
            next_due_at=c.next_due_at,
        )
    ]


def _update(s: Cron, c: UpdateCron) -> list[Event]:
    if c.reschedules and c.version != s.version:
        return [CommandRejected(code="conflict", detail=f"Cron with ID {s.cron_id} has been updated meanwhile")]
    if any(name not in CLEARABLE for name in c.clears):
        raise ValueError(f"`clears` may name {' and '.join(CLEARABLE)}")
    if c.reschedules and c.next_due_at is not None and s.fired is not None and not _is_later(c.next_due_at, s.fired):
        # It was found before the cron fired for it. The firing's command is known, and would move it on no more.
        return [CommandRejected(code="conflict", detail=f"Cron with ID {s.cron_id} has fired meanwhile")]
    return [
        CronUpdated(
            cron_id=s.cron_id,
            version=s.version + 1,
            schedule=c.schedule,
            timezone=c.timezone,
            end_time=c.end_time,
            clears=c.clears,
            payload=c.payload,
            metadata=c.metadata,
            on_run_completed=c.on_run_completed,
            enabled=c.enabled,
            reschedules=c.reschedules,
            next_due_at=c.next_due_at,
        )
    ]


def _fire(s: Cron, c: FireCron, at: str) -> list[Event]:
    if c.due_at != s.next_due_at or s.pending is not None:
        return []  # fired by another, rescheduled or disabled; or it will be found due again
    if s.end_time is not None and datetime.fromisoformat(at) > datetime.fromisoformat(s.end_time) + LATE:
        return [CronEnded(cron_id=s.cron_id, due_at=c.due_at)]
    if c.next_due_at is not None and not _is_later(c.next_due_at, c.due_at):
        raise ValueError("`next_due_at` must be after `due_at`")
    return [
        CronFired(
            cron_id=s.cron_id,
            due_at=c.due_at,
            run_id=c.run_id,
            thread_id=c.thread_id,
            next_due_at=c.next_due_at,
            schedule_error=c.schedule_error,
        )
    ]


def _is_later(time: str, than: str) -> bool:
    return datetime.fromisoformat(time) > datetime.fromisoformat(than)


def evolve(s: Cron, event: Event, at: str) -> Cron:
    match event:
        case CronCreated():
            return s._replace(version=1, next_due_at=event.next_due_at, end_time=event.end_time)
        case CronUpdated():
            end_time = None if "end_time" in event.clears else event.end_time or s.end_time
            next_due_at = event.next_due_at if event.reschedules else s.next_due_at
            return s._replace(version=event.version, next_due_at=next_due_at, end_time=end_time)
        case CronDeleted():
            return Cron(cron_id=s.cron_id, recent=s.recent)
        case CronFired():
            return s._replace(next_due_at=event.next_due_at, pending=event.due_at, fired=event.due_at)
        case CronEnded():
            return s._replace(next_due_at=None)
        case CronRunCreated() | CronRunRefused():
            return s._replace(pending=None)
    return s


def dump(s: Cron) -> dict[str, Any]:
    """A small JSON object; what equals the initial state is left out."""
    fields = {
        "version": s.version, "next_due_at": s.next_due_at, "end_time": s.end_time, "pending": s.pending,
        "fired": s.fired,
    }  # fmt: skip
    return {**{name: value for name, value in fields.items() if value}, "recent": list(s.recent)}


def load(key: str, stored: dict[str, Any]) -> Cron:
    return Cron(
        cron_id=key.removeprefix(PREFIX),
        version=stored.get("version", 0),
        next_due_at=stored.get("next_due_at"),
        end_time=stored.get("end_time"),
        pending=stored.get("pending"),
        fired=stored.get("fired"),
        recent=tuple(stored["recent"]),
    )
