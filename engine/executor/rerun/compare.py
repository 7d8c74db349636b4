"""Recorded and rerun tasks side by side: what a node wrote then, what it writes today."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import BaseMessage
from langgraph.types import Interrupt, Send
from pydantic import BaseModel

from threadlog.engine.executor.rerun.record import RESUME, RecordedStep, RecordedTask
from threadlog.engine.stored.tasks import ERROR, INTERRUPT

_SHOWN = 160  # characters of a value
_KEPT = 20_000  # characters of a text in a report
_LONG = 2**63
_BEFORE = 30  # of them before the first that differs
_NEXT = "branch:to:"
_UNSEEN = frozenset({RESUME, "__no_writes__", "__error_source_node__"})
_OF_MESSAGE = ("type", "content", "name", "tool_call_id", "status")

Verdict = Literal["same", "different", "unanswered"]


@dataclass(frozen=True, slots=True)
class Change:
    """One place where the writes of a task differ, by its path; values are JSON. `has`: which of the two are there."""

    path: str
    recorded: Any
    today: Any
    has: tuple[Literal["recorded", "today"], ...]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One node of one superstep. `details`: what differs, or what the record has no answer to, for people; `changes`:
    what differs, for programs."""

    step: int
    node: str
    verdict: Verdict
    details: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


def compared(
    step: RecordedStep,
    written: Mapping[str, Sequence[tuple[str, Any]]],
    missing: Mapping[str, Sequence[str]],
    error: Exception | None,
    *,
    ignored: Collection[str] = (),
) -> list[TaskResult]:
    """A result per recorded task, and one per task that runs today and was not planned then."""
    results = []
    for task_id, task in step.tasks.items():
        if (unanswered := missing.get(task_id)) or _cancelled(task):
            why = tuple(f"the record has no answer to {what}" for what in unanswered or ())
            results.append(TaskResult(step.number, task.name, "unanswered", why or ("it was stopped then",)))
            continue
        today = written.get(task_id)
        if today is None:
            why = ("it does not run today" if error is None else f"today the graph raises {_told(error)}",)
            results.append(TaskResult(step.number, task.name, "different", why))
            continue
        found = _differences(task.writes, today, ignored)
        details, changes = tuple(detail for detail, _ in found), tuple(change for _, change in found)
        results.append(TaskResult(step.number, task.name, "different" if found else "same", details, changes))
    for _ in written.keys() - step.planned.keys():
        results.append(TaskResult(step.number, "?", "different", ("a task runs today that did not then",)))
    return results


def _cancelled(task: RecordedTask) -> bool:
    return task.error is not None and "CancelledError" in str(task.error)


def _differences(
    then: Sequence[tuple[str, Any]], today: Sequence[tuple[str, Any]], ignored: Collection[str]
) -> list[tuple[str, Change]]:
    before, after = _by_channel(then), _by_channel(today)
    found: list[tuple[str, Change]] = []
    for channel in dict.fromkeys((*before, *after)):
        if channel in ignored or channel in _UNSEEN or before.get(channel) == after.get(channel):
            continue
        if channel.startswith(_NEXT):
            node = channel.removeprefix(_NEXT)
            goes = channel in before
            detail = f"today it {'does not go' if goes else 'goes'} to {node}"
            found.append((detail, _change("next", node if goes else _NOTHING, _NOTHING if goes else node)))
            continue
        name = {ERROR: "error", INTERRUPT: "question", "__pregel_tasks": "sends"}.get(channel, channel)
        found += _differing(name, _only(before.get(channel, _NOTHING)), _only(after.get(channel, _NOTHING)))
    return found


def _only(values: Any) -> Any:
    """A channel is written once, as a rule."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def _differing(path: str, then: Any, today: Any) -> list[tuple[str, Change]]:
    """A line per innermost place where the two differ."""
    if isinstance(then, Mapping) and isinstance(today, Mapping):
        lines = []
        for key in dict.fromkeys((*then, *today)):
            one, other = then.get(key, _NOTHING), today.get(key, _NOTHING)
            if one != other:
                lines += _differing(f"{path}.{key}", one, other)
        return lines
    if isinstance(then, list) and isinstance(today, list) and len(then) == len(today):
        pairs = enumerate(zip(then, today, strict=True))
        return [line for n, (one, other) in pairs if one != other for line in _differing(f"{path}[{n}]", one, other)]
    one, other = repr(then), repr(today)
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - _BEFORE) if max(len(one), len(other)) > _SHOWN else 0
    detail = f"{path}: recorded {_shown(one, start)}, today {_shown(other, start)}"
    return [(detail, _change(path, then, today))]


def _change(path: str, then: Any, today: Any) -> Change:
    has: list[Literal["recorded", "today"]] = []
    if then is not _NOTHING:
        has.append("recorded")
    if today is not _NOTHING:
        has.append("today")
    return Change(path, _json(then), _json(today), tuple(has))


def _json(value: Any) -> Any:
    """The value as JSON has it; what JSON has no form for as Python shows it."""
    if value is _NOTHING or value is None or isinstance(value, bool | float):
        return None if value is _NOTHING else value
    if isinstance(value, int) and abs(value) < _LONG:
        return value
    if isinstance(value, Mapping):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= _KEPT else f"{text[:_KEPT]}… and {len(text) - _KEPT} more characters"


def _by_channel(writes: Sequence[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for channel, value in writes:
        found.setdefault(channel, []).append(_told(value) if channel == ERROR else plain(value))
    return found


def plain(value: Any) -> Any:
    """What of a value is compared: not the ids that are made anew each time."""
    if isinstance(value, BaseMessage):
        fields = {name: getattr(value, name, None) for name in _OF_MESSAGE}
        calls = [{"name": call["name"], "args": call["args"]} for call in getattr(value, "tool_calls", ())]
        return {name: plain(one) for name, one in {**fields, "tool_calls": calls}.items() if one}
    if isinstance(value, Interrupt):
        return plain(value.value)
    if isinstance(value, Send):
        return {"to": value.node, "with": plain(value.arg)}
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if value.get("type") == "tool_call":
            value = {key: inner for key, inner in value.items() if key != "id"}
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def _told(error: Any) -> str:
    """An error as it is stored: its class and its text."""
    return error if isinstance(error, str) else repr(error)


def _shown(text: str, start: int) -> str:
    """A part of a long text, from a little before where it differs."""
    end = start + _SHOWN
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()
