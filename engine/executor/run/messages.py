"""Chat messages as stream frames: `messages-tuple` (chunks as they come) and `messages` (accumulated, contract 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

from threadlog.engine.executor.langgraph_internals import StreamMessagesHandler, graph_namespace
from threadlog.engine.executor.reporting.jsonable import dumps

__all__ = ["Chunk", "MessageFrames", "MessageHandler", "PutFrame", "graph_namespace"]

Chunk = tuple[tuple[str, ...], str, Any]


class PutFrame(Protocol):
    def __call__(self, ns: tuple[str, ...], mode: str, data: bytes, *, namespaced: bool = True) -> None: ...


class MessageHandler(StreamMessagesHandler):
    """LangGraph's own collector of messages, given to the run as a callback.

    LangGraph takes handlers that want no subgraphs out of the callbacks it inherits, so this one says it wants them
    and leaves them aside itself: a subgraph's message then shows up when the parent returns it, once.
    """

    def __init__(self, stream: Callable[[Chunk], None], subgraphs: bool) -> None:
        super().__init__(stream, True)
        self._wanted = subgraphs

    def _skip(self, metadata: dict[str, Any] | None) -> bool:
        return not self._wanted and bool(metadata) and bool(graph_namespace(metadata or {}))

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        if metadata and "langgraph_checkpoint_ns" in metadata and not self._skip(metadata):
            return super().on_chat_model_start(serialized, messages, run_id=run_id, metadata=metadata, **kwargs)
        return None

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        if metadata and "langgraph_checkpoint_ns" in metadata and not self._skip(metadata):
            return super().on_chain_start(serialized, inputs, run_id=run_id, metadata=metadata, **kwargs)
        return None


class MessageFrames:
    """Makes the frames of `(message, metadata)` events. Any thread; one call at a time per model call."""

    def __init__(self, frame: PutFrame, modes: Sequence[str]) -> None:
        self._frame = frame
        self._tuple, self._accumulated = "messages-tuple" in modes, "messages" in modes
        self._metadata: tuple[Any, bytes] = (None, b"{}")
        self._so_far: dict[str, BaseMessageChunk] = {}
        self._announced: set[str] = set()

    def __call__(self, chunk: Chunk) -> None:
        ns, _, (message, metadata) = chunk
        if self._tuple:
            known, encoded = self._metadata
            if known is not metadata:  # the same object for every chunk of a model call
                encoded = dumps(metadata)
                self._metadata = (metadata, encoded)
            self._frame(ns, "messages", b"[" + dumps(message) + b"," + encoded + b"]")
        if self._accumulated:
            self._accumulate(ns, message, metadata)

    def _accumulate(self, ns: tuple[str, ...], message: BaseMessage, metadata: dict[str, Any]) -> None:
        message_id = message.id or ""
        if message_id not in self._announced:
            self._announced.add(message_id)
            self._frame(ns, "messages/metadata", dumps({message_id: {"metadata": metadata}}), namespaced=False)
        if isinstance(message, BaseMessageChunk):
            so_far = self._so_far.get(message_id)
            whole = message if so_far is None else so_far + message
            self._so_far[message_id] = whole
            data = dumps([message_chunk_to_message(whole)])
            self._frame(ns, "messages/partial", data, namespaced=False)
        else:
            self._so_far.pop(message_id, None)
            self._frame(ns, "messages/complete", dumps([message]), namespaced=False)
