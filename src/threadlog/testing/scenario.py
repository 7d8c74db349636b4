"""Given/when/then for graphs: `given(graph, history).when(input).then(what has to come of it)`.

The graph runs in this process with LangGraph's own checkpointer in memory, or, as `server.graph(name)`, on a server.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, ToolCall
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command

from threadlog.testing.matching import as_message, is_call, matches, messages_in, shown

T = TypeVar("T")

_START, _END = "__start__", "__end__"
_NOT_EXPECTED: Any = object()


class Unexpected(AssertionError):
    """Something else happened than a scenario expects; the message has both, and what happened step by step."""


@dataclass(frozen=True, slots=True)
class Input:
    """As a part of the history: a run with this input has gone before."""

    values: Any


@dataclass(frozen=True, slots=True)
class Resume:
    """The answer to an interrupt; `{interrupt id: answer}` where there are several."""

    value: Any


@dataclass(slots=True)
class Outcome:
    """What came of one run.

    `state`: the values of the thread. `interrupts`: the values that are asked about. `messages`: those that nodes have
    emitted in this run; `tool_calls`: the calls in them. `nodes`: which ran, in order, with their `updates`. `next`:
    which would run next. `error`: what a node raised.
    """

    scenario: Scenario = field(repr=False)
    state: Any
    interrupts: list[Any]
    messages: list[AnyMessage]
    updates: list[tuple[str, Any]]
    next: tuple[str, ...]
    error: Exception | None

    @property
    def nodes(self) -> list[str]:
        return [node for node, _ in self.updates]

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [one for message in self.messages if isinstance(message, AIMessage) for one in message.tool_calls]

    def then(
        self,
        *,
        state: Mapping[str, Any] = _NOT_EXPECTED,
        interrupts: Sequence[Any] = _NOT_EXPECTED,
        messages: Sequence[Any] = _NOT_EXPECTED,
        tool_calls: Sequence[Any] = _NOT_EXPECTED,
        nodes: Sequence[str] = _NOT_EXPECTED,
        next: Sequence[str] = _NOT_EXPECTED,
        raises: type[Exception] | str | None = None,
    ) -> Outcome:
        """Returns this outcome if it is as expected; what is left out is not looked at, but that no node has raised.

        Values are compared by `threadlog.testing.matching.matches`. `raises`: the class of the error, or a part of its
        text.

        Raises:
            Unexpected: with all that differs.
        """
        __tracebackhide__ = True  # of pytest: the test's line is what its reader wants
        wrong = []
        if raises is None and self.error is not None:
            wrong.append(f"raised: {type(self.error).__name__}: {self.error}")
        elif raises is not None and not _is_error(raises, self.error):
            wrong.append(f"raises: expected {raises!r}, but {_raised(self.error)}")
        if state is not _NOT_EXPECTED:
            there = self.state if isinstance(self.state, Mapping) else {}
            for key, value in state.items():
                if key not in there:
                    wrong.append(f"state[{key!r}]: expected {shown(value)}, but there is none: {sorted(there)}")
                elif not matches(value, there[key]):
                    wrong.append(_differs(f"state[{key!r}]", value, there[key]))
        for name, expected, actual in (
            ("interrupts", interrupts, self.interrupts),
            ("messages", messages, self.messages),
            ("nodes", nodes, self.nodes),
            ("next", next, self.next),
        ):
            if expected is not _NOT_EXPECTED and not matches(list(expected), list(actual)):
                wrong.append(_differs(name, list(expected), list(actual)))
        if tool_calls is not _NOT_EXPECTED:
            made = self.tool_calls
            if len(tool_calls) != len(made) or not all(map(is_call, tool_calls, made)):
                wrong.append(_differs("tool_calls", list(tool_calls), made))
        if wrong:
            raise Unexpected("\n  ".join([f"{len(wrong)} not as expected", *wrong, self._story()])) from self.error
        return self

    def when(self, input: Any) -> Outcome:
        """Go on with the same thread: an input, or `Resume(answer)`."""
        return self.scenario.when(input)

    async def awhen(self, input: Any) -> Outcome:
        return await self.scenario.awhen(input)

    def _story(self) -> str:
        lines = ["what happened:"]
        lines += [f"  {node} → {shown(update)}" for node, update in self.updates]
        lines += [f"  interrupt: {shown(value)}" for value in self.interrupts]
        if self.error is not None:
            lines.append(f"  {_raised(self.error)}")
        return "\n  ".join(lines)


class Scenario:
    """A thread of one graph. Made by `given`."""

    def __init__(self, graph: Any, history: Sequence[Any], config: Mapping[str, Any], context: Any) -> None:
        self._graph = graph
        self._history: list[Any] = list(history)
        self._options: dict[str, Any] = {} if context is None else {"context": context}
        configurable = {"thread_id": str(uuid.uuid4()), **(config.get("configurable") or {})}
        self._config: Any = {**config, "configurable": configurable}
        self._begun = self._stored = False

    @property
    def thread_id(self) -> str:
        return str(self._config["configurable"]["thread_id"])

    def when(self, input: Any) -> Outcome:
        """Run the graph with this input, or `Resume(answer)`, or a `Command`; blocks. It runs on an event loop in
        another thread, so this works in tests with and without one; a graph that uses what belongs to the test's own
        loop needs `awhen`."""
        return _blocking(self.awhen(input))

    async def awhen(self, input: Any) -> Outcome:
        """As `when`, on the event loop of the caller."""
        if not self._begun:
            self._begun = True
            await self._begin()
        return await self._run(input)

    async def _begin(self) -> None:
        if isinstance(self._graph, RemoteGraph):
            assert self._graph.client is not None
            assistants = await self._graph.client.assistants.search(limit=1000)
            graphs = {assistant["assistant_id"]: assistant["graph_id"] for assistant in assistants}
            graph_id = graphs.get(self._graph.assistant_id, self._graph.assistant_id)
            await self._graph.client.threads.create(thread_id=self.thread_id, graph_id=graph_id)
        for number, step in enumerate(self._history, 1):
            if isinstance(step, Mapping):
                await self._graph.aupdate_state(self._config, step, as_node=_START)
                await self._graph.aupdate_state(self._config, None, as_node=_END)
                self._stored = True
                continue
            outcome = await self._run(step)
            if outcome.error is not None:
                raise Unexpected(f"step {number} of the history failed: {_raised(outcome.error)}") from outcome.error

    async def _run(self, input: Any) -> Outcome:
        if isinstance(input, Resume):
            input = Command(resume=input.value)
        elif isinstance(input, Input):
            input = input.values
        before = {message.id for message in messages_in(await self._values())}
        updates: list[tuple[str, Any]] = []
        error: Exception | None = None
        try:
            async for update in self._graph.astream(input, self._config, stream_mode="updates", **self._options):
                updates += [(node, value) for node, value in update.items() if node != "__interrupt__"]
        except Exception as raised:
            error = raised
        self._stored = True
        snapshot = await self._graph.aget_state(self._config)
        # Of a node that was resumed and has failed or asked again LangGraph tells an update of nothing.
        unfinished = {task.name for task in snapshot.tasks if task.error or task.interrupts}
        updates = [(node, value) for node, value in updates if value is not None or node not in unfinished]
        emitted: dict[Any, AnyMessage] = {}
        for _, update in updates:
            for message in messages_in(update):
                if message.id is None or message.id not in before:
                    emitted[message.id or id(message)] = message
        interrupts = [waiting.value for task in snapshot.tasks for waiting in task.interrupts]
        return Outcome(self, snapshot.values, interrupts, list(emitted.values()), updates, snapshot.next, error)

    async def _values(self) -> Any:
        if isinstance(self._graph, RemoteGraph) and not self._stored:
            return {}  # whose client can't read the state of a thread that has none
        return (await self._graph.aget_state(self._config)).values


def given(
    graph: Any,
    *history: Any,
    config: Mapping[str, Any] | None = None,
    context: Any = None,
    store: Any = None,
) -> Scenario:
    """A new thread of `graph` on which this has happened, in order: a mapping is the state that the thread has come to,
    `Input(…)` a run that really runs, `Resume(…)` the answer to its interrupt.

    Args:
        graph: a `StateGraph`, a compiled graph, an entrypoint, or `server.graph(name)`. In this process it gets a
            checkpointer in memory, whichever it was compiled with.
        config: `configurable` and whatever else LangGraph takes; `context`: of a graph with a context schema.
        store: for graphs that use one; in this process only.
    """
    if isinstance(graph, StateGraph):
        graph = graph.compile()
    if isinstance(graph, Pregel):
        graph = graph.copy({"checkpointer": InMemorySaver(), **({} if store is None else {"store": store})})
    elif not isinstance(graph, RemoteGraph):
        raise TypeError(f"expected a graph, not {type(graph).__name__}; of a function that makes one, its result")
    return Scenario(graph, history, config or {}, context)


def _is_error(expected: type[Exception] | str, error: Exception | None) -> bool:
    if error is None:
        return False
    if isinstance(expected, str):
        return expected in str(error)
    if isinstance(error, RemoteException):  # the server tells the class's name
        told = error.args[0] if error.args else None
        return isinstance(told, Mapping) and told.get("error") == expected.__name__
    return isinstance(error, expected)


def _raised(error: Exception | None) -> str:
    return "nothing was raised" if error is None else f"{type(error).__name__} was raised: {error}"


def _differs(name: str, expected: Any, actual: Any) -> str:
    return f"{name}:\n    expected {shown(expected)}\n    but got  {shown(as_message(actual))}"


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all blocking scenarios of this process, so that what graphs keep for their loop stays usable."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="threadlog-scenarios", daemon=True).start()
    return loop


def _blocking(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()
