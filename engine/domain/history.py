"""The history of an aggregate that was imported from another installation: how much of it is here, what may follow.
Pure.

The recorded events are taken as they are; nothing is decided anew, and nothing follows from them. Until the import of
the aggregate is closed it takes no other command. What was in flight when the history was exported ends then: its
executors are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from threadlog.engine.domain.attempt_decisions import report_run
from threadlog.engine.domain.commands import CancelRun, CloseImport, Command, ImportHistory, ReportRun
from threadlog.engine.domain.cron import Cron
from threadlog.engine.domain.events import (
    ANSWERS,
    EVENTS,
    HISTORY_EVENTS,
    CommandRejected,
    CommandRepeated,
    CronRunCreated,
    CronRunRefused,
    CronUpdated,
    Event,
    HistoryClosed,
    HistoryImported,
)
from threadlog.engine.domain.thread import Thread, evolve
from threadlog.engine.domain.thread_decisions import decide as decide_on_thread
from threadlog.engine.domain.upcasting import major_of, upcast
from threadlog.engine.domain.webhooks import given_up
from threadlog.engine.domain.wire import check_fields

NAME = "history"

BEING_IMPORTED = "It is being imported from another installation: it takes no commands until that is complete."
IN_FLIGHT = "it was in flight when its history was exported to another installation, which does not execute it again"


class ImportedHistory(NamedTuple):
    """`offset`: of the last record, in the log of the installation `source`. `open`: more of it may follow.
    `continued`: the aggregate has a history of its own since."""

    key: str
    source: str = ""
    offset: int = -1
    open: bool = False
    continued: bool = False
    recent: tuple[str, ...] = ()


def initial(key: str) -> ImportedHistory:
    return ImportedHistory(key)


def is_open(states: Mapping[str, Any]) -> bool:
    """Whether the aggregate takes no commands, as its import is not complete."""
    imported: ImportedHistory | None = states.get(NAME)
    return imported is not None and imported.open


def decide(
    states: Mapping[str, Any], key: str, command: Command, key_of: Callable[[Event], str], *, at: str
) -> list[Event]:
    """The events of one command. `key_of`: the key of the aggregate an event is of.

    Raises ValueError: an event can't be taken.
    """
    imported: ImportedHistory | None = states.get(NAME)
    match command:
        case ImportHistory():
            return _import(states, imported, key, command, key_of)
        case CloseImport(source=source):
            if imported is None or not imported.open or imported.source != source:
                return []
            closed = HistoryClosed(source=source, offset=imported.offset)
            return [closed, *_ended(states.get("thread"), at), *_here(states.get("cron"), command)]
    raise KeyError(command.type)


def _import(
    states: Mapping[str, Any],
    imported: ImportedHistory | None,
    key: str,
    c: ImportHistory,
    key_of: Callable[[Event], str],
) -> list[Event]:
    before = -1 if imported is None else imported.offset
    if imported is None:
        if states:
            return _conflict("there is one of this id here already, with a history of its own")
    elif imported.source != c.source:
        return _conflict(f"it was imported from another installation, {imported.source}")
    elif c.offset <= imported.offset:
        return [CommandRepeated()]
    elif imported.continued:
        return _conflict("it has gone on here since it was imported")
    if c.after is not None and c.after != before:
        return _conflict(f"the record at {c.partition}@{c.after}, which comes before, is not here")
    told = HistoryImported(
        source=c.source, partition=c.partition, offset=c.offset, imported_at=c.imported_at, imported_by=c.imported_by
    )
    return [told, *(_event(wire, key, key_of) for wire in c.events)]


def _conflict(detail: str) -> list[Event]:
    return [CommandRejected(code="conflict", detail=detail)]


def _event(wire: Mapping[str, Any], key: str, key_of: Callable[[Event], str]) -> Event:
    """An event as it is in the log of another installation. Raises ValueError."""
    type_ = wire.get("type")
    if not isinstance(type_, str):
        raise ValueError("an event of it has no type")
    upcasted = upcast(dict(wire))
    kind = EVENTS.get(type_)
    if kind is None or upcasted.get("v", 1) != major_of(kind):
        raise ValueError(f"the event {type_} is one of a later version of threadlog")
    known = {f.name for f in fields(kind)}
    values = {name: value for name, value in upcasted.items() if name in known}
    check_fields(kind, values)
    try:
        event = kind(**values)
    except TypeError as error:
        raise ValueError(f"the event {type_}: {str(error).partition(' ')[2]}") from None
    if not isinstance(event, (*ANSWERS, *HISTORY_EVENTS)) and key_of(event) != key:
        raise ValueError(f"the event {type_} is of {key_of(event)}, not of {key}")
    return event


def evolve_imported(s: ImportedHistory, event: Event, changed: bool) -> ImportedHistory:
    """`changed`: whether other events of the record have changed the aggregate."""
    if isinstance(event, HistoryImported):
        return ImportedHistory(s.key, event.source, event.offset, open=True)
    return s._replace(open=False, continued=s.continued or changed)


# --- what was in flight ----------------------------------------------------------------------------------------------


def _ended(thread: Thread | None, at: str) -> list[Event]:
    """The end of all that was in flight on a thread: as if it had been cancelled, and its executors had let go."""
    if thread is None:
        return []
    s, events = thread, []

    def decided(command: Command) -> None:
        nonlocal s
        for event in decide_on_thread(s, command, cmd_id="", at=at):
            events.append(event)
            s = evolve(s, event, at)

    for waiting in s.queue:
        if waiting.kind == "run":
            decided(CancelRun(thread_id=s.thread_id, run_id=waiting.run_id, reason=IN_FLIGHT))
    while (slot := s.slot) is not None:
        if slot.kind == "run" and slot.stopping is None:
            decided(CancelRun(thread_id=s.thread_id, run_id=slot.run_id, reason=IN_FLIGHT))
        error = {"error": "Imported", "message": IN_FLIGHT}
        outcome = {"status": "interrupted"} if slot.kind == "run" else {"status": "error", "error": error}
        for event in report_run(
            s,
            ReportRun(thread_id=s.thread_id, run_id=slot.run_id, attempt=slot.attempt, outcome=outcome),
            at,
        ):
            events.append(event)
            s = evolve(s, event, at)
    return [*events, *given_up(s, IN_FLIGHT)]


def _here(cron: Cron | None, c: CloseImport) -> list[Event]:
    """A cron goes on from now on: times that are past were another installation's."""
    if cron is None or not cron.version:
        return []
    events: list[Event] = []
    if cron.pending is not None and c.ran:
        events.append(CronRunCreated(cron_id=cron.cron_id, due_at=cron.pending))
    elif cron.pending is not None:
        error = {"error": "Imported", "message": IN_FLIGHT}
        events.append(CronRunRefused(cron_id=cron.cron_id, due_at=cron.pending, error=error))
    if cron.next_due_at is not None:
        events.append(
            CronUpdated(
                cron_id=cron.cron_id, version=cron.version + 1, reschedules=True, next_due_at=c.next_due_at
            )
        )  # fmt: skip
    return events


# --- stored form -----------------------------------------------------------------------------------------------------


def dump(s: ImportedHistory) -> dict[str, Any]:
    """A small JSON object."""
    told: dict[str, Any] = {"source": s.source, "offset": s.offset}
    return told | ({"open": True} if s.open else {}) | ({"continued": True} if s.continued else {})


def load(key: str, stored: dict[str, Any]) -> ImportedHistory:
    return ImportedHistory(
        key, stored["source"], stored["offset"], stored.get("open", False), stored.get("continued", False)
    )
