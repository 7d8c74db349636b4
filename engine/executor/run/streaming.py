"""From LangGraph's stream events to stream frames: names, namespaces, order and data of contract 2.1-2.3.

LangGraph calls the stream synchronously at the moment something happens (through the same hook it uses to pass a
subgraph's events to its parent), so frames keep the order in which things happened and cost no task switch each.
Nodes that run in threads call it from there.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from langgraph.config import get_config
from langgraph.constants import TAG_HIDDEN

from threadlog.engine.domain.text import storable
from threadlog.engine.executor.errors import describe_error, shown_in_state
from threadlog.engine.executor.reporting.appender import BatchingAppender
from threadlog.engine.executor.reporting.frames import FrameQueue
from threadlog.engine.executor.reporting.jsonable import dumps
from threadlog.engine.executor.reporting.spill import StreamTooFast
from threadlog.engine.executor.run.lifecycle import Lifecycle
from threadlog.engine.executor.run.messages import MessageFrames, graph_namespace
from threadlog.engine.executor.run.tool_calls import ToolCallHandler
from threadlog.engine.log.records import CHECKPOINT, CHECKPOINT_REF

# modes LangGraph streams through the hook; messages and tools come from callbacks, events from astream_events, and
# lifecycle is made of what passes here
_GRAPH_MODES = frozenset(("values", "updates", "tasks", "checkpoints", "debug"))
MODES = _GRAPH_MODES | {"messages", "messages-tuple", "custom", "events", "tools", "lifecycle"}

_THREAD_WAIT_SECONDS = 0.001
_LARGE_OUTPUT = 16 * 1024  # bytes of JSON


class RunStream:
    """The stream of one attempt.

    `modes`: what the client asked for. `replayable`: clients may go on after a checkpoint that they show already.
    `checkpoint_refs`: tell of every checkpoint without its values, for clients of the event-streaming protocol.
    `planned(ns, payload)` is given every `checkpoints` event, asked for or not.
    """

    def __init__(
        self,
        queue: FrameQueue,
        appender: BatchingAppender,
        *,
        modes: Iterable[str],
        subgraphs: bool,
        replayable: bool = False,
        checkpoint_refs: bool = False,
        planned: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.modes = frozenset(modes)
        self.subgraphs = subgraphs
        # The last event that tells of a checkpoint; what comes after it comes after the checkpoint.
        self._marked_with = ("debug" if "debug" in self.modes else "checkpoints") if replayable else None
        self._checkpoint_refs = checkpoint_refs
        self._queue, self._appender, self._planned = queue, appender, planned
        self._put = queue.put
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._from_thread = False
        self._closed = False
        self._stopped_with: Any = None
        self._left: set[int] = set()
        self._names: dict[tuple[str, tuple[str, ...]], bytes] = {}
        self.values: Any = _NOTHING
        self.plans_come = False  # values are followed by the checkpoint's tasks, if the graph can tell these
        self._held: bytes | None = None  # values not shown yet
        wants = [mode for mode in ("messages", "messages-tuple") if mode in self.modes]
        self.messages = MessageFrames(self.frame, wants) if wants else None
        self._lifecycle = Lifecycle(self._subgraph, describe_error) if "lifecycle" in self.modes else None
        shows_tools = self.frame if "tools" in self.modes else None
        self.tool_calls = ToolCallHandler(shows_tools, self._lifecycle) if shows_tools or self._lifecycle else None

    @property
    def graph_modes(self) -> set[str]:
        """The modes to have LangGraph stream through `__call__`: values (the output) and checkpoints always."""
        tasks = {"tasks"} if self._lifecycle is not None else set()
        return {"values", "checkpoints", *tasks, *(self.modes & _GRAPH_MODES)}

    # --- what the graph emits ------------------------------------------------------------------------------

    def __call__(self, chunk: tuple[tuple[str, ...], str, Any]) -> None:
        """One event of the graph or a subgraph: `(namespace, mode, payload)`. Any thread."""
        if self._closed:
            return self._leave()
        ns, mode, payload = chunk
        if self._held is not None and not ns:
            self._show_held()
        if self._lifecycle is not None:
            self._lifecycle.observe(ns, mode, payload)
        if mode == "checkpoints":
            if threading.get_ident() == self._thread:
                self._planned("|".join(ns), payload)
            else:
                self._loop.call_soon_threadsafe(self._planned, "|".join(ns), payload)
            if self._checkpoint_refs:
                self.frame(ns, _REF_MODE, dumps(_reference(payload)))
            if "checkpoints" in self.modes:
                self.frame(ns, mode, dumps(_public_checkpoint(payload)))
            if self._marked_with == "checkpoints" and not ns:
                self._mark(payload)
            return
        if mode == "values":
            if not ns:
                self.values = payload
            if "values" not in self.modes:
                return
            if not ns and self.plans_come:
                self._held = dumps(payload)
                return
        elif mode == "debug":
            inner = payload["payload"]
            if payload["type"] == "checkpoint":
                self.frame(ns, mode, dumps({**payload, "payload": _debug_checkpoint(inner)}))
                if self._marked_with == "debug" and not ns:
                    self._mark(inner)
                return
            payload = {**payload, "payload": _public_task(inner)}
        elif mode == "tasks":
            payload = _public_task(payload)
        if mode not in self.modes:
            return
        self.frame(ns, mode, dumps(payload))

    def _show_held(self) -> None:
        data, self._held = self._held, None
        if data is not None:
            self._put(b"values", data)

    def write_custom(self, value: Any) -> None:
        """The stream writer nodes get. Any thread; the hottest road of all."""
        if self._closed:
            return self._leave()
        ns = get_config()["configurable"]["checkpoint_ns"]
        if "|" in ns:
            self.frame(tuple(ns.split("|")[:-1]), "custom", dumps(value))
            return
        self._put(b"custom", dumps(value))
        if threading.get_ident() != self._thread:
            self._make_way()
        elif self._queue.spill is not None:
            self._check_speed()

    def ignore_custom(self, _: Any) -> None:
        """The stream writer of a run nobody asked custom events of."""
        if self._closed:
            self._leave()

    def _leave(self) -> None:
        """In a node's thread of a stopped attempt: end the node where it writes to the stream, once."""
        thread = threading.get_ident()
        if self._stopped_with is not None and thread != self._thread and thread not in self._left:
            self._left.add(thread)
            raise asyncio.CancelledError(self._stopped_with)

    def frame(self, ns: tuple[str, ...], mode: str, data: bytes, *, namespaced: bool = True) -> None:
        """A frame for the client; `namespaced` ones of subgraphs only if it wants them. Any thread."""
        if self._closed:
            return self._leave()
        if ns and namespaced and not self.subgraphs:
            return
        self._put(self._name(mode, ns) if ns else mode.encode(), data)
        if threading.get_ident() != self._thread:
            self._make_way()
        elif self._queue.spill is not None:
            self._check_speed()

    def _mark(self, checkpoint: dict[str, Any]) -> None:
        self._put(CHECKPOINT, dumps(checkpoint["config"]["configurable"]["checkpoint_id"]))

    def _subgraph(self, ns: tuple[str, ...], data: dict[str, Any]) -> None:
        """Start and end of a subgraph are told to clients that want no other events of subgraphs, too."""
        if not self._closed:
            self._put(self._name("lifecycle", ns), dumps(data))

    def _name(self, mode: str, ns: tuple[str, ...]) -> bytes:
        name = self._names.get((mode, ns))
        if name is None:
            name = self._names[(mode, ns)] = one_line(f"{mode}|{'|'.join(ns)}")
        return name

    def event(self, event: Any) -> None:
        """One of LangChain's `astream_events`; what the graph itself streams there comes as frames of its modes.

        Those of edges and the like are hidden, as LangGraph's own server hides them.
        """
        if event["event"] == "on_chain_stream" and event["run_id"] == self._queue.run_id:
            return
        if TAG_HIDDEN in event["tags"]:
            return
        if isinstance(error := event["data"].get("error"), BaseException):
            event = {**event, "data": {**event["data"], "error": shown_in_state(error)}}
        metadata = event.get("metadata") or {}
        ns = graph_namespace(metadata) if "|" in metadata.get("langgraph_checkpoint_ns", "") else ()
        self.frame(ns, "events", dumps(event), namespaced=False)

    def _make_way(self) -> None:
        """In a node's thread: let the loop go first (at once with the first frame: somebody waits for it), and wait
        while the log cannot keep up."""
        if (precedence := self._appender.precedence) is not None:
            precedence.make_way(at_once=not self._from_thread)
        self._from_thread = True
        while self._queue.full and not self._closed:
            time.sleep(_THREAD_WAIT_SECONDS)

    def _check_speed(self) -> None:
        """On the loop, where nothing can be waited for, what is too much for memory goes to disk; up to a limit."""
        spill = self._queue.spill
        if spill is not None and spill.too_large:
            raise StreamTooFast(
                f"The node has streamed {spill.most_bytes / 2**30:.2g} GiB more than the log could take, or more than "
                "the disk has room for. Stream less, or from a plain function, which is made to wait."
            )

    # --- begin and end ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The first frame of an attempt."""
        queue = self._queue
        self._put(b"metadata", dumps({"run_id": queue.run_id, "attempt": queue.attempt}))

    def stopped_at_breakpoint(self, values: Any) -> None:
        """An earlier attempt already stood at this breakpoint: say so again."""
        self.values = values
        if "values" in self.modes:
            self._put(b"values", dumps(values))
        if "updates" in self.modes:
            self._put(b"updates", b'{"__interrupt__":[]}')

    def end(self, status: str, error: dict[str, Any] | None, *, waits: bool) -> None:
        """The attempt has ended with this status (of `ReportRun`), `waits` for an answer or not; then the error.

        Values that the graph could make nothing of are not shown: their checkpoint is not kept either.
        """
        if error is None:
            self._show_held()
        if self._lifecycle is not None and status != "released":  # the next attempt starts its subgraphs again
            stopped = waits or status == "interrupted"
            event = "failed" if error is not None else "interrupted" if stopped else "completed"
            self._lifecycle.run_ended(event, error)
        if error is not None:
            self._put(b"error", dumps(error))

    def output(self, kept: Callable[[Collection[str]], bool]) -> None:
        """The final values, for those who wait for the run, when the client's modes do not carry them.

        Large ones only if the thread does not have them anyway: `kept(channels)`. A conversation that grows would
        otherwise be sent with every turn, to nobody as a rule.
        """
        if "values" in self.modes or self.values is _NOTHING:
            return
        data = dumps(self.values)
        if len(data) <= _LARGE_OUTPUT or not (isinstance(self.values, dict) and kept(self.values)):
            self._put(b"~output", data)

    @property
    def has_values(self) -> bool:
        return self.values is not _NOTHING

    def stop(self, message: Any) -> None:
        """The attempt has to stop: once the stream is closed, nodes in threads are ended with this when they write."""
        self._stopped_with = message

    def close(self) -> None:
        """Whatever a forgotten thread still writes is not part of the run."""
        self._closed = True


