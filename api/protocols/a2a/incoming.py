"""A client's message as what a run is given."""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from threadlog.api.protocols.a2a.dialect import parts_0_3
from threadlog.api.protocols.a2a.tasks import TASK_NOT_FOUND, parse_task_id
from threadlog.api.protocols.json_rpc import INVALID_PARAMS, RpcError
from threadlog.engine.ids import as_uuid

CONTENT_TYPE_NOT_SUPPORTED = -32005
_ID_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Incoming:
    """`context_id`: the thread, None for a new one. `task`: the run of the task that the message continues, if any.
    `parts`: as A2A 0.3 has them."""

    message_id: str
    context_id: str | None
    task: str | None
    by_agent: bool
    parts: list[dict[str, Any]]

    @property
    def text(self) -> str:
        return "\n".join(part["text"] for part in self.parts if part["kind"] == "text")

    @property
    def data(self) -> dict[str, Any]:
        """What its data parts add to the graph's input."""
        merged: dict[str, Any] = {}
        for part in self.parts:
            if part["kind"] == "data" and isinstance(part["data"], dict):
                merged |= part["data"]
        return merged

    def as_input(self) -> dict[str, Any]:
        """The input of a graph with the key `messages`."""
        files = self._files()
        content: Any = self.text
        if files:
            content = [*([{"type": "text", "text": self.text}] if self.text else []), *files]
        role = "assistant" if self.by_agent else "user"
        return {"messages": [{"role": role, "content": content, "id": self.message_id}], **self.data}

    def as_answer(self) -> Any:
        """What answers an interrupt: its text, else its data, else its files."""
        return self.text or self.data or self._files()

    @property
    def needs_messages(self) -> bool:
        """Whether it says something that has its place in `messages` only."""
        return any(part["kind"] != "data" for part in self.parts)

    def _files(self) -> list[dict[str, Any]]:
        return [_block(part["file"]) for part in self.parts if part["kind"] == "file"]


def incoming(params: dict[str, Any]) -> Incoming:
    """Raises `RpcError`: it is no message."""
    message = params.get("message")
    if not isinstance(message, dict):
        raise RpcError(INVALID_PARAMS, "Missing or invalid 'message' in params")
    parts = parts_0_3(message.get("parts"))
    if parts is None:
        raise RpcError(INVALID_PARAMS, "message.parts: must be a list of text, data or file parts")
    context = message.get("contextId") or None
    context_id = as_uuid(context) if isinstance(context, str) else None
    if context is not None and context_id is None:
        raise RpcError(INVALID_PARAMS, "message.contextId: must be a UUID")
    task_id = message.get("taskId") or None
    task = None
    if task_id is not None:
        thread_id, task = parse_task_id(task_id)
        if context_id not in (None, thread_id):
            raise RpcError(TASK_NOT_FOUND, f"Task not found in this context: {str(task_id)[:100]}")
        context_id = thread_id
    message_id = message.get("messageId") or str(uuid4())
    if not isinstance(message_id, str) or len(message_id) > _ID_CHARACTERS:
        raise RpcError(INVALID_PARAMS, f"message.messageId: must be a text of at most {_ID_CHARACTERS} characters")
    by_agent = message.get("role") in ("agent", "ROLE_AGENT")
    return Incoming(message_id, context_id, task, by_agent, parts)


def _block(file: dict[str, str]) -> dict[str, Any]:
    """A file as a content block of LangChain's messages. Raises `RpcError`: it is none."""
    if ("uri" in file) == ("bytes" in file):
        raise RpcError(CONTENT_TYPE_NOT_SUPPORTED, "file: must have either `bytes` or `uri`")
    mime = file.get("mimeType") or "application/octet-stream"
    kind = mime.partition("/")[0]
    block: dict[str, Any] = {"type": kind if kind in ("image", "audio", "video") else "file", "mime_type": mime}
    if "uri" in file:
        if not file["uri"].startswith(("http://", "https://")):
            raise RpcError(CONTENT_TYPE_NOT_SUPPORTED, "file.uri: must be an http or https URL")
        return {**block, "url": file["uri"]}
    try:
        b64decode(file["bytes"], validate=True)
    except (binascii.Error, ValueError):
        raise RpcError(CONTENT_TYPE_NOT_SUPPORTED, "file.bytes: must be base64") from None
    return {**block, "base64": file["bytes"]}
