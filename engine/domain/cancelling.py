"""How a run in flight ends before its executor has stopped it, and what is left on its thread. Pure."""

from __future__ import annotations

from typing import Any, Literal

from threadlog.engine.domain.commands import CancelAction, CancelRun, JsonObject
from threadlog.engine.domain.events import Event, RunInterrupted, RunRolledBack, ThreadStatusChanged
from threadlog.engine.domain.thread import Slot, Thread, settle
from threadlog.engine.domain.webhooks import requested

USER_INTERRUPT = "UserInterrupt"
"""The error of a thread whose last run was cancelled or superseded."""

USER_ROLLBACK = "UserRollback"
"""The same of one that was rolled back, which only its webhook tells."""

TASK_CANCELLED = "CancelledError()"
"""The error of the tasks such a run had under way."""

REASON_CHARACTERS = 1000
"""Of a reason, what is kept."""


def reason_of(command: CancelRun) -> str:
    return f"{command.action} requested" if command.reason is None else command.reason[:REASON_CHARACTERS]


def is_interrupt(error: JsonObject | None) -> bool:
    """Whether a thread has this error because its last run was cancelled or superseded."""
    return error is not None and error.get("error") == USER_INTERRUPT


def stopping(
    s: Thread, run_id: str, action: CancelAction, reason: Literal["cancelled", "superseded"], why: str
) -> list[Event]:
    """The end of the run in the slot, whose executor still has to stop it."""
    run: dict[str, Any] = {"thread_id": s.thread_id, "run_id": run_id, "reason": reason, "cancel_reason": why}
    if action == "rollback":
        # Before its rows are gone; what it has written is none of its webhook's values.
        told = [] if s.slot is None else requested(s, s.slot, "rollback", {"error": USER_ROLLBACK, "message": why})
        return [*told, RunRolledBack(**run, stopping=True)]
    error = {"error": USER_INTERRUPT, "message": why}
    return [
        RunInterrupted(**run, stopping=True, tasks_error=TASK_CANCELLED),
        ThreadStatusChanged(thread_id=s.thread_id, status="busy", error=error),
    ]


def stopped(s: Thread, slot: Slot, open_: bool | None, interrupts: JsonObject | None) -> list[Event]:
    """What follows once the executor has let go. `open_`: whether tasks are left to do (None: not known, the thread is
    as before).

    The thread keeps the error it got with the cancellation. After a rollback or a deletion it is what it was before.
    """
    if slot.stopping != "interrupt" or open_ is None:
        return settle(s, s.queue, status=s.status, interrupts=None, error=s.error, temporary=slot.temporary)
    status: Literal["idle", "interrupted"] = "interrupted" if open_ else "idle"
    error = s.error if is_interrupt(s.error) else None
    return settle(s, s.queue, status=status, interrupts=interrupts, error=error, temporary=slot.temporary)
