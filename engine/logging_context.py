"""Logging context: which run, or which request, the code of the current task works for (elsewhere: MDC, contextvars).

The api's requests and the attempts of executors set it, so that `deploy.logs` can tell apart what *user code* and its
libraries log. threadlog's own lines name their run in `extra` instead: its tasks work for many runs, and often begin in
the context of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

_FIELDS: ContextVar[Mapping[str, object]] = ContextVar("threadlog_logging_context", default=MappingProxyType({}))


def fields() -> Mapping[str, object]:
    """The fields of the current task."""
    return _FIELDS.get()


def set_fields(fields: Mapping[str, object]) -> None:
    """What this task, and the tasks and threads it starts from now on, log has these fields."""
    _FIELDS.set(fields)
