"""Nodes of every kind that say which span is current where they run."""

import operator
from typing import Annotated, TypedDict

from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from opentelemetry.trace import format_span_id, get_current_span


class State(TypedDict, total=False):
    seen: Annotated[list, operator.add]


def current() -> str:
    return format_span_id(get_current_span().get_span_context().span_id)


def in_thread(state: State) -> State:
    return {"seen": [["in_thread", current()]]}


async def on_loop(state: State) -> State:
    return {"seen": [["on_loop", current()]]}


def inner(state: State) -> State:
    return {"seen": [["inner", current()]]}


def second(state: State) -> State:
    return {"seen": [["second", current()]]}


below = StateGraph(State).add_sequence([inner, second]).add_edge(START, "inner").compile()


def calls(state: State) -> State:
    before = current()
    seen = below.invoke({"seen": []})["seen"]
    return {"seen": [*seen, ["calls", before]]}


def side(name: str):
    return lambda state: {"seen": [[name, current()]]}


builder = StateGraph(State)
builder.add_sequence([in_thread, on_loop, ("below", below), calls])
builder.add_node("left", side("left"))
builder.add_node("right", side("right"))
builder.add_edge(START, "in_thread")
builder.add_edge("calls", "left")
builder.add_edge("calls", "right")
traced = builder.compile()


def asks(state: State) -> State:
    interrupt("?")
    return {}


def breaks(state: State) -> State:
    raise ValueError("broken")


traced_question = StateGraph(State).add_node("asks", asks).add_edge(START, "asks").compile()
traced_failure = StateGraph(State).add_node("breaks", breaks).add_edge(START, "breaks").compile()


@task
def step(n: int) -> list:
    return [f"step {n}", current()]


@entrypoint()
def traced_function(n: int) -> list:
    return [step(1).result(), step(2).result(), ["traced_function", current()]]