_NOTHING = object()
_REF_MODE = CHECKPOINT_REF.decode()


def one_line(text: str) -> bytes:
    """A frame's name: one line, whatever a node is called."""
    return storable(text).replace("\n", " ").replace("\r", " ").encode()


def _public_config(config: dict[str, Any] | None) -> dict[str, Any] | None:
    """A config without what only the server and LangGraph put in it."""
    if config is None:
        return None
    return {
        "configurable": {
            key: value
            for key, value in config.get("configurable", {}).items()
            if not key.startswith(("__", "langgraph_")) and key != "user_id"
        }
    }


def _public_task(task: dict[str, Any]) -> dict[str, Any]:
    """A task whose error is told like that of a run (states tell its `repr`)."""
    error = task.get("error")
    if not isinstance(error, BaseException):
        return task
    return {**task, "error": describe_error(error)}


def _public_checkpoint(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        **payload,
        "config": _public_config(payload["config"]),
        "parent_config": _public_config(payload["parent_config"]),
        "tasks": [
            {**task, "state": _public_config(task["state"])} if isinstance(task.get("state"), dict) else task
            for task in map(_public_task, payload["tasks"])
        ],
    }


def _reference(payload: dict[str, Any]) -> dict[str, Any]:
    parent = (_pointer(payload["parent_config"]) or {}).get("checkpoint_id")
    metadata = payload["metadata"]
    shown = {
        "id": payload["config"]["configurable"]["checkpoint_id"],
        "step": metadata.get("step"),
        "source": metadata.get("source"),
    }
    return shown if parent is None else {**shown, "parent_id": parent}


def _pointer(config: dict[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    configurable = config.get("configurable", {})
    keys = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")
    return {key: configurable[key] for key in keys if configurable.get(key) is not None}


def _debug_checkpoint(payload: dict[str, Any]) -> dict[str, Any]:
    """`debug` tells a checkpoint in the form of the state endpoints besides LangGraph's own."""
    public = _public_checkpoint(payload)
    return {
        **public,
        "checkpoint": _pointer(payload["config"]),
        "parent_checkpoint": _pointer(payload["parent_config"]),
        "tasks": [
            {**{k: v for k, v in task.items() if k != "state"}, "checkpoint": _pointer(task["state"])}
            if isinstance(task.get("state"), dict)
            else task
            for task in payload["tasks"]
        ],
    }
