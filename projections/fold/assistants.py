"""What the events of assistants and graphs change in `assistants`, `assistant_versions` and `graphs`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from threadlog.engine.domain.text import storable
from threadlog.projections.fold.batch import ProjectionBatch, clean_text, text


def created(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.assistants.append((
        "created", at, event["assistant_id"], 1, event["graph_id"], storable(event.get("name", "Untitled")),
        _clean(event.get("description")), text(event.get("config", {})), text(event.get("context", {})),
        clean_text(event.get("metadata", {})),
    ))  # fmt: skip


def updated(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    config, context, metadata = event.get("config"), event.get("context"), event.get("metadata")
    rows.assistants.append((
        "updated", at, event["assistant_id"], event["version"], event.get("graph_id"), _clean(event.get("name")),
        _clean(event.get("description")), None if config is None else text(config),
        None if context is None else text(context), None if metadata is None else clean_text(metadata),
    ))  # fmt: skip


def latest_set(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.assistants.append(("latest_set", at, event["assistant_id"], event["version"], *[None] * 6))


def deleted(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.assistants.append(("deleted", at, event["assistant_id"], None, *[None] * 6))


def graph_registered(rows: ProjectionBatch, event: dict[str, Any], at: datetime, p: int) -> None:
    rows.graphs[event["graph_id"]] = (event["digest"], event["info"], at)


def _clean(value: str | None) -> str | None:
    return None if value is None else storable(value)


HANDLERS = {
    "assistant.created": created,
    "assistant.updated": updated,
    "assistant.latest_set": latest_set,
    "assistant.deleted": deleted,
    "graph.registered": graph_registered,
}
