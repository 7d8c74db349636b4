"""Tool calls as callbacks tell of them: frames of the `tools` mode, and which subgraph a tool call has started."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.constants import TAG_HIDDEN, TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp

from threadlog.engine.executor.errors import describe_error
from threadlog.engine.executor.langgraph_internals import tool_call_writer
from threadlog.engine.executor.reporting.jsonable import dumps
from threadlog.engine.executor.run.messages import PutFrame, graph_namespace


@dataclass(slots=True)
class ToolCall:
    """A tool call. `id`: the model's id of it, None for a tool called without one; `run_id`: of its callbacks.

    `ns`: the graph it belongs to; `task`: the task it runs in, whose subgraphs have that namespace; `above`: the call
    that has made this one.
    """

    id: str | None
    run_id: UUID
    name: str
    ns: tuple[str, ...]
    task: tuple[str, ...]
    above: ToolCall | None
    shown: bool
    open: bool = True


class Observer(Protocol):
    """Is told when a tool call has ended: `error` is what it raised."""

    def tool_ended(self, run_id: UUID, error: BaseException | None) -> None: ...


# A call may end in another context than it began in, so it is not taken out again: it is marked as ended.
_calling: ContextVar[ToolCall | None] = ContextVar("threadlog_tool_call", default=None)


def tool_call() -> ToolCall | None:
    """The tool call that the current code is part of."""
    call = _calling.get()
    while call is not None and not call.open:
        call = call.above
    return call


class ToolCallHandler(BaseCallbackHandler):
    """Follows a run's tool calls, those of subgraphs included. Any thread.

    `frame`: where `on_tool_start`, `on_tool_event`, `on_tool_end` and `on_tool_error` go, None to show none of them.
    A tool that waits for an answer has neither ended nor failed: it starts again when the run is resumed.
    """

    run_inline = True  # in the context the tool will run in, and before it does
    # A handler that hears of models is called for each token; without `on_chat_model_start` LangChain makes one text of
    # all messages for it. Tools are told under the name of agents.
    ignore_llm = ignore_chat_model = ignore_chain = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self, frame: PutFrame | None, observer: Observer | None) -> None:
        self._frame, self._observer = frame, observer
        self._calls: dict[UUID, ToolCall] = {}

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        metadata = metadata or {}
        place = metadata.get("langgraph_checkpoint_ns")
        call = self._calls[run_id] = ToolCall(
            id=tool_call_id,
            run_id=run_id,
            name=(serialized or {}).get("name") or name or "",
            ns=graph_namespace(metadata) if place else (),
            task=tuple(place.split("|")) if place else (),
            above=tool_call(),
            shown=self._frame is not None and not {TAG_HIDDEN, TAG_NOSTREAM}.intersection(tags or ()),
        )
        _calling.set(call)
        if self._frame is not None:
            tool_call_writer.set(self._delta)
        self._show(call, "on_tool_start", input=inputs if inputs is not None else input_str)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        if (call := self._ended(run_id, None)) is not None:
            self._show(call, "on_tool_end", output=output)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        call = self._ended(run_id, error)
        if call is not None and not isinstance(error, GraphBubbleUp):
            self._show(call, "on_tool_error", error=describe_error(error))

    def _delta(self, delta: Any) -> None:
        if (call := tool_call()) is not None:
            self._show(call, "on_tool_event", data=delta)

    def _ended(self, run_id: UUID, error: BaseException | None) -> ToolCall | None:
        call = self._calls.pop(run_id, None)
        if call is not None:
            call.open = False
            if self._observer is not None:
                self._observer.tool_ended(run_id, error)
        return call

    def _show(self, call: ToolCall, event: str, **details: Any) -> None:
        if call.shown and self._frame is not None:
            known = {} if call.id is None else {"toolCallId": call.id}
            self._frame(call.ns, "tools", dumps({"event": event, **known, "name": call.name, **details}))
