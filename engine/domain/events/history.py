"""Events of an import: where the history of an aggregate comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from threadlog.engine.domain.events.base import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryImported(Event):
    """The events beside this one happened in another installation: nothing follows from them here but the read models.
    Their time and actor, in the record, are those they had there."""

    type: ClassVar[str] = "history.imported"
    source: str
    partition: int
    offset: int
    imported_at: str
    imported_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryClosed(Event):
    """The import of this aggregate is complete; what was in flight there has ended by the events beside this one."""

    type: ClassVar[str] = "history.closed"
    source: str
    offset: int


HISTORY_EVENTS: tuple[type[Event], ...] = (HistoryImported, HistoryClosed)
