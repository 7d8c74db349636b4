"""Frame translator: the stream frames of one run as events of the protocol's channels.

Every frame is translated whatever a client has subscribed to where the number of its events depends on what came
before, so that an event has the same sequence number in every connection; what is passed on as it is, is not decoded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from threadlog.api.events.content_blocks import MessageEvent, MessageTranslator, Namespace
from threadlog.api.events.filters import EventFilter, FilterUnion
from threadlog.api.events.repeats import RepeatedChunk
from threadlog.api.streaming.cursor import RunEnd
from threadlog.engine.log.records import CHECKPOINT_REF

_LOST = "The executor was lost; the run began again."


def channel_of(method: str) -> str:
    """The channel that carries events of this method."""
    return "input" if method == "input.requested" else method


class Fact(NamedTuple):
    """What is told of a run: `data` is JSON, None where no client of this connection sees it; `id` is a stable event
    id, None where the place in the run is the id."""

    method: str
    namespace: Namespace
    data: bytes | None
    id: str | None = None
    name: str | None = None


class RunTranslator:
    """The frames of one run, then its end; in order. `graph_name`: the id of its graph."""

    def __init__(self, run_id: str, graph_name: str, event_filter: EventFilter | FilterUnion) -> None:
        self._run_id, self._graph_name, self._filter = run_id, graph_name, event_filter
        self._attempt = -1
        self._messages = MessageTranslator()
        self._names: dict[bytes, tuple[str, Namespace]] = {}
        self._open_interrupts: set[str] = set()
        self._started = False
        self._repeated: dict[bytes, tuple[RepeatedChunk, bool]] = {}

    def filter_changed(self) -> None:
        """The filter wants other events from now on."""
        self._repeated.clear()

    def frame(self, attempt: int, name: bytes, data: bytes) -> list[Fact]:
        """The facts of one frame, none for what the protocol has no words for."""
        mode, namespace = self._names.get(name) or self._named(name)
        facts = self._attempt_began(attempt) if attempt != self._attempt else []
        if mode == "messages":
            said = self._message(name, namespace, data)
            return facts + said if facts else said
        elif mode == "values":
            facts += self._values(namespace, data)
        elif mode == "updates":
            facts += self._updates(namespace, data)
        elif mode == "tasks":
            facts += self._tasks(namespace, data)
        elif mode == "custom":
            facts.append(self._custom(namespace, data))
        elif mode == "tools":
            facts += self._tools(namespace, data)
        elif mode == "lifecycle":
            facts += self._subgraph(namespace, data)
        elif mode == _CHECKPOINT_MODE:
            facts.append(self._passed("checkpoints", namespace, data))
        return facts

    def ended(self, end: RunEnd) -> list[Fact]:
        """The facts of the run's end."""
        if end.kind in ("error", "timeout"):
            error = end.error or {}
            message = error.get("message") or error.get("error") or end.kind
            facts = self._said(self._messages.close(message))
            return [*facts, self._root("failed", error=message)]
        facts = self._said(self._messages.close())
        if end.kind == "success":
            for waiting in (end.interrupts or {}).values():
                facts += self._interrupts((), waiting)
            return [*facts, self._root("interrupted" if self._open_interrupts else "completed")]
        return [*facts, self._root("interrupted")]

    # --- the channels

    def _message(self, name: bytes, namespace: Namespace, data: bytes) -> list[Fact]:
        repeated = self._repeated.get(name)
        if repeated is not None:
            chunk, wanted = repeated
            event = chunk.event(data)
            if event is not None:
                return [Fact("messages", namespace, event)] if wanted else _UNSEEN
            del self._repeated[name]
        message, metadata = orjson.loads(data)
        events = self._messages.feed(namespace, message, metadata)
        chunk_like_this = self._messages.repeated(namespace, data, message, events)
        if chunk_like_this is not None:
            self._repeated[name] = (chunk_like_this, self._filter.wants("messages", namespace))
        return self._said(events)

    def _named(self, name: bytes) -> tuple[str, Namespace]:
        mode, *segments = name.decode().split("|")
        mode_and_namespace = self._names[name] = (mode, tuple(segments))
        return mode_and_namespace

    def _attempt_began(self, attempt: int) -> list[Fact]:
        self._repeated.clear()
        facts = self._said(self._messages.close(_LOST)) if self._attempt >= 0 else []
        self._attempt = attempt
        self._open_interrupts.clear()
        if not self._started:
            self._started = True
            facts.append(self._root("running"))
        return facts

    def _root(self, event: str, **more: Any) -> Fact:
        # The JavaScript client reads the run's id out of such an id.
        return self._fact(
            "lifecycle",
            (),
            {"event": event, "graph_name": self._graph_name, **more},
            f"synth:{self._run_id}:lc||{event}",
        )

    def _subgraph(self, namespace: Namespace, data: bytes) -> list[Fact]:
        if not namespace:
            return []
        event = orjson.loads(data)
        node, _, task_id = _last_task(namespace).partition(":")
        shown: dict[str, Any] = {"event": event["event"], "namespace": list(namespace), "graph_name": node}
        if task_id:
            shown["trigger_call_id"] = task_id
        if call := event.get("tool_call_id"):
            shown["cause"] = {"type": "toolCall", "tool_call_id": call}
        if error := event.get("error"):
            shown["error"] = error.get("message") or error.get("error") or ""
        fact_id = f"synth:{self._run_id}:lc|{'|'.join(namespace)}|{event['event']}:{self._attempt}"
        return [self._fact("lifecycle", namespace, shown, fact_id)]

    def _values(self, namespace: Namespace, data: bytes) -> list[Fact]:
        if b'"__interrupt__"' not in data:
            return [self._passed("values", namespace, data)]
        values = orjson.loads(data)
        waiting = values.pop("__interrupt__", None) if isinstance(values, dict) else None
        return [self._fact("values", namespace, values), *self._interrupts(namespace, waiting)]

    def _updates(self, namespace: Namespace, data: bytes) -> list[Fact]:
        if data.startswith(b'{"__interrupt__"'):
            return self._interrupts(namespace, orjson.loads(data).get("__interrupt__"))
        if not self._filter.wants("updates", namespace):
            return [Fact("updates", namespace, None)]
        update = orjson.loads(data)
        if isinstance(update, dict) and len(update) == 1:
            ((node, values),) = update.items()
            return [self._fact("updates", namespace, {"node": node, "values": values})]
        return [self._fact("updates", namespace, {"values": update})]

    def _interrupts(self, namespace: Namespace, waiting: Any) -> list[Fact]:
        facts = []
        for interrupt in waiting or ():
            interrupt_id = str(interrupt.get("id") or "")
            if interrupt_id in self._open_interrupts:
                continue
            self._open_interrupts.add(interrupt_id)
            # `payload` is the protocol's name; the Python client reads `value`.
            shown = {"interrupt_id": interrupt_id, "payload": interrupt.get("value"), "value": interrupt.get("value")}
            if (schema := interrupt.get("response_schema")) is not None:
                shown["response_schema"] = schema
            fact_id = f"synth:{self._run_id}:input|{'|'.join(namespace)}|{interrupt_id}"
            facts.append(self._fact("input.requested", namespace, shown, fact_id))
        return facts

    def _tasks(self, namespace: Namespace, data: bytes) -> list[Fact]:
        facts = [self._passed("tasks", namespace, data)]
        if b'"result":' in data and isinstance(task := orjson.loads(data), dict) and "result" in task:
            self._repeated.clear()
            facts += self._said(self._messages.task_ended(str(task.get("id"))))
        return facts

    def _custom(self, namespace: Namespace, data: bytes) -> Fact:
        name = None
        if data.startswith(b"{") and b'"name"' in data:
            value = orjson.loads(data)
            if isinstance(value.get("name"), str):
                name = value["name"]
                data = orjson.dumps({"name": name, "payload": value.get("payload", value)})
        if not self._filter.wants("custom", namespace, name):
            return Fact("custom", namespace, None)
        return Fact("custom", namespace, data if name is not None else b'{"payload":%b}' % data, name=name)

    def _tools(self, namespace: Namespace, data: bytes) -> list[Fact]:
        call = orjson.loads(data)
        call_id = call.get("toolCallId")
        if call_id is None:
            return []  # called without an id by the model: the protocol can't name it
        event = call["event"]
        if event == "on_tool_start":
            shown = {"event": "tool-started", "tool_name": call.get("name") or "", "input": call.get("input")}
        elif event == "on_tool_event":
            delta = call.get("data")
            shown = {"event": "tool-output-delta", "delta": delta if isinstance(delta, str) else _text(delta)}
        elif event == "on_tool_end":
            shown = {"event": "tool-finished", "output": call.get("output")}
        else:
            error = call.get("error") or {}
            shown = {"event": "tool-error", "message": error.get("message") or error.get("error") or "the tool failed"}
        return [self._fact("tools", namespace, {**shown, "tool_call_id": call_id})]

    # --- facts

    def _said(self, events: list[MessageEvent]) -> list[Fact]:
        return [self._fact("messages", event.namespace, event.data) for event in events]

    def _fact(self, method: str, namespace: Namespace, data: Any, fact_id: str | None = None) -> Fact:
        if not self._filter.wants(channel_of(method), namespace):
            return Fact(method, namespace, None, fact_id)
        return Fact(method, namespace, orjson.dumps(data), fact_id)

    def _passed(self, method: str, namespace: Namespace, data: bytes) -> Fact:
        return Fact(method, namespace, data if self._filter.wants(method, namespace) else None)


_UNSEEN = [Fact("messages", (), None)]
_CHECKPOINT_MODE = CHECKPOINT_REF.decode()


def _last_task(namespace: Namespace) -> str:
    """A task's second subgraph has a number behind the task."""
    segments = [segment for segment in namespace if not segment.isdecimal()]
    return segments[-1] if segments else namespace[-1]


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
