"""The graph aggregate: the digest of what executors registered last, so that a restart adds nothing to the log."""

from __future__ import annotations

from typing import Any, NamedTuple

from threadlog.engine.domain.commands import Command, RegisterGraph
from threadlog.engine.domain.events import CommandRepeated, Event, GraphRegistered

PREFIX = "graph:"
"""Before the graph id in the aggregate's key."""


class Graph(NamedTuple):
    graph_id: str
    digest: str | None = None
    recent: tuple[str, ...] = ()


def initial(key: str) -> Graph:
    return Graph(graph_id=key.removeprefix(PREFIX))


def decide(s: Graph, command: Command, *, cmd_id: str, at: str) -> list[Event]:
    """The events of one command."""
    if cmd_id in s.recent:
        return [CommandRepeated()]
    if not isinstance(command, RegisterGraph):
        raise KeyError(command.type)
    if command.digest == s.digest:
        return []
    return [GraphRegistered(graph_id=s.graph_id, digest=command.digest, info=command.info)]


def evolve(s: Graph, event: Event, at: str) -> Graph:
    return s._replace(digest=event.digest) if isinstance(event, GraphRegistered) else s


def dump(s: Graph) -> dict[str, Any]:
    return {"digest": s.digest, "recent": list(s.recent)}


def load(key: str, stored: dict[str, Any]) -> Graph:
    return Graph(graph_id=key.removeprefix(PREFIX), digest=stored["digest"], recent=tuple(stored["recent"]))
