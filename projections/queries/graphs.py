"""Reads of the graphs that executors have registered."""

from __future__ import annotations

from typing import Any

import orjson

from threadlog.projections.queries.connection import Reader


async def names(db: Reader) -> list[str]:
    return [row["graph_id"] for row in await db.fetch("SELECT graph_id FROM graphs ORDER BY graph_id")]


async def info(db: Reader, graph_id: str) -> dict[str, Any] | None:
    """The `info` of the graph's `graph.registered` event: schemas, drawings, subgraphs, output channels. None: no such
    graph is registered."""
    text = await db.fetchval("SELECT info FROM graphs WHERE graph_id = $1", graph_id)
    return None if text is None else orjson.loads(text)
