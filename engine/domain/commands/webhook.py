"""Commands for webhooks; key: thread_id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from threadlog.engine.domain.commands.base import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWebhook(Command):
    """What became of an attempt to deliver a run's webhook (sent by the partition's owner; command id
    `webhook:{run_id}:{attempt}`).

    `failed` is tried again at `due_at`; `dead` is given up. `status`: the response's, None without one.
    """

    type: ClassVar[str] = "webhook.report"
    thread_id: str
    run_id: str
    attempt: int
    outcome: Literal["delivered", "failed", "dead"]
    status: int | None = None
    reason: str | None = None
    due_at: str | None = None


WEBHOOK_COMMANDS: tuple[type[Command], ...] = (ReportWebhook,)
