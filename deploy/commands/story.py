"""The story of a run, told from its events: who asked, what was decided and why, attempts, steps, tokens. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from threadlog.engine.log.history import LoggedEvent, is_of_run

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
    """One thing that happened, and where the log has it. `seconds`: since the run was asked for."""

    partition: int
    offset: int
    at: str
    seconds: float
    type: str
    text: str


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
    """Of one run. Times are ISO-8601; `usage` is the sum of all attempts', by model."""

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

    @property
    def over(self) -> bool:
        """Whether nothing of it can follow but that it, or its thread, is deleted."""
        waits = {chapter.type for chapter in self.chapters}
        if "webhook.requested" in waits and not waits & _WEBHOOK_ENDS:
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
        for event in events:
            if event["type"] == "thread.deleted":
                self._chapter(logged, event, "its thread was deleted")
                continue
            if not is_of_run(event, self.run_id):
                if event["type"] == "run.interrupted" and scheduled:
                    self._chapter(logged, event, f"run {event['run_id']} was {event.get('reason', 'cancelled')} for it")
                continue
            self._keep(event, record.at, record.actor)
            text = _TELLERS.get(event["type"], _plain)(event)
            if event["type"] == "run.created" and not scheduled:
                due = event.get("due_at")
                text += f"; it waits until {due}" if due else "; it waits for the thread's run in flight"
            if record.actor and record.actor not in ("engine", "executor"):
                text += f" (by {record.actor})"
            self._chapter(logged, event, text)

    def _is_told(self, event: Mapping[str, Any]) -> bool:
        if event["type"] == "thread.deleted":
            return bool(self.chapters)
        return is_of_run(event, self.run_id) and not event["type"].startswith("cron.")

    def _chapter(self, logged: LoggedEvent, event: Mapping[str, Any], text: str) -> None:
        at = logged.record.at
        self.chapters.append(
            Chapter(logged.partition, logged.offset, at, _seconds(self.asked_at or at, at), event["type"], text)
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
            if self.attempts:
                self.attempts[-1].steps += 1
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


def _created(event: Mapping[str, Any]) -> str:
    kwargs = event["run"].get("kwargs") or {}
    if not isinstance(kwargs, dict):
        kwargs = {}
    asked = "answers an interrupt of" if (kwargs.get("command") or {}) else "asks for"
    parts = [f"{asked} graph {event['graph_id']}"]
    if event.get("cron_id"):
        parts.append(f"cron {event['cron_id']} fired for {event.get('cron_due_at')}")
    if event.get("multitask_strategy", "enqueue") != "enqueue":
        parts.append(f"strategy {event['multitask_strategy']}")
    if event.get("temporary"):
        parts.append("stateless")
    if kwargs.get("webhook"):
        parts.append("with a webhook")
    return "a request " + ", ".join(parts)


def _scheduled(event: Mapping[str, Any]) -> str:
    number = event["attempt"]
    again = "" if number == 1 else ", after the one before was lost or handed on"
    return f"attempt {number} may be claimed{again}"


def _checkpoint(event: Mapping[str, Any]) -> str:
    metadata = event.get("metadata") or {}
    where = f" of subgraph {event['ns']}" if event.get("ns") else ""
    step = f"step {metadata.get('step', '?')}{where} ({metadata.get('source', 'loop')})"
    return f"{step} is checkpoint {event['checkpoint_id']}"


def _planned(event: Mapping[str, Any]) -> str:
    names = [str(task.get("name", "?")) for task in event.get("tasks") or []]
    where = f" in subgraph {event['ns']}" if event.get("ns") else ""
    return f"next{where}: {', '.join(names)}" if names else f"nothing is left to do{where}"


def _writes(event: Mapping[str, Any]) -> str:
    channels = [str(write[1]) for write in event.get("writes") or [] if isinstance(write, list) and len(write) > 1]
    if "__interrupt__" in channels:
        return f"task {event['task_id']} asks a question and waits"
    if "__error__" in channels:
        return f"task {event['task_id']} raised an error"
    return f"task {event['task_id']} wrote {', '.join(dict.fromkeys(channels)) or 'nothing'}"


def _succeeded(event: Mapping[str, Any]) -> str:
    if event.get("interrupts"):
        return f"it waits for an answer before {', '.join(event.get('next') or ['the end'])}: {_questions(event)}"
    if event.get("next"):
        return f"it stopped before {', '.join(event['next'])}"
    return f"it ended, attempt {event['attempt']}" + _tokens(event)


def _questions(event: Mapping[str, Any]) -> str:
    values = [i.get("value") for each in event["interrupts"].values() for i in each if isinstance(i, dict)]
    text = "; ".join(str(value) for value in values)
    return text if len(text) <= 200 else text[:199] + "…"


def _tokens(event: Mapping[str, Any]) -> str:
    usage = event.get("usage") or {}
    total = sum(
        tokens.get("total_tokens", tokens.get("input_tokens", 0) + tokens.get("output_tokens", 0))
        for tokens in usage.values()
    )
    return f", {total:,} tokens of {', '.join(usage)}" if usage else ""


def _error(event: Mapping[str, Any]) -> str:
    error = event.get("error") or {}
    return f"{error.get('error', 'Error')}: {error.get('message', '')}".rstrip(": ")


def _cancelled(event: Mapping[str, Any], done: str) -> str:
    why = "a newer run took its place" if event.get("reason") == "superseded" else "a client cancelled it"
    said = f" ({event['cancel_reason']})" if event.get("cancel_reason") else ""
    return f"{done}: {why}{said}" + ("; its executor has yet to stop" if event.get("stopping") else "")


def _delivery(event: Mapping[str, Any]) -> str:
    status = "" if event.get("status") is None else f", HTTP {event['status']}"
    why = "" if not event.get("reason") else f": {event['reason']}"
    return f"attempt {event['attempt']}{status}{why}"


def _plain(event: Mapping[str, Any]) -> str:
    return str(event["type"])


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "run.created": _created,
    "run.refused": lambda e: f"it was refused, {e['code']}: {e['detail']}",
    "run.ready": lambda e: "its time has come, and the thread is busy: it waits for its turn",
    "run.scheduled": _scheduled,
    "run.started": lambda e: f"attempt {e['attempt']} began on executor {e['executor']}",
    "run.succeeded": _succeeded,
    "run.failed": lambda e: f"it failed in attempt {e['attempt']}: {_error(e)}{_tokens(e)}",
    "run.timed_out": lambda e: f"it took too long, attempt {e['attempt']}: {_error(e)}{_tokens(e)}",
    "run.interrupted": lambda e: _cancelled(e, "it was interrupted"),
    "run.rolled_back": lambda e: _cancelled(e, "it and its checkpoints were removed"),
    "run.deleted": lambda e: "it was deleted",
    "run.stopped": lambda e: f"the executor of attempt {e['attempt']} has let go{_tokens(e)}",
    "run.released": lambda e: f"the executor handed attempt {e['attempt']} back: it was asked to stop{_tokens(e)}",
    "run.lease_expired": lambda e: f"the executor of attempt {e['attempt']}, {e['executor']}, is gone",
    "report.fenced": lambda e: f"a report of attempt {e['attempt']} came too late: nothing of it counts",
    "checkpoint.saved": _checkpoint,
    "tasks.planned": _planned,
    "writes.saved": _writes,
    "checkpoints.deleted": lambda e: "its checkpoints were deleted",
    "state.migrated": lambda e: f"its state was brought from version {e['from_version']} to {e['to_version']}",
    "state.update_requested": lambda e: f"a request updates the state of graph {e['graph_id']}",
    "state.updated": lambda e: "the state was updated",
    "state.update_failed": lambda e: f"the update failed: {_error(e)}",
    "webhook.requested": lambda e: f"its end is to be sent to {e['url']}",
    "webhook.delivered": lambda e: f"the webhook was delivered, {_delivery(e)}",
    "webhook.failed": lambda e: f"the webhook failed, {_delivery(e)}; again at {e['due_at']}",
    "webhook.dead": lambda e: f"the webhook was given up, {_delivery(e)}",
}


