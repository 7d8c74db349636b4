"""Graphs of the tests' user: every shape an executor has to load, and nodes that behave badly in every way."""

import asyncio
import contextlib
import operator
import os
import threading
import time
import weakref
from typing import Annotated, Any, ClassVar, TypedDict

import anyio
import langgraph.errors
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

try:
    from langgraph.errors import GraphDrained
except ImportError:  # before LangGraph 1.2

    class GraphDrained(Exception):
        pass


class State(TypedDict, total=False):
    items: Annotated[list, operator.add]
    n: int


def _graph(*nodes, state=State, **options):
    builder = StateGraph(state, **options)
    before = START
    for name, node in nodes:
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder


def add(what):
    return lambda state: {"items": [what]}


class Question(TypedDict):
    q: str


class Answer(TypedDict):
    a: str


class Thought(Question, Answer):
    secret: str


narrow = _graph(
    ("think", lambda state: {"secret": "x"}),
    ("say", lambda state: {"a": state["q"] + state["secret"]}),
    state=Thought,
    input_schema=Question,
    output_schema=Answer,
).compile()

noop_builder = _graph(("a", add("x")), ("b", add("y")))
noop = noop_builder.compile()


def see(state: State, config: RunnableConfig, runtime: Runtime) -> dict:
    seen = {k: str(v) for k, v in config["configurable"].items() if not k.startswith("__pregel")}
    user = config["configurable"].get("langgraph_auth_user")
    return {
        "items": [
            {
                "configurable": seen,
                "metadata": {k: v for k, v in config["metadata"].items() if isinstance(v, str | int)},
                "context": runtime.context,
                "server": (info := getattr(runtime, "server_info", None)) and info.graph_id,
                "user": user and [user.identity, user["identity"], user.extra],
            }
        ]
    }


class Context(TypedDict, total=False):
    tone: str


seeing = _graph(("see", see), context_schema=Context).compile()


async def _slow(state):
    await asyncio.sleep(float(state.get("n", 30)))
    return {"items": ["slept"]}


slow = _graph(("first", add("before")), ("slow", _slow), ("last", add("after"))).compile()


def _tokens(state):
    writer = get_stream_writer()
    for i in range(state.get("n", 5)):
        writer({"token": i})
    return {"items": ["done"]}


tokens = _graph(("t", _tokens)).compile()


async def _async_tokens(state):
    writer = get_stream_writer()
    for i in range(state.get("n", 5)):
        writer({"token": i})
        if i % 10 == 9:
            await asyncio.sleep(0)
    return {"items": ["done"]}


async_tokens = _graph(("t", _async_tokens)).compile()


def ask(state):
    return {"items": [interrupt({"question": "ok?"})]}


hitl = _graph(("ask", ask), ("fin", add("fin"))).compile()


def ask_twice(state):
    first = interrupt("first?")
    second = interrupt("second?")
    return {"items": [first, second]}


twice = _graph(("ask", ask_twice)).compile()


_both = StateGraph(State)
_both.add_node("left", ask)
_both.add_node("right", ask)
_both.add_edge(START, "left")
_both.add_edge(START, "right")
parallel_questions = _both.compile()


def _boom(state):
    raise ValueError("kaboom")


failing = _graph(("ok", add("x")), ("boom", _boom)).compile()


def _leave(state):
    raise SystemExit(3)


async def _leave_async(state):
    raise KeyboardInterrupt


leaving = _graph(("leave", _leave)).compile()
leaving_async = _graph(("leave", _leave_async)).compile()


def _wait_for(path):
    """Block the thread until the file is there (a minute at most), then say that it has ended."""
    deadline = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.005)
    with open(f"{path}.ended", "w"):
        pass


def _hold(state):
    _wait_for(state["items"][0])


def _write(state):
    try:
        while True:
            get_stream_writer()("more")
            time.sleep(0.005)
    finally:
        with open(f"{state['items'][0]}.ended", "w"):
            pass


async def _fail_once_it_runs(state):
    await asyncio.sleep(0.1)
    raise ValueError("kaboom")


async def _start_and_sleep(state):
    left.append(asyncio.create_task(asyncio.to_thread(_wait_for, state["items"][0])))
    await asyncio.sleep(60)


holding = _graph(("hold", _hold)).compile()
writing = _graph(("write", _write)).compile()
leaving_behind = _graph(("start", _start_and_sleep)).compile()
_builder = StateGraph(State).add_node("hold", _hold).add_node("fail", _fail_once_it_runs)
holding_beside = _builder.add_edge(START, "hold").add_edge(START, "fail").compile()


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


raising = _graph(("raise", _raise)).compile()
raising_async = _graph(("raise", _raise_async)).compile()


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


def _model(state):
    model = GenericFakeChatModel(messages=iter([AIMessage(content="one two three", id="answer")]))
    return {"messages": [model.invoke(state["messages"])]}


