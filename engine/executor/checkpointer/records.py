"""Checkpoints and their metadata as they stand in commands: plain JSON, without values."""

from __future__ import annotations

from collections.abc import Collection
from types import NoneType
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    EXCLUDED_METADATA_KEYS,
    Checkpoint,
    CheckpointMetadata,
    get_serializable_checkpoint_metadata,
)

from threadlog.engine.executor.reporting.jsonable import as_json
from threadlog.engine.executor.state_migrations import VERSION
from threadlog.engine.user_code.migrations_section import FIRST_VERSION

_COMPOUND = (NoneType, dict, list)  # what LangGraph's savers leave out of metadata
_INTERNAL = ("__", "langgraph_", "checkpoint_")
_PLAIN = frozenset((
    "source", "step", "parents", "counters_since_delta_snapshot", "run_attempt", "run_id", "thread_id", "graph_id",
    "assistant_id", "cron_id", "user_id", "created_by",
))  # fmt: skip
_OF_PARENT = EXCLUDED_METADATA_KEYS - {"thread_id", "checkpoint_id", "checkpoint_map"}


def plain_checkpoint(checkpoint: Checkpoint, version: int = FIRST_VERSION) -> dict[str, Any]:
    """`version`: of the graph's state, see `engine.executor.state_migrations`."""
    out = {k: v for k, v in checkpoint.items() if k not in ("channel_values", "pending_sends")}
    if "pending_sends" in checkpoint:
        out["pending_sends"] = []  # older formats only; what is pending stands in the tasks channel
    if version != FIRST_VERSION:
        out[VERSION] = version
    return out


def plain_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    """Metadata as LangGraph's savers store it, in plain JSON that jsonb accepts; and what clients see besides: nulls,
    objects and lists, and of which task of its parent a subgraph is.
    """
    out: dict[str, Any] = dict(get_serializable_checkpoint_metadata(config, metadata))
    given, configurable = config.get("metadata") or {}, config.get("configurable") or {}
    for key, value in given.items():
        if type(value) in _COMPOUND and key not in out and key not in EXCLUDED_METADATA_KEYS:
            out[key] = value
    for key, value in configurable.items():
        if type(value) in _COMPOUND and key not in out and not key.startswith(_INTERNAL):
            out[key] = value
    if configurable.get("checkpoint_ns"):
        out |= {key: given[key] for key in _OF_PARENT if key in given}
        if checkpoint_map := configurable.get("checkpoint_map"):
            out["checkpoint_map"] = checkpoint_map
    for key, value in out.items():
        if not value or value is True or (isinstance(value, str) and value.isascii()):
            continue  # as nearly all are
        if type(value) is int and -(2**53) < value < 2**53:
            continue
        out[key] = _without_nul(as_json(value))
    return out


def without_content(metadata: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Of a checkpoint's metadata what may be stored readable: LangGraph's and the server's own fields, and those of
    these names. LangGraph copies `configurable` into it, and with that the caller's context."""
    return {k: v for k, v in metadata.items() if k in names or k in _PLAIN or k.startswith(_INTERNAL)}


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(k): _without_nul(v) for k, v in value.items()}
    return [_without_nul(v) for v in value] if isinstance(value, list) else value
