"""Graphs of the tests' user: every shape an executor has to load, and nodes that take long or can't be stopped."""

import asyncio
import contextlib
import operator
import os
import time
from typing import Annotated, Any, ClassVar, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt


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


left: list[Any] = []


async def _start_and_sleep(state):
    left.append(asyncio.create_task(asyncio.to_thread(_wait_for, state["items"][0])))
    await asyncio.sleep(60)


holding = _graph(("hold", _hold)).compile()
writing = _graph(("write", _write)).compile()
leaving_behind = _graph(("start", _start_and_sleep)).compile()
_builder = StateGraph(State).add_node("hold", _hold).add_node("fail", _fail_once_it_runs)
holding_beside = _builder.add_edge(START, "hold").add_edge(START, "fail").compile()


def _model(state):
    model = GenericFakeChatModel(messages=iter([AIMessage(content="one two three", id="answer")]))
    return {"messages": [model.invoke(state["messages"])]}


chat = _graph(("model", _model), state=MessagesState).compile()
parent = _graph(("child", chat), state=MessagesState).compile()


def _billed(name, tokens):
    usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    usage["output_token_details"] = {"reasoning": 1}
    said = AIMessage("hm", usage_metadata=usage, response_metadata={"model_name": name})

    def call(state):
        model = GenericFakeChatModel(messages=iter([said, AIMessage("free")]))
        model.invoke(state["messages"])
        model.invoke(state["messages"])
        return {}

    return call


async def _fails_when_asked(state):
    if state["messages"][-1].content == "fail":
        raise ValueError("as asked")
    return {}


_builder = _graph(("large", _billed("large", 10)), ("again", _billed("large", 5)), state=MessagesState)
billed = _graph(
    ("small", _billed("small", 2)), ("child", _builder.compile()), ("end", _fails_when_asked), state=MessagesState
).compile()


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


async def _flood(state):
    """Streams so many kilobytes without a pause, or with one after each of them."""
    writer = get_stream_writer()
    for i in range(abs(state["n"])):
        writer(f"{i} " + "x" * 1000)
        if state["n"] < 0:
            await asyncio.sleep(0)
    return {"items": ["done"]}


flood = _graph(("flood", _flood), ("after", add("after"))).compile()