chat = _graph(("model", _model), state=MessagesState).compile()
parent = _graph(("child", chat), state=MessagesState).compile()


def _calls_synchronously(state):
    return {"items": ["got", *noop.invoke({"items": []})["items"]]}


calling = _graph(("call", _calls_synchronously)).compile()


@task
def double(n: int) -> int:
    return n * 2


@entrypoint()
async def workflow(given: dict) -> dict:
    return {"doubled": await double(given["n"])}


made: list[Any] = []


def factory(config: RunnableConfig):
    made.append(config["configurable"].get("thread_id"))
    return _graph(("a", add(config["configurable"].get("thread_id", "none"))))


async def async_factory():
    await asyncio.sleep(0)
    return noop


@contextlib.asynccontextmanager
async def managed(config):
    made.append("opened")
    yield noop
    made.append("closed")


@contextlib.contextmanager
def managed_sync():
    yield noop_builder


def runtime_factory(runtime):
    label = "run" if runtime.execution_runtime else "read"
    return _graph(("a", add(label)))


def wants_too_much(a, b):
    return noop


not_a_graph = 42


class Odd:
    pass


def _odd(state):
    return {"odd": Odd()}


class OddState(TypedDict, total=False):
    odd: Any
    items: list


unserializable = _graph(("odd", _odd), state=OddState).compile()


async def _stubborn(state):
    for _ in range(2):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue
    return {"items": ["gave in"]}


stubborn = _graph(("s", _stubborn)).compile()


def _blocking(state):
    time.sleep(float(state.get("n", 0.3)))
    return {"items": ["blocked"]}


async def _blocking_loop(state):
    time.sleep(float(state.get("n", 0.3)))  # noqa: ASYNC251  what users do
    return {"items": ["blocked the loop"]}


blocking = _graph(("b", _blocking)).compile()
blocking_loop = _graph(("b", _blocking_loop)).compile()


def _again(state):
    return {"items": ["again"]}


_endless = StateGraph(State)
_endless.add_node("again", _again)
_endless.add_edge(START, "again")
_endless.add_edge("again", "again")
endless = _endless.compile()


async def _tick(state):
    await asyncio.sleep(0.05)
    return {"items": [len(state["items"])]}


_ticking = StateGraph(State)
_ticking.add_node("tick", _tick)
_ticking.add_edge(START, "tick")
_ticking.add_conditional_edges("tick", lambda s: END if len(s["items"]) >= s.get("n", 20) else "tick")
ticking = _ticking.compile()

stateless = _graph(("a", add("x"))).compile(checkpointer=False)


class Calls:
    """What the nodes below did, over all attempts."""

    done: ClassVar[list] = []
    hold: ClassVar[bool] = True


async def _held(state):
    """Waits for ever while `Calls.hold`: here an attempt can be lost."""
    Calls.done.append("held")
    while Calls.hold:
        await asyncio.sleep(0.01)
    return {"items": ["held"]}


async def _lingering(state):
    """Takes a moment to stop when it is cancelled."""
    Calls.done.append("begins")
    try:
        while Calls.hold:
            await asyncio.sleep(0.01)
    finally:
        await asyncio.sleep(0.1)
        Calls.done.append("ends")
    return {"items": ["lingered"]}


lingering = _graph(("l", _lingering)).compile()


def note(what):
    def node(state):
        Calls.done.append(what)
        return {"items": [what]}

    return node


steps = _graph(("one", note("one")), ("held", _held), ("three", note("three"))).compile()

_fan = StateGraph(State)
_fan.add_node("quick", note("quick"))
_fan.add_node("held", _held)
_fan.add_edge(START, "quick")
_fan.add_edge(START, "held")
fan = _fan.compile()


def _two_questions(state):
    first = interrupt("first?")
    second = interrupt("second?")
    return {"items": [first, second]}


_asking = StateGraph(State)
_asking.add_node("ask", _two_questions)
_asking.add_node("wait", _held)
_asking.add_edge(START, "ask")
_asking.add_edge(START, "wait")
asking = _asking.compile()

_held_builder = StateGraph(State)
_held_builder.add_node("held", _held)
_held_builder.add_edge(START, "held")
held_only = _held_builder.compile()

outer = _graph(("before", note("before")), ("inner", steps), ("end", note("end"))).compile()


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


littering = _graph(("litter", _litter)).compile()
littering_async = _graph(("litter", _litter_async)).compile()
littering_below = _graph(("below", littering)).compile()


async def _flood(state):
    """Streams so many kilobytes without a pause, or with one after each of them."""
    writer = get_stream_writer()
    for i in range(abs(state["n"])):
        writer(f"{i} " + "x" * 1000)
        if state["n"] < 0:
            await asyncio.sleep(0)
    return {"items": ["done"]}


flood = _graph(("flood", _flood), ("after", add("after"))).compile()
