"""In-process cache of assistants and graphs, invalidated by `assistant.*` and `graph.*` events."""

from __future__ import annotations

from typing import Any

import orjson

from threadlog.engine.run_builder import AssistantDefaults
from threadlog.projections.queries import assistants, graphs
from threadlog.projections.queries.connection import Reader

_MOST = 4096


class AssistantCache:
    """A cache in front of the read models. What it returns must not be changed by the caller.

    A read that overlaps a change may be stale; it is then not kept: `_generation` moves with every change.
    """

    def __init__(self) -> None:
        self._assistants: dict[str, AssistantDefaults] = {}
        self._graphs: dict[str, dict[str, Any]] = {}
        self._names: list[str] | None = None
        self._generation = 0
        self.complete = False  # whether every graph of the settings has been registered once

    def changed(self, event: dict[str, Any]) -> None:
        """Drop what this projected event of an assistant or a graph makes stale."""
        self._generation += 1
        if "assistant_id" in event:
            self._assistants.pop(event["assistant_id"], None)
        else:
            self._names = None
            self._graphs.pop(event.get("graph_id", ""), None)

    async def assistant(self, db: Reader, assistant_id: str) -> AssistantDefaults | None:
        cached = self._assistants.get(assistant_id)
        if cached is not None:
            return cached
        generation = self._generation
        row = await assistants.get(db, assistant_id)
        if row is None:
            return None
        assistant = AssistantDefaults(
            assistant_id=assistant_id,
            graph_id=row["graph_id"],
            config=orjson.loads(row["config"]),
            context=orjson.loads(row["context"]),
            metadata=orjson.loads(row["metadata"]),
        )
        if generation == self._generation:
            if len(self._assistants) >= _MOST:
                self._assistants.clear()
            self._assistants[assistant_id] = assistant
        return assistant

    async def graph_names(self, db: Reader) -> list[str]:
        if self._names is not None:
            return self._names
        generation = self._generation
        names = await graphs.names(db)
        if generation == self._generation:
            self._names = names
        return names

    async def graph(self, db: Reader, graph_id: str) -> dict[str, Any] | None:
        """The graph's `info`, or None when no executor has registered it."""
        cached = self._graphs.get(graph_id)
        if cached is not None:
            return cached
        generation = self._generation
        info = await graphs.info(db, graph_id)
        if info is not None and generation == self._generation:
            self._graphs[graph_id] = info
        return info
