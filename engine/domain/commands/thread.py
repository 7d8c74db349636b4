"""Commands for a thread itself; key: thread_id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from threadlog.engine.domain.commands.base import Command, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateThread(Command):
    """Create a thread; an existing one is rejected (`conflict`) or, with `do_nothing`, left untouched.

    `ttl`: `{strategy: delete | keep_latest, ttl: minutes}`, None: it never expires.
    A copy is a create with `copied_from` and the settled `status`, `interrupts`, `config` of its source, followed by
    `ImportCheckpoints`.
    """

    type: ClassVar[str] = "thread.create"
    thread_id: str
    metadata: JsonObject = field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"
    ttl: JsonObject | None = None
    copied_from: str | None = None
    status: Literal["idle", "interrupted", "error"] = "idle"
    interrupts: JsonObject = field(default_factory=dict)
    config: JsonObject = field(default_factory=dict)
    error: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateThread(Command):
    """Merge `metadata` top-level into the thread's; replace its ttl when given."""

    type: ClassVar[str] = "thread.update"
    thread_id: str
    metadata: JsonObject = field(default_factory=dict)
    ttl: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteThread(Command):
    type: ClassVar[str] = "thread.delete"
    thread_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportCheckpoints(Command):
    """Add checkpoints, writes and values of a copied thread; `items` as in `ReportRun.items`.

    Rejected (`conflict`) while an attempt holds the thread's slot.
    """

    type: ClassVar[str] = "checkpoints.import"
    thread_id: str
    items: list[JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneThread(Command):
    """Keep only the newest checkpoint of each namespace.

    Rejected (`conflict`) while a run or a state update is in flight or waits.
    """

    type: ClassVar[str] = "thread.prune"
    thread_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireThread(Command):
    """The thread has been idle for its ttl: delete it, or keep only its newest checkpoints, as the ttl says.

    Sent by the partition's owner (command id `ttl:{thread_id}:{expiry}`). Rejected (`conflict`) while a run or a state
    update is in flight or waits, and when the thread has been active after all.
    """

    type: ClassVar[str] = "thread.expire"
    thread_id: str


THREAD_COMMANDS: tuple[type[Command], ...] = (
    CreateThread,
    UpdateThread,
    DeleteThread,
    ImportCheckpoints,
    PruneThread,
    ExpireThread,
)
