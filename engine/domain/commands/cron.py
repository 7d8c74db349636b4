"""Commands for crons; key: "cron:" + cron_id. Times are ISO-8601 in UTC, made by the sender: see `engine.schedules`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from threadlog.engine.domain.commands.base import Command, JsonObject

OnRunCompleted = Literal["delete", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCron(Command):
    """Create a cron: of a thread, or (`thread_id` None) one whose every run has a thread of its own.

    `payload`: what each run is asked, `{input, config, context, interrupt_before, …}`. `next_due_at`: when it fires
    first; None: never, as it is disabled or its `end_time` comes before.
    """

    type: ClassVar[str] = "cron.create"
    cron_id: str
    assistant_id: str
    schedule: str
    timezone: str | None = None
    end_time: str | None = None
    thread_id: str | None = None
    payload: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    user_id: str | None = None
    on_run_completed: OnRunCompleted | None = None
    enabled: bool = True
    next_due_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCron(Command):
    """Change a cron. None leaves a field as it is; `clears` names those that become None; `payload` and `metadata` are
    merged at the top level.

    `version`: of the cron that the sender has seen. `reschedules`: `next_due_at` counts; rejected (`conflict`) if the
    cron has been updated since, or has fired for that time, as it was found from what the cron was.
    """

    type: ClassVar[str] = "cron.update"
    cron_id: str
    version: int
    schedule: str | None = None
    timezone: str | None = None
    end_time: str | None = None
    clears: list[str] = field(default_factory=list)
    payload: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    on_run_completed: OnRunCompleted | None = None
    enabled: bool | None = None
    reschedules: bool = False
    next_due_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCron(Command):
    type: ClassVar[str] = "cron.delete"
    cron_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FireCron(Command):
    """The cron is due (sent by the owner of its partition; command id `cron:{cron_id}:{due_at}`).

    Decided to nothing unless `due_at` is the cron's next time. `run_id`, `thread_id`: of the run to be created.
    `next_due_at`: when it fires next, None: never, `schedule_error` says why if that is nobody's wish.
    """

    type: ClassVar[str] = "cron.fire"
    cron_id: str
    due_at: str
    run_id: str
    thread_id: str
    next_due_at: str | None = None
    schedule_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCronRun(Command):
    """What became of a firing's run: created, or (`error`: {error, message}) refused.

    Command id `cron:{cron_id}:{due_at}:recorded`.
    """

    type: ClassVar[str] = "cron.record_run"
    cron_id: str
    due_at: str
    error: JsonObject | None = None


CRON_COMMANDS: tuple[type[Command], ...] = (
    CreateCron,
    UpdateCron,
    DeleteCron,
    FireCron,
    RecordCronRun,
)
