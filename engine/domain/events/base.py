"""What all events are made from, and the answers that change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Json = Any
JsonObject = dict[str, Any]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events; `type` is the name on the wire.

    `schema_version`: the second number counts what was added, each a field with a default; the first one is raised by
    any other change, which needs an upcaster (`engine.domain.upcasting`).
    """

    type: ClassVar[str] = ""
    schema_version: ClassVar[str] = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRejected(Event):
    """The command was refused; `code` maps to an HTTP status: not_found 404, conflict 409, invalid 422."""

    type: ClassVar[str] = "command.rejected"
    code: Literal["not_found", "conflict", "invalid"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRepeated(Event):
    """The command's id was seen before (a sender's retry): nothing more happens."""

    type: ClassVar[str] = "command.repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFenced(Event):
    """A report of an attempt that is not, or no longer, the current one: nothing of it counts."""

    type: ClassVar[str] = "report.fenced"
    run_id: str
    attempt: int


ANSWERS: tuple[type[Event], ...] = (
    CommandRejected,
    CommandRepeated,
    ReportFenced,
)