def heading(story: Story) -> list[str]:
    """What is to be known of the run before its story."""
    lines = [f"run      {story.run_id}  {story.status}", f"thread   {story.thread_id}"]
    if story.graph_id:
        assistant = f", assistant {story.assistant_id}" if story.assistant_id else ""
        lines.append(f"graph    {story.graph_id}{assistant}")
    lines.append(f"asked    {story.asked_at or '?'} by {story.asked_by or 'a client that did not say who it is'}")
    times = []
    if story.waited_seconds is not None:
        times.append(f"waited {story.waited_seconds:.3f} s")
    if story.ran_seconds is not None:
        times.append(f"ran {story.ran_seconds:.3f} s")
    lines.append(f"took     {', '.join([*times, f'{len(story.attempts)} attempts, {story.steps} checkpoints'])}")
    for model, tokens in sorted(story.usage.items()):
        lines.append(f"tokens   {model}: {', '.join(f'{kind} {count:,}' for kind, count in sorted(tokens.items()))}")
    if story.error:
        lines.append(f"error    {_error({'error': story.error})}")
    return lines


def told(chapters: Sequence[Chapter]) -> list[str]:
    """A line per chapter: seconds since the request, position, what happened."""
    return [f"{c.seconds:>12.3f} s  {f'{c.partition}@{c.offset}':>9}  {c.text}" for c in chapters]
