"""Graphs of the tests' user whose nodes end in every way a node can: errors of all kinds, exits, cancellations."""

import asyncio
import operator
import threading
import weakref
from typing import Annotated, Any, ClassVar, TypedDict

import anyio
import langgraph.errors
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

try:
    from langgraph.errors import GraphDrained
except ImportError:  # before LangGraph 1.2

    class GraphDrained(Exception):
        pass


class State(TypedDict, total=False):
    items: Annotated[list, operator.add]
    n: int


def _graph(name, node):
    return StateGraph(State).add_node(name, node).add_edge(START, name).compile()


def _leave(state):
    raise SystemExit(3)


async def _leave_async(state):
    raise KeyboardInterrupt


leaving = _graph("leave", _leave)
leaving_async = _graph("leave", _leave_async)


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class Own(BaseException):
    pass


RAISED = {
    "generator exit": GeneratorExit,
    "stop iteration": StopIteration,
    "stop async iteration": StopAsyncIteration,
    "cancelled": asyncio.CancelledError,
    "base": Own,
    "group": lambda: ExceptionGroup("many", [ValueError("one"), KeyError("two")]),
    "base group": lambda: BaseExceptionGroup("many", [Own(), GeneratorExit()]),
    "unspeakable": Unspeakable,
    "surrogate": lambda: ValueError("\ud800"),
    "drained": lambda: GraphDrained("not at all"),
    "memory": MemoryError,
}


def _raise(state):
    raise RAISED[state["items"][0]]()


async def _raise_async(state):
    how = state["items"][0]
    if how == "task group":
        async with asyncio.TaskGroup() as group:
            group.create_task(_cancel(asyncio.current_task()))
            await asyncio.sleep(60)
    elif how == "leaked scope":
        leaked = anyio.move_on_after(0)
        leaked.__enter__()
        left.append(leaked)
        await asyncio.sleep(60)
    elif how == "cancelled for ever":
        left.append(asyncio.create_task(_cancel(asyncio.current_task(), again=True)))
        await asyncio.sleep(60)
    elif how == "cancelled later":
        left.append(asyncio.create_task(_cancel(asyncio.current_task(), again=True)))
        return {"items": ["done"]}
    raise RAISED[how]()


left: list[Any] = []


async def _cancel(task, again=False):
    while not task.done():
        task.cancel("by the application")
        await asyncio.sleep(0)
        if not again:
            return


raising = _graph("raise", _raise)
raising_async = _graph("raise", _raise_async)


ALONE = {"drained"}  # nothing beside it is stopped
if not hasattr(langgraph.errors, "NodeCancelledError"):  # LangGraph 1.2.4: before, a node that ends so had not failed
    ALONE |= {"cancelled", "task group", "leaked scope", "cancelled for ever"}


async def _pause(state):
    if not ALONE.intersection(state["items"]):
        await asyncio.sleep(60)


def _beside(node):
    builder = StateGraph(State).add_node("raise", node).add_node("pause", _pause)
    return builder.add_edge(START, "raise").add_edge(START, "pause").compile()


raising_beside = _beside(_raise)
raising_async_beside = _beside(_raise_async)
leaving_beside = _beside(_leave)
leaving_async_beside = _beside(_leave_async)


class Large:
    """What a node has in a variable; `alive` refers to those that have not been freed."""

    alive: ClassVar[weakref.WeakSet] = weakref.WeakSet()
    let_go: ClassVar[threading.Event] = threading.Event()

    def __init__(self) -> None:
        self.alive.add(self)


def _end_with(how):
    match how:
        case "error":
            raise ValueError("kaboom")
        case "handled error":
            try:
                raise ValueError("inner")
            except ValueError as inner:
                raise RuntimeError("outer") from inner
        case "memory":
            raise MemoryError
        case "group":
            raise ExceptionGroup("several", [ValueError("one"), ValueError("two")])
        case "interrupt":
            interrupt("well?")
        case "held interrupt":
            try:
                interrupt("well?")
            except BaseException as raised:
                threading.Thread(target=lambda held: Large.let_go.wait(), args=(raised,), daemon=True).start()
                raise


def _litter(state):
    large = Large()
    _end_with(state["n"])
    return {"items": [str(large)]}


async def _litter_async(state):
    large = Large()
    _end_with(state["n"])
    await asyncio.sleep(60)
    return {"items": [str(large)]}


littering = _graph("litter", _litter)
littering_async = _graph("litter", _litter_async)
littering_below = _graph("below", littering)
