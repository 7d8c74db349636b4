"""Commands for assistants; key: assistant_id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from threadlog.engine.domain.commands.base import Command, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAssistant(Command):
    """Create an assistant; an existing one is rejected (`conflict`) or left untouched with `do_nothing`."""

    type: ClassVar[str] = "assistant.create"
    assistant_id: str
    graph_id: str
    name: str = "Untitled"
    description: str | None = None
    config: JsonObject = field(default_factory=dict)
    context: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAssistant(Command):
    """Make version n+1; None leaves a field as it is, metadata is merged, config and context are replaced."""

    type: ClassVar[str] = "assistant.update"
    assistant_id: str
    graph_id: str | None = None
    name: str | None = None
    description: str | None = None
    config: JsonObject | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLatestAssistant(Command):
    """Make an existing version current again."""

    type: ClassVar[str] = "assistant.set_latest"
    assistant_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAssistant(Command):
    type: ClassVar[str] = "assistant.delete"
    assistant_id: str


ASSISTANT_COMMANDS: tuple[type[Command], ...] = (
    CreateAssistant,
    UpdateAssistant,
    SetLatestAssistant,
    DeleteAssistant,
)
