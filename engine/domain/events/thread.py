"""Events of a thread itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.events.base import Event, JsonObject, ThreadStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadCreated(Event):
    type: ClassVar[str] = "thread.created"
    thread_id: str
    metadata: JsonObject = field(default_factory=dict)
    ttl: JsonObject | None = None
    copied_from: str | None = None
    status: ThreadStatus = "idle"
    interrupts: JsonObject = field(default_factory=dict)
    config: JsonObject = field(default_factory=dict)
    error: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadUpdated(Event):
    type: ClassVar[str] = "thread.updated"
    thread_id: str
    metadata: JsonObject = field(default_factory=dict)
    ttl: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadDeleted(Event):
    type: ClassVar[str] = "thread.deleted"
    thread_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPruned(Event):
    type: ClassVar[str] = "thread.pruned"
    thread_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadExpired(Event):
    """Idle for its ttl: the thread is deleted, or pruned, by the event beside this one. `ttl`: the one that ran out.

    After `keep_latest` the clock stands still until something happens on the thread.
    """

    type: ClassVar[str] = "thread.expired"
    thread_id: str
    ttl: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStatusChanged(Event):
    """`interrupts`: {leaf task id: [{id, value}]}, replaced when not None; `error`: replaced (None clears it).

    `settled`: only with `busy`, when a run ended and others wait: the status the thread has once nothing is in flight.
    """

    type: ClassVar[str] = "thread.status_changed"
    thread_id: str
    status: ThreadStatus
    interrupts: JsonObject | None = None
    error: JsonObject | None = None
    settled: ThreadStatus | None = None


THREAD_EVENTS: tuple[type[Event], ...] = (
    ThreadCreated,
    ThreadUpdated,
    ThreadDeleted,
    ThreadPruned,
    ThreadExpired,
    ThreadStatusChanged,
)
