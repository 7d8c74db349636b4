"""A task: a run and what its thread holds, as A2A 0.3 has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import orjson

from threadlog.api.context import Api
from threadlog.api.http.responses import decoded
from threadlog.api.protocols.json_rpc import RpcError
from threadlog.engine.ids import as_uuid
from threadlog.projections.queries import runs, state
from threadlog.projections.queries.metadata_filter import MetadataFilter

TASK_NOT_FOUND = -32001
LONGEST_HISTORY = 10
_SMALL = 65_536  # characters of JSON, parsed for each task that is shown
MESSAGE_ID = "a2a_message_id"
"""Key of a run's metadata: the id of the message that began it."""

_STATES = {
    "pending": "submitted",
    "running": "working",
    "success": "completed",
    "error": "failed",
    "timeout": "failed",
    "interrupted": "canceled",
}
ENDED = frozenset(("completed", "failed", "canceled"))


@dataclass(frozen=True, slots=True)
class HistoryScope:
    """How much of the conversation a task shows: the newest `length` messages, those of this task `only`."""

    length: int = LONGEST_HISTORY
    only: bool = False


def task_id_of(thread_id: str, run_id: str) -> str:
    return f"{thread_id}:{run_id}"


def parse_task_id(value: Any) -> tuple[str, str]:
    """Thread and run. Raises `RpcError`: there can't be such a task."""
    thread, _, run = str(value).partition(":")
    thread_id, run_id = as_uuid(thread), as_uuid(run)
    if thread_id is None or run_id is None:
        raise RpcError(TASK_NOT_FOUND, f"Task not found: {str(value)[:100]}")
    return thread_id, run_id


async def task_of(
    api: Api, assistant_id: str, thread_id: str, run_id: str, scope: HistoryScope, only: MetadataFilter | None = None
) -> dict[str, Any]:
    """The task that began with this run as it stands now, if its thread passes `only`: its newest run tells how it is.

    Raises `RpcError`: the assistant has no such task.
    """
    task_id = task_id_of(thread_id, run_id)
    first = await runs.get(api.pool, run_id, thread_id, only)
    if first is None or str(first["assistant_id"]) != assistant_id:
        raise RpcError(TASK_NOT_FOUND, f"Task not found: {task_id}")
    by = orjson.loads(first["metadata"]).get(MESSAGE_ID)
    run_id = (await runs.of_task(api.pool, thread_id, run_id))[0]
    row = first if run_id == str(first["run_id"]) else await runs.get(api.pool, run_id, thread_id) or first
    progress = await runs.progress(api.pool, run_id, thread_id)
    newest = await state.get_state(api.pool, thread_id)
    status: dict[str, Any] = {
        "state": _STATES.get(row["status"], "working"),
        "timestamp": row["updated_at"].isoformat(timespec="microseconds"),
    }
    values = decoded(newest["values"])
    messages = values.get("messages") if isinstance(values, dict) else None
    messages = [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    began = next((place for place, one in enumerate(messages) if one.get("id") == by), None)
    if began is None and status["state"] in ("submitted", "working") and (given := _not_yet_stored(first, by)):
        began = len(messages)
        messages += given
    artifacts: list[dict[str, Any]] = []
    if status["state"] == "completed" and newest["metadata"] and newest["metadata"].get("run_id") == run_id:
        asked = decoded(newest["interrupts"])
        if asked:
            status["state"] = "input-required"
            artifacts = [_artifact(run_id, "Interrupt", [{"kind": "data", "data": one} for one in asked])]
        elif said := _last_text(messages[began or 0 :]):
            artifacts = [_artifact(run_id, "Assistant Response", [{"kind": "text", "text": said}])]
        elif not messages:
            artifacts = [_artifact(run_id, "Assistant Response", [{"kind": "data", "data": values}])]
    if status["state"] == "failed" and progress is not None:
        error = orjson.loads(progress["error"]) if isinstance(progress["error"], str) else progress["error"] or {}
        words = ": ".join(str(part) for part in (error.get("error"), error.get("message")) if part)
        status["message"] = _message(
            "agent", f"Error executing assistant: {words}", f"{run_id}-error", task_id, thread_id
        )
    history = [
        shown
        for place, one in enumerate(messages)
        if (not scope.only or (began is not None and place >= began))
        and (shown := _shown(one, task_id if began is not None and place >= began else None, thread_id))
    ]
    task: dict[str, Any] = {"kind": "task", "id": task_id, "contextId": thread_id, "status": status}
    if scope.length:
        task["history"] = history[-scope.length :]
    if artifacts:
        task["artifacts"] = artifacts
    return task


def _artifact(run_id: str, name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    artifact_id = str(uuid5(UUID(run_id), orjson.dumps([name, parts]).decode()))
    return {"artifactId": artifact_id, "name": name, "description": f"{name} of the run", "parts": parts}


def _message(role: str, text: str, message_id: str, task_id: str | None, context_id: str) -> dict[str, Any]:
    made = {
        "kind": "message", "role": role, "parts": [{"kind": "text", "text": text}], "messageId": message_id,
        "contextId": context_id,
    }  # fmt: skip
    return made if task_id is None else {**made, "taskId": task_id}


def working(task_id: str, context_id: str, text: str, message_id: str, at: str) -> dict[str, Any]:
    """What is said so far."""
    said = _message("agent", text, message_id, task_id, context_id)
    return {
        "kind": "status-update", "taskId": task_id, "contextId": context_id, "final": False,
        "status": {"state": "working", "message": said, "timestamp": at},
    }  # fmt: skip


def _not_yet_stored(run: Any, message_id: Any) -> list[dict[str, Any]]:
    """The message that began a run, until it is in its thread's values; none that is large."""
    if len(run["kwargs"]) > _SMALL:
        return []
    given = orjson.loads(run["kwargs"]).get("input")
    messages = given.get("messages") if isinstance(given, dict) else None
    return [
        {"type": "human", **one}
        for one in (messages if isinstance(messages, list) else [])
        if isinstance(one, dict) and one.get("id") == message_id is not None and one.get("role") == "user"
    ]


def _shown(message: dict[str, Any], task_id: str | None, context_id: str) -> dict[str, Any] | None:
    role = {"human": "user", "ai": "agent"}.get(str(message.get("type")))
    text = text_of(message.get("content"))
    if role is None or not text:
        return None
    return _message(role, text, str(message.get("id") or ""), task_id, context_id)


def _last_text(messages: list[dict[str, Any]]) -> str:
    return next((t for one in reversed(messages) if one.get("type") == "ai" and (t := text_of(one.get("content")))), "")


def text_of(content: Any) -> str:
    """The text of a message's content, which may be blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(
        block if isinstance(block, str) else block.get("text", "")
        for block in content
        if isinstance(block, str) or (isinstance(block, dict) and block.get("type") == "text")
    )
