"""The story of a run, told from its events: who asked, what was decided and why, attempts, steps, tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from threadlog.engine.log.history import LoggedEvent, is_of_run
from threadlog.engine.story.words import words_of

_ENDS: Mapping[str, str] = {
    "run.succeeded": "success",
    "run.failed": "error",
    "run.timed_out": "timeout",
    "run.interrupted": "interrupted",
    "run.rolled_back": "rolled back",
    "run.refused": "refused",
    "run.deleted": "deleted",
}
_ATTEMPT_ENDS = frozenset(
    {"run.succeeded", "run.failed", "run.timed_out", "run.stopped", "run.released", "run.lease_expired"}
)
_WEBHOOK_ENDS = frozenset({"webhook.delivered", "webhook.dead"})


@dataclass(slots=True)
class Chapter:
    """One thing that happened, and where the log has it: event `index` of the record at `offset`. `seconds`: since the
    run was asked for; `checkpoint_id`: the run's newest checkpoint of the root graph by then."""

    partition: int
    offset: int
    index: int
    at: str
    seconds: float
    type: str
    text: str
    checkpoint_id: str | None = None


@dataclass(slots=True)
class Attempt:
    number: int
    scheduled_at: str
    started_at: str | None = None
    ended_at: str | None = None
    executor: str | None = None
    end: str | None = None
    steps: int = 0


@dataclass(slots=True)
class Story:
    """Of one run. Times are ISO-8601; `usage` is the sum of all attempts', by model. `complete`: whether the log was
    read until now, or until nothing of the run could follow.

    `after`, `limit`: the chapters that are kept, from the one behind this place (offset, index) on; `left_out` counts
    what comes after them. All else is of the whole run."""

    run_id: str
    thread_id: str = ""
    graph_id: str = ""
    assistant_id: str | None = None
    asked_by: str | None = None
    status: str = "pending"
    asked_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    waited_seconds: float | None = None
    ran_seconds: float | None = None
    steps: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    interrupts: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    usage: dict[str, dict[str, int]] = field(default_factory=dict)
    chapters: list[Chapter] = field(default_factory=list)
    left_out: int = 0
    complete: bool = True
    _after: tuple[int, int] = (-1, 0)
    _limit: int | None = None
    _types: set[str] = field(default_factory=set)
    _checkpoint_id: str | None = None
    _nodes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def part(cls, run_id: str, after: tuple[int, int], limit: int) -> Story:
        """Keeps so many chapters behind that place."""
        return cls(run_id, _after=after, _limit=limit)

    @property
    def known(self) -> bool:
        """Whether the log has anything of it."""
        return bool(self._types)

    @property
    def over(self) -> bool:
        """Whether nothing of it can follow but that it, or its thread, is deleted."""
        if "webhook.requested" in self._types and not self._types & _WEBHOOK_ENDS:
            return False
        return self.ended_at is not None and all(attempt.end is not None for attempt in self.attempts)

    def tell(self, logged: LoggedEvent) -> None:
        """The next record of the run's partition."""
        record = logged.record
        if record.key != self.thread_id and self.thread_id:
            return
        events = record.events
        if not any(self._is_told(event) for event in events):
            return  # a cron's events are in another partition; the run's creation names it
        self.thread_id = record.key
        scheduled = any(event["type"] == "run.scheduled" and is_of_run(event, self.run_id) for event in events)
        for index, event in enumerate(events):
            if event["type"] == "thread.deleted":
                self._chapter(logged, index, "its thread was deleted")
                continue
            if not is_of_run(event, self.run_id):
                if event["type"] == "run.interrupted" and scheduled:
                    self._chapter(logged, index, f"run {event['run_id']} was {event.get('reason', 'cancelled')} for it")
                continue
            self._keep(event, record.at, record.actor)
            text = words_of(event, self._nodes)
            if event["type"] == "run.created" and not scheduled:
                due = event.get("due_at")
                text += f"; it waits until {due}" if due else "; it waits for the thread's run in flight"
            if record.actor and record.actor not in ("engine", "executor"):
                text += f" (by {record.actor})"
            self._chapter(logged, index, text)

    def _is_told(self, event: Mapping[str, Any]) -> bool:
        if event["type"] == "thread.deleted":
            return bool(self._types)
        return is_of_run(event, self.run_id) and not event["type"].startswith("cron.")

    def _chapter(self, logged: LoggedEvent, index: int, text: str) -> None:
        at, type_ = logged.record.at, logged.record.events[index]["type"]
        self._types.add(type_)
        if (logged.offset, index) <= self._after:
            return
        if self._limit is not None and len(self.chapters) >= self._limit:
            self.left_out += 1
            return
        seconds = _seconds(self.asked_at or at, at)
        self.chapters.append(
            Chapter(logged.partition, logged.offset, index, at, seconds, type_, text, self._checkpoint_id)
        )

    def _keep(self, event: Mapping[str, Any], at: str, actor: str | None) -> None:
        type_ = event["type"]
        if type_ == "run.created":
            self.asked_at, self.asked_by, self.graph_id = at, actor, event["graph_id"]
            self.assistant_id = event["run"].get("assistant_id")
        elif type_ == "run.scheduled":
            self.attempts.append(Attempt(event["attempt"], at))
        elif type_ == "run.started" and self.attempts:
            began = event.get("at") or at
            self.attempts[-1].started_at, self.attempts[-1].executor = began, event["executor"]
            self.status, self.started_at = "running", self.started_at or began
            if self.asked_at is not None and self.waited_seconds is None:
                self.waited_seconds = _seconds(self.asked_at, began)
        elif type_ == "checkpoint.saved" and not event.get("ns"):
            self.steps += 1
            self._checkpoint_id = event.get("checkpoint_id")
            if self.attempts:
                self.attempts[-1].steps += 1
        elif type_ == "tasks.planned":
            self._nodes.update((str(task.get("id")), str(task.get("name"))) for task in event.get("tasks") or [])
        if type_ in _ATTEMPT_ENDS and self.attempts and self.attempts[-1].end is None:
            self.attempts[-1].end, self.attempts[-1].ended_at = type_, at
        for model, tokens in (event.get("usage") or {}).items():
            total = self.usage.setdefault(model, {})
            for kind, count in tokens.items():
                total[kind] = total.get(kind, 0) + count
        if type_ in _ENDS and (self.ended_at is None or type_ == "run.deleted"):
            if self.ended_at is None:
                self.ended_at = at
                if self.started_at is not None:
                    self.ran_seconds = _seconds(self.started_at, at)
                self.status = _ENDS[type_]
            self.interrupts = event.get("interrupts") or self.interrupts
            self.error = event.get("error") or self.error


def _seconds(start: str, end: str) -> float:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 6)
