"""Commands of an import: the recorded history of an aggregate, from another installation. Only operators send them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.commands.base import Command, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportHistory(Command):
    """Take over one event record of another installation: its events happened, as and when they are recorded there. The
    envelope has the id, the time and the actor of the command that they were decided from.

    Refused if the aggregate has a history of its own, or has gone on since it was imported. `after`: refused, too,
    unless the record at that offset was the last one.
    """

    type: ClassVar[str] = "history.import"
    key: str
    source: str
    partition: int
    offset: int
    imported_at: str
    imported_by: str = ""
    after: int | None = None
    events: list[JsonObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseImport(Command):
    """No more of it follows: what was in flight there has ended, and the aggregate takes commands.

    `next_due_at`: when a cron that is enabled is due here; `ran`: whether its last firing, if that is not recorded, has
    its run: the history of the run's thread tells.
    """

    type: ClassVar[str] = "history.close"
    key: str
    source: str
    next_due_at: str | None = None
    ran: bool = False


HISTORY_COMMANDS: tuple[type[Command], ...] = (ImportHistory, CloseImport)
