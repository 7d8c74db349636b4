"""What the firing of crons needs of the read models, as narrow protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from threadlog.engine.run_builder import AssistantDefaults


@dataclass(frozen=True, slots=True)
class DueCron:
    """A cron that is, or soon will be, due. Times are ISO-8601 in UTC; `in_seconds`: by the database's clock."""

    cron_id: str
    due_at: str
    in_seconds: float
    schedule: str
    timezone: str | None
    end_time: str | None
    thread_id: str | None


@dataclass(frozen=True, slots=True)
class Firing:
    """A cron has fired and its run is to be created; `cron.fired` has the same fields."""

    cron_id: str
    due_at: str
    run_id: str
    thread_id: str


@dataclass(frozen=True, slots=True)
class FiringCron:
    """A cron as its run needs it. `of_thread`: all its runs are on one thread."""

    of_thread: bool
    assistant_id: str
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any]
    on_run_completed: str | None


@dataclass(frozen=True, slots=True)
class FiringContext:
    """What a firing's run is merged from, as it is now; None: there is none (any more).

    `thread`: metadata and config of the cron's thread.
    """

    cron: FiringCron | None
    assistant: AssistantDefaults | None
    thread: tuple[Mapping[str, Any], Mapping[str, Any]] | None


class CronStore(Protocol):
    """The crons of the read models. Everything raises `LogUnavailable` when these are away."""

    async def due(self, partitions: Sequence[int], within_seconds: float) -> list[DueCron]:
        """Crons of these partitions that are due within this time, the earliest first."""
        ...

    async def firings(self, partitions: Sequence[int]) -> list[Firing]:
        """Firings of these partitions of which is not recorded that they have a run, the earliest first."""
        ...

    async def contexts(self, firings: Sequence[Firing]) -> list[FiringContext]:
        """What the runs of these firings are merged from, in their order."""
        ...

    async def orphans(self, partitions: Sequence[int]) -> list[str]:
        """Crons of these partitions whose thread or assistant is gone."""
        ...
