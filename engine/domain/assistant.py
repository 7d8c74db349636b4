"""The assistant aggregate: which versions exist. Their content is in the events and the read models."""

from __future__ import annotations

from typing import Any, NamedTuple

from threadlog.engine.domain.commands import (
    Command,
    CreateAssistant,
    DeleteAssistant,
    SetLatestAssistant,
    UpdateAssistant,
)
from threadlog.engine.domain.events import (
    AssistantCreated,
    AssistantDeleted,
    AssistantLatestSet,
    AssistantUpdated,
    CommandRejected,
    CommandRepeated,
    Event,
)


class Assistant(NamedTuple):
    """`versions`: the highest version, 0 while the assistant does not exist; numbered from 1 without gaps."""

    assistant_id: str
    versions: int = 0
    recent: tuple[str, ...] = ()


def initial(key: str) -> Assistant:
    return Assistant(assistant_id=key)


def decide(s: Assistant, command: Command, *, cmd_id: str, at: str) -> list[Event]:
    """The events of one command."""
    if cmd_id in s.recent:
        return [CommandRepeated()]
    if isinstance(command, CreateAssistant):
        return _create(s, command)
    if not s.versions:
        return [CommandRejected(code="not_found", detail=f"Assistant with ID {s.assistant_id} not found")]
    match command:
        case UpdateAssistant():
            return [
                AssistantUpdated(
                    assistant_id=s.assistant_id,
                    version=s.versions + 1,
                    graph_id=command.graph_id,
                    name=command.name,
                    description=command.description,
                    config=command.config,
                    context=command.context,
                    metadata=command.metadata,
                )
            ]
        case SetLatestAssistant(version=version):
            if not 1 <= version <= s.versions:
                detail = f"Version {version} not found for assistant {s.assistant_id}"
                return [CommandRejected(code="not_found", detail=detail)]
            return [AssistantLatestSet(assistant_id=s.assistant_id, version=version)]
        case DeleteAssistant():
            return [AssistantDeleted(assistant_id=s.assistant_id)]
    raise KeyError(command.type)


def _create(s: Assistant, c: CreateAssistant) -> list[Event]:
    if s.versions:
        if c.if_exists == "do_nothing":
            return []
        return [CommandRejected(code="conflict", detail=f"Assistant with ID {s.assistant_id} already exists")]
    return [
        AssistantCreated(
            assistant_id=s.assistant_id,
            graph_id=c.graph_id,
            name=c.name,
            description=c.description,
            config=c.config,
            context=c.context,
            metadata=c.metadata,
        )
    ]


def evolve(s: Assistant, event: Event, at: str) -> Assistant:
    match event:
        case AssistantCreated():
            return s._replace(versions=1)
        case AssistantUpdated(version=version):
            return s._replace(versions=version)
        case AssistantDeleted():
            return s._replace(versions=0)
    return s


def dump(s: Assistant) -> dict[str, Any]:
    return {"versions": s.versions, "recent": list(s.recent)}


def load(key: str, stored: dict[str, Any]) -> Assistant:
    return Assistant(assistant_id=key, versions=stored["versions"], recent=tuple(stored["recent"]))
