"""Events of graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from threadlog.engine.domain.events.base import Event, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRegistered(Event):
    type: ClassVar[str] = "graph.registered"
    graph_id: str
    digest: str
    info: JsonObject


GRAPH_EVENTS: tuple[type[Event], ...] = (GraphRegistered,)
