"""Strict resume: an answer that no waiting interrupt takes is refused before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langgraph._internal import _constants
from langgraph.types import Command

from threadlog.engine.executor.run.resume import AttemptSaver

if TYPE_CHECKING:
    from langgraph.errors import UnknownInterruptError
else:
    try:
        from langgraph.errors import UnknownInterruptError
    except ImportError:

        class UnknownInterruptError(Exception):
            """What newer versions of LangGraph raise."""

            def __init__(self, message: str, *, reason: str, interrupt_ids: Any = (), pending_ids: Any = ()) -> None:
                super().__init__(message)
                self.reason, self.interrupt_ids, self.pending_ids = reason, interrupt_ids, pending_ids


# Has the root graph refuse by itself; None: this version of LangGraph can't.
STRICT: str | None = getattr(_constants, "CONFIG_KEY_STRICT_RESUME", None)

_INTERRUPT_ID = re.compile(r"[0-9a-f]{32}")
_AMBIGUOUS = "Several interrupts wait for an answer: resume with a map of interrupt ids to answers."


async def resume_strictly(
    graph: Any, command: Any, config: dict[str, Any], newest: dict[str, Any], saver: AttemptSaver
) -> None:
    """Have a call of the graph with this command and config refused, if its answer is nobody's.

    `newest`: the config to read the thread's newest state with. The call, or this, raises `UnknownInterruptError`.
    """
    if STRICT is not None:
        config["configurable"][STRICT] = True
    elif isinstance(command, Command) and command.resume is not None:
        state = await graph.aget_state(newest)
        addressed = config["configurable"].get("checkpoint_id")
        if addressed is None or addressed == state.config["configurable"].get("checkpoint_id"):
            # of what it has read: in its own `interrupts` older versions of LangGraph have answered ones too
            waiting = (interrupt for interrupts in saver.interrupts().values() for interrupt in interrupts)
            _check(command.resume, sorted(interrupt["id"] for interrupt in waiting))


def refusal(error: BaseException) -> dict[str, Any]:
    """What clients are told of a refused answer beside class and message; nothing of other errors."""
    if not isinstance(error, UnknownInterruptError):
        return {}
    return {
        "reason": error.reason,
        "interrupt_ids": list(error.interrupt_ids),
        "pending_ids": list(error.pending_ids),
    }


def _check(resume: Any, pending: list[str]) -> None:
    if not isinstance(resume, Mapping) or not all(isinstance(k, str) and _INTERRUPT_ID.fullmatch(k) for k in resume):
        if len(pending) > 1:
            raise UnknownInterruptError(_AMBIGUOUS, reason="ambiguous", pending_ids=pending)
        return  # also without any: it goes on from a breakpoint
    if not resume:
        raise UnknownInterruptError("The resume map names no interrupt", reason="empty_map", pending_ids=pending)
    if unknown := sorted(set(resume).difference(pending)):
        raise UnknownInterruptError(
            f"Unknown or already-consumed interrupt: {unknown[0]}",
            reason="not_pending",
            interrupt_ids=unknown,
            pending_ids=pending,
        )
