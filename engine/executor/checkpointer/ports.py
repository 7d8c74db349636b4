"""What a checkpointer needs of others, as protocols."""

from __future__ import annotations

from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot


class Reporter(Protocol):
    """Where the items of an attempt go (`engine.executor.reporting.reporter`)."""

    def add(self, item: dict[str, Any]) -> None:
        """Report this, after everything added before. Buffered."""

    async def flush(self) -> None:
        """Everything added so far is durably in the log when this returns."""

    async def applied(self) -> None:
        """Everything added so far is in the log and projected when this returns."""


class StatefulGraph(Protocol):
    """What `finish` asks of a compiled graph."""

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot: ...
