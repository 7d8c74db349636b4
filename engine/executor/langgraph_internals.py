"""What LangGraph keeps to itself and threadlog uses, in one place, and stand-ins for what older versions lack.

`make test-lowest` runs the tests with the oldest versions that pyproject.toml allows, `make test-newest` with the
newest. The rest of the package imports LangGraph's public names, and these from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any, NotRequired, TypedDict, cast

from langgraph._internal._config import ensure_config
from langgraph._internal._constants import (
    CONFIG_KEY_CHECKPOINTER,
    CONFIG_KEY_DURABILITY,
    CONFIG_KEY_RUNTIME,
    CONFIG_KEY_STREAM,
    INTERRUPT,
    NS_SEP,
    NULL_TASK_ID,
    RESUME,
)
from langgraph.pregel._loop import PregelLoop
from langgraph.pregel._messages import StreamMessagesHandler
from langgraph.pregel.protocol import StreamProtocol
from langgraph.runtime import DEFAULT_RUNTIME

__all__ = (
    "CONFIG_KEY_CHECKPOINTER",
    "CONFIG_KEY_DURABILITY",
    "CONFIG_KEY_RUNTIME",
    "CONFIG_KEY_STREAM",
    "DEFAULT_RUNTIME",
    "NULL_TASK_ID",
    "RESUME",
    "STRICT_MSGPACK_ENABLED",
    "DeltaChannelHistory",
    "ExecutionRuntime",
    "GraphDrained",
    "PregelLoop",
    "ReadRuntime",
    "RunControl",
    "StreamMessagesHandler",
    "control_options",
    "ensure_config",
    "graph_namespace",
    "loading_options",
    "stream_hook",
    "tool_call_writer",
    "writes_sort_key",
)

Chunk = tuple[tuple[str, ...], str, Any]
Stream = Callable[[Chunk], None]


# --- stopping a run between two supersteps (langgraph 1.2) -----------------------------------------------------------

try:
    from langgraph.errors import GraphDrained
    from langgraph.runtime import RunControl

    _DRAINS_ITSELF = True
except ImportError:
    _DRAINS_ITSELF = False

    class GraphDrained(Exception):  # type: ignore[no-redef]
        """The run stopped between two supersteps, as its `RunControl` asked."""

    class RunControl:  # type: ignore[no-redef]
        """Asks a run to stop before its next superstep. Any thread."""

        def __init__(self) -> None:
            self.drain_reason: str | None = None

        def request_drain(self, reason: str = "shutdown") -> None:
            self.drain_reason = reason

        @property
        def drain_requested(self) -> bool:
            return self.drain_reason is not None


def control_options(control: RunControl) -> dict[str, Any]:
    """Options for `astream` by which a LangGraph that drains runs itself follows `control`."""
    return {"control": control} if _DRAINS_ITSELF else {}


def stream_hook(stream: Stream, modes: set[str], control: RunControl) -> StreamProtocol:
    """What LangGraph calls with every event of a run and its subgraphs, at the moment it happens.

    Where LangGraph can't drain a run, the hook does it: a superstep begins with the event of the checkpoint before it,
    and an exception there leaves that checkpoint as the newest.
    """
    if not _INTERRUPTS_STAND_IN_VALUES:
        stream = _InterruptsInValues(stream)
    if _DRAINS_ITSELF:
        return StreamProtocol(stream, cast(Any, modes))

    def stream_or_stop(chunk: Chunk) -> None:
        stream(chunk)
        ns, mode, payload = chunk
        if mode == "checkpoints" and not ns and payload["next"] and control.drain_requested:
            raise GraphDrained(control.drain_reason or "shutdown")

    return StreamProtocol(stream_or_stop, cast(Any, modes))


_INTERRUPTS_STAND_IN_VALUES = tuple(map(int, version("langgraph").split(".")[:3])) >= (1, 0, 4)


class _InterruptsInValues:
    """Shows the interrupts of a superstep in its `values` too, as LangGraph does since 1.0.4.

    Before, it emitted `{"__interrupt__": …}` alone, and as `values` only if there are no `updates`.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._newest: dict[tuple[str, ...], Any] = {}

    def __call__(self, chunk: Chunk) -> None:
        ns, mode, payload = chunk
        if mode not in ("values", "updates") or not isinstance(payload, dict) or payload.keys() != {INTERRUPT}:
            if mode == "values":
                self._newest[ns] = payload
            self._stream(chunk)
            return
        if mode == "updates":
            self._stream(chunk)
        if payload[INTERRUPT]:  # empty at a breakpoint, which `values` never show
            newest = self._newest.get(ns)
            self._stream((ns, "values", {**newest, **payload} if isinstance(newest, dict) else payload))


# --- messages and tool calls -----------------------------------------------------------------------------------------

try:
    from langgraph.pregel._messages import graph_namespace
except ImportError:  # langgraph 1.2.19 has it, with the namespaces of `@task` calls told apart

    def graph_namespace(metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """Namespace of the graph a task runs in, from the task's run metadata."""
        return tuple(metadata["langgraph_checkpoint_ns"].split(NS_SEP))[:-1]


try:
    from langgraph.pregel._tools import _tool_call_writer as tool_call_writer
except ImportError:  # what a tool writes with `ToolRuntime.emit_output_delta`, of langgraph 1.2
    tool_call_writer = ContextVar("tool_call_writer", default=None)


# --- checkpoints -----------------------------------------------------------------------------------------------------

try:
    from langgraph.checkpoint.base import DeltaChannelHistory
except ImportError:  # langgraph-checkpoint 4.1; no older LangGraph has delta channels

    class DeltaChannelHistory(TypedDict):  # type: ignore[no-redef]
        """The nearest stored value of a delta channel, and the writes since, oldest first."""

        writes: list[tuple[str, str, Any]]
        seed: NotRequired[Any]


try:
    from langgraph.checkpoint.base import writes_sort_key
except ImportError:  # langgraph-checkpoint 4.3

    def writes_sort_key(task_path: str, task_id: str = "", idx: int = 0) -> tuple[str, str, int]:
        """The order in which LangGraph applies the writes of one superstep."""
        return (task_path, task_id, idx)


try:
    from langgraph.checkpoint.serde._msgpack import STRICT_MSGPACK_ENABLED
    from langgraph.checkpoint.serde.jsonplus import _create_msgpack_ext_hook
except ImportError:  # langgraph-checkpoint 4.0.1: before it every type is loaded, and nothing is said about it
    STRICT_MSGPACK_ENABLED = False
    _create_msgpack_ext_hook = None  # type: ignore[assignment]


def loading_options(allowed: set[tuple[str, ...]]) -> dict[str, Any]:
    """Options for `JsonPlusSerializer` with which it loads these types and no others, without a warning."""
    if _create_msgpack_ext_hook is None:
        return {}
    return {"__unpack_ext_hook__": _create_msgpack_ext_hook(allowed)}


# --- graph factories -------------------------------------------------------------------------------------------------

try:
    from langgraph_sdk.runtime import _ExecutionRuntime as ExecutionRuntime
    from langgraph_sdk.runtime import _ReadRuntime as ReadRuntime
except ImportError:  # langgraph-sdk 0.3.5 has them, and the `ServerRuntime` that a factory is annotated with
    ExecutionRuntime = ReadRuntime = None  # type: ignore[assignment,misc]
