"""Events of assistants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from threadlog.engine.domain.events.base import Event, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantCreated(Event):
    type: ClassVar[str] = "assistant.created"
    assistant_id: str
    graph_id: str
    name: str = "Untitled"
    description: str | None = None
    config: JsonObject = field(default_factory=dict)
    context: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantUpdated(Event):
    """Version `version` exists and is current; None fields are those of the version before it, metadata is merged."""

    type: ClassVar[str] = "assistant.updated"
    assistant_id: str
    version: int
    graph_id: str | None = None
    name: str | None = None
    description: str | None = None
    config: JsonObject | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantLatestSet(Event):
    type: ClassVar[str] = "assistant.latest_set"
    assistant_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantDeleted(Event):
    type: ClassVar[str] = "assistant.deleted"
    assistant_id: str


ASSISTANT_EVENTS: tuple[type[Event], ...] = (
    AssistantCreated,
    AssistantUpdated,
    AssistantLatestSet,
    AssistantDeleted,
)
