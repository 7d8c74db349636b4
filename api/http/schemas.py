"""Response schemas: JSON Schemas of the responses, for the OpenAPI description."""

from __future__ import annotations

from typing import Any

_TIME = {"type": "string", "format": "date-time"}
_UUID = {"type": "string", "format": "uuid"}
_OBJECT: dict[str, Any] = {"type": "object", "additionalProperties": True}
_TEXT = {"type": "string"}
_INT = {"type": "integer"}
_ANY: dict[str, Any] = {}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


_INTERRUPT = _object({"id": _TEXT, "value": _ANY})
_CHECKPOINT = _object({"thread_id": _TEXT, "checkpoint_ns": _TEXT}, checkpoint_id=_TEXT, checkpoint_map=_OBJECT)
_BYTES = _object({"count": _INT, "bytes": _INT})

SCHEMAS: dict[str, Any] = {
    "Error": _object({"detail": {"type": "string", "description": "What is wrong, and what to do"}}),
    "Health": _object({"ok": {"type": "boolean"}, "services": _OBJECT}),
    "Info": _object({"version": _TEXT, "langgraph_py_version": _or_null(_TEXT), "flags": _OBJECT, "host": _OBJECT}),
    "Count": _INT,
    "Pruned": _object({"pruned_count": _INT}),
    "Output": {"description": "The run's final values; `__interrupt__` and `__error__` as the run ended"},
    "Assistant": _object(
        {
            "assistant_id": _UUID,
            "graph_id": _TEXT,
            "config": _OBJECT,
            "context": _OBJECT,
            "metadata": _OBJECT,
            "name": _TEXT,
            "description": _or_null(_TEXT),
            "version": _INT,
            "created_at": _TIME,
        },
        updated_at=_TIME,
    ),
    "Drawing": _object({"nodes": {"type": "array", "items": _OBJECT}, "edges": {"type": "array", "items": _OBJECT}}),
    "Schemas": _object(
        {
            "graph_id": _TEXT,
            "input_schema": _or_null(_OBJECT),
            "output_schema": _or_null(_OBJECT),
            "state_schema": _or_null(_OBJECT),
            "config_schema": _or_null(_OBJECT),
            "context_schema": _or_null(_OBJECT),
        }
    ),
    "Thread": _object(
        {
            "thread_id": _UUID,
            "created_at": _TIME,
            "updated_at": _TIME,
            "state_updated_at": _TIME,
            "metadata": _OBJECT,
            "status": {"enum": ["idle", "busy", "interrupted", "error"]},
            "config": _OBJECT,
            "values": _ANY,
            "error": _or_null(_OBJECT),
            "interrupts": {"type": "object", "additionalProperties": {"type": "array", "items": _INTERRUPT}},
        },
        ttl=_or_null(_OBJECT),
        extracted=_OBJECT,
    ),
    "ThreadState": {
        "description": "All of it, unless `select` asked for less",
        **_object(
            {},
            values=_ANY,
            next={"type": "array", "items": _TEXT},
            tasks={"type": "array", "items": _OBJECT},
            metadata=_or_null(_OBJECT),
            created_at=_or_null(_TIME),
            checkpoint=_or_null(_CHECKPOINT),
            parent_checkpoint=_or_null(_CHECKPOINT),
            interrupts={"type": "array", "items": _INTERRUPT},
            checkpoint_id=_or_null(_TEXT),
            parent_checkpoint_id=_or_null(_TEXT),
        ),
    },
    "StateUpdated": _object({"checkpoint": _CHECKPOINT, "checkpoint_id": _TEXT}, configurable=_OBJECT),
    "Storage": _object(
        {
            "thread_id": _UUID,
            "total_bytes": _INT,
            "checkpoints": _BYTES,
            "channel_values": _object({"count": _INT, "bytes": _INT, "by_channel": _OBJECT}),
            "pending_writes": _BYTES,
        }
    ),
    "Run": _object(
        {
            "run_id": _UUID,
            "thread_id": _UUID,
            "assistant_id": _UUID,
            "metadata": _OBJECT,
            "status": {"enum": ["pending", "running", "success", "error", "timeout", "interrupted"]},
            "kwargs": _OBJECT,
            "multitask_strategy": {"enum": ["reject", "rollback", "interrupt", "enqueue"]},
            "created_at": _TIME,
            "updated_at": _TIME,
        },
        cancel_reason=_or_null(_TEXT),
        langsmith_session_name=_or_null(_TEXT),
    ),
}
