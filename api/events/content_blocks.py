"""Message translator: chat-model chunks (`messages-tuple` frames) as the protocol's message and content-block events.

`message-start`, then per block `content-block-start` and `content-block-delta`s, and once the message is complete a
`content-block-finish` per block and `message-finish`. A message that was not streamed has its blocks in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from threadlog.api.events.repeats import RepeatedChunk

Namespace = tuple[str, ...]
JsonObject = dict[str, Any]

# Providers' forms of what `tool_call_chunks` of the same message carry already.
_CARRIED_BY_CHUNKS = frozenset(("tool_use", "input_json_delta", "tool_call", "tool_call_chunk", "function_call"))
_DATA = frozenset(("image", "audio", "video", "file", "server_tool_call", "server_tool_result"))
_TEXT_OF_DELTA = {"text-delta": "text", "reasoning-delta": "reasoning", "tool-call-delta": "args"}
_SCALARS = (str, int, float, bool)
_FROM_METADATA = {
    "ls_provider": "provider",
    "ls_model_name": "model",
    "ls_model_type": "model_type",
    "run_id": "run_id",
    "thread_id": "thread_id",
    "langgraph_node": "langgraph_node",
}


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """One event of the `messages` channel."""

    namespace: Namespace
    data: JsonObject


@dataclass(slots=True)
class _Block:
    kind: str  # text, reasoning, tool
    text: list[str] = field(default_factory=list)
    id: str | None = None
    name: str | None = None

    def finished(self) -> JsonObject:
        text = "".join(self.text)
        if self.kind == "tool":
            return _tool_call(self.id, self.name, text)
        return {"type": self.kind, self.kind: text}


@dataclass(slots=True)
class _Message:
    id: str
    namespace: Namespace
    task: str
    blocks: dict[Any, tuple[int, _Block]] = field(default_factory=dict)
    count: int = 0
    usage: JsonObject | None = None
    alone: bool = True  # no other message of this graph has been open beside it
    last: _Block | None = None  # the block of the last delta

    def event(self, **data: Any) -> MessageEvent:
        # Clients route what has no id to the only open message of the graph; beside another one it needs its id:
        # the Python client reads `message_id`, the JavaScript client `run_id`.
        if not self.alone:
            data |= self.route()
        return MessageEvent(self.namespace, data)

    def route(self) -> JsonObject:
        return {"message_id": self.id, "run_id": self.id}


class MessageTranslator:
    """The messages of one attempt: `feed` it every chunk in order."""

    def __init__(self) -> None:
        self._open: dict[tuple[Namespace, str], _Message] = {}

    def feed(self, namespace: Namespace, message: JsonObject, metadata: JsonObject) -> list[MessageEvent]:
        """The events that one `[message, metadata]` of a `messages` frame means; none for what no model has said."""
        kind = message.get("type")
        if kind == "AIMessageChunk":
            return self._chunk(namespace, message, metadata)
        if kind == "ai":
            return self._whole(namespace, message, metadata)
        return []

    def repeated(
        self, namespace: Namespace, data: bytes, message: JsonObject, events: list[MessageEvent]
    ) -> RepeatedChunk | None:
        """How to recognise chunks like this one, which `feed` made these events of; None if each has to be read."""
        if len(events) != 1 or message.get("usage_metadata") is not None:
            return None
        event, open_message = events[0].data, self._open.get((namespace, str(message.get("id") or "")))
        delta = event.get("delta") or {}
        field_name = _TEXT_OF_DELTA.get(delta.get("type", ""))
        if field_name is None or open_message is None or open_message.last is None:
            return None
        return RepeatedChunk.of(data, event, delta[field_name], open_message.last.text.append)

    def task_ended(self, task_id: str) -> list[MessageEvent]:
        """Finish the messages of a task that has ended: models of older versions do not mark their last chunk."""
        return self._finish([m for m in self._open.values() if m.task == task_id])

    def close(self, error: str | None = None) -> list[MessageEvent]:
        """The attempt has ended; with `error`, what is still open ends as an `error` event."""
        if error is None:
            return self._finish(list(self._open.values()))
        failed = [m.event(event="error", message=error) for m in self._open.values()]
        self._open.clear()
        return failed

    # --- streamed

    def _chunk(self, namespace: Namespace, chunk: JsonObject, metadata: JsonObject) -> list[MessageEvent]:
        message_id = str(chunk.get("id") or "")
        message = self._open.get((namespace, message_id))
        events: list[MessageEvent] = []
        if message is None:
            message = self._start(namespace, message_id, metadata, events)
        self._content(message, chunk.get("content"), events)
        reasoning = (chunk.get("additional_kwargs") or {}).get("reasoning_content")
        if isinstance(reasoning, str) and reasoning:
            _delta(message, ("reasoning", None), "reasoning", reasoning, events)
        for call in chunk.get("tool_call_chunks") or ():
            _tool_delta(message, call, events)
        if (usage := chunk.get("usage_metadata")) is not None:
            message.usage = _added(message.usage, usage)
        if chunk.get("chunk_position") == "last":
            events += self._finish([message])
        return events

    def _start(
        self, namespace: Namespace, message_id: str, metadata: JsonObject, events: list[MessageEvent]
    ) -> _Message:
        task = str(metadata.get("langgraph_checkpoint_ns") or "").rpartition("|")[2].partition(":")[2]
        message = self._open[(namespace, message_id)] = _Message(message_id, namespace, task)
        beside = [m for m in self._open.values() if m.namespace == namespace]
        if len(beside) > 1:
            for other in beside:
                other.alone = False
        shown = {
            name: value for key, name in _FROM_METADATA.items() if isinstance(value := metadata.get(key), _SCALARS)
        }
        start: JsonObject = {"event": "message-start", "role": "ai", "id": message_id, **message.route()}
        if shown:
            start["metadata"] = shown
        events.append(MessageEvent(namespace, start))
        return message

    def _content(self, message: _Message, content: Any, events: list[MessageEvent]) -> None:
        if isinstance(content, str):
            if content:
                _delta(message, ("text", None), "text", content, events)
            return
        for part in content or ():
            if isinstance(part, str):
                _delta(message, ("text", None), "text", part, events)
            elif isinstance(part, dict):
                _part(message, part, events)

    def _finish(self, messages: list[_Message]) -> list[MessageEvent]:
        events: list[MessageEvent] = []
        for message in messages:
            for index, block in message.blocks.values():
                events.append(message.event(event="content-block-finish", index=index, content=block.finished()))
            data: JsonObject = {"event": "message-finish"}
            if message.usage is not None:
                data["usage"] = message.usage
            events.append(message.event(**data))
            del self._open[(message.namespace, message.id)]
        return events

    # --- not streamed

    def _whole(self, namespace: Namespace, whole: JsonObject, metadata: JsonObject) -> list[MessageEvent]:
        message_id = str(whole.get("id") or "")
        if (namespace, message_id) in self._open:  # its chunks have been shown
            return self._finish([self._open[(namespace, message_id)]])
        events: list[MessageEvent] = []
        message = self._start(namespace, message_id, metadata, events)
        self._content(message, whole.get("content"), events)
        for call in whole.get("tool_calls") or ():
            args = orjson.dumps(call.get("args") or {}).decode()
            _tool_delta(message, {"id": call.get("id"), "name": call.get("name"), "args": args}, events)
        message.usage = whole.get("usage_metadata")
        return events + self._finish([message])


def _part(message: _Message, part: JsonObject, events: list[MessageEvent]) -> None:
    kind, index = part.get("type"), part.get("index")
    if kind == "text":
        _delta(message, ("text", index), "text", str(part.get("text") or ""), events)
    elif kind in ("reasoning", "thinking", "reasoning_content"):
        _delta(message, ("reasoning", index), "reasoning", _reasoning(part), events)
    elif kind not in _CARRIED_BY_CHUNKS:
        block = part if kind in _DATA else {"type": "non_standard", "value": part}
        at, message.count = message.count, message.count + 1
        events.append(message.event(event="content-block-start", index=at, content=block))
        events.append(message.event(event="content-block-finish", index=at, content=block))


def _reasoning(part: JsonObject) -> str:
    """The text of a block of thoughts, in the forms of the providers."""
    for key in ("reasoning", "thinking", "text"):
        if isinstance(text := part.get(key), str):
            return text
    inner = part.get("reasoning_content")
    if isinstance(inner, dict):
        return str(inner.get("text") or "")
    summary = part.get("summary")
    if isinstance(summary, list):
        return "".join(str(piece.get("text") or "") for piece in summary if isinstance(piece, dict))
    return ""


def _delta(message: _Message, key: Any, kind: str, text: str, events: list[MessageEvent]) -> None:
    if not text:
        return
    known = message.blocks.get(key)
    if known is None:
        known = _begin(message, key, _Block(kind))
        events.append(message.event(event="content-block-start", index=known[0], content={"type": kind, kind: ""}))
    index, block = known
    block.text.append(text)
    message.last = block
    delta = {"type": f"{kind}-delta", kind: text}
    events.append(message.event(event="content-block-delta", index=index, delta=delta))


def _tool_delta(message: _Message, call: JsonObject, events: list[MessageEvent]) -> None:
    index = call.get("index")
    key = ("tool", index if index is not None else call.get("id"))
    known = message.blocks.get(key)
    if known is None:
        block = _Block("tool", id=call.get("id"), name=call.get("name"))
        known = _begin(message, key, block)
        content = {"type": "tool_call_chunk", "id": block.id, "name": block.name, "args": ""}
        events.append(message.event(event="content-block-start", index=known[0], content=content))
    else:
        named = {name: value for name in ("id", "name") if (value := call.get(name)) and not getattr(known[1], name)}
        for name, value in named.items():
            setattr(known[1], name, value)
        if named:
            fields = {"type": "tool_call_chunk", **named}
            events.append(
                message.event(
                    event="content-block-delta", index=known[0], delta={"type": "block-delta", "fields": fields}
                )
            )
    at, block = known
    if args := call.get("args"):
        block.text.append(args)
        message.last = block
        delta = {"type": "tool-call-delta", "args": args}
        events.append(message.event(event="content-block-delta", index=at, delta=delta))


def _begin(message: _Message, key: Any, block: _Block) -> tuple[int, _Block]:
    known = message.blocks[key] = (message.count, block)
    message.count += 1
    return known


def _tool_call(call_id: str | None, name: str | None, text: str) -> JsonObject:
    try:
        args = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        return {"type": "invalid_tool_call", "id": call_id, "name": name, "args": text, "error": str(error)}
    if not isinstance(args, dict) or not name:
        problem = "the arguments are not a JSON object" if name else "the model named no tool"
        return {"type": "invalid_tool_call", "id": call_id, "name": name, "args": text, "error": problem}
    return {"type": "tool_call", "id": call_id, "name": name, "args": args}


def _added(usage: JsonObject | None, more: JsonObject) -> JsonObject:
    """Token counts of the chunks together: providers tell of the input with the first, of the output with the last."""
    if usage is None:
        return dict(more)
    total = dict(usage)
    for key, value in more.items():
        if isinstance(value, dict):
            total[key] = _added(total.get(key), value)
        elif isinstance(value, int) and not isinstance(value, bool):
            total[key] = (total.get(key) or 0) + value
    return total
