"""An assistant, and what is known of its graph, as clients receive it."""

from __future__ import annotations

from typing import Any, NotRequired

import asyncpg
from typing_extensions import TypedDict

from threadlog.api.http.models import AnyObject, Id, Time
from threadlog.api.http.responses import raw, time_text


class AssistantResponse(TypedDict):
    """One version of an assistant."""

    assistant_id: Id
    graph_id: str
    config: AnyObject
    context: AnyObject
    metadata: AnyObject
    name: str
    description: str | None
    version: int
    created_at: Time
    updated_at: NotRequired[Time]


class DrawingResponse(TypedDict):
    """A graph's nodes and edges."""

    nodes: list[AnyObject]
    edges: list[AnyObject]


class SchemasResponse(TypedDict):
    """JSON Schemas of a graph; null where none can be made."""

    graph_id: str | None
    input_schema: AnyObject | None
    output_schema: AnyObject | None
    state_schema: AnyObject | None
    config_schema: AnyObject | None
    context_schema: AnyObject | None


SubgraphsResponse = dict[str, SchemasResponse]


def schemas_to_json(graph_id: str | None, described: dict[str, Any]) -> SchemasResponse:
    """`described`: what the graph's executor has registered, by kind."""

    def schema(name: str) -> AnyObject | None:
        return described.get(name, described.get(f"{name}_schema"))

    return {
        "graph_id": graph_id,
        "input_schema": schema("input"),
        "output_schema": schema("output"),
        "state_schema": schema("state"),
        "config_schema": schema("config"),
        "context_schema": schema("context"),
    }


def assistant_to_json(row: asyncpg.Record, *, with_updated_at: bool = True) -> AssistantResponse:
    """`row`: of `projections.queries.assistants`, the current version or (`with_updated_at=False`) a former one."""
    item: AssistantResponse = {
        "assistant_id": str(row["assistant_id"]),
        "graph_id": row["graph_id"],
        "config": raw(row["config"]),
        "context": raw(row["context"]),
        "metadata": raw(row["metadata"]),
        "name": row["name"],
        "description": row["description"],
        "version": row["version"],
        "created_at": time_text(row["created_at"]),
    }
    if with_updated_at:
        item["updated_at"] = time_text(row["updated_at"])
    return item
