"""Graphs of plain steps: appending, waiting at a gate, failing, looping, writing, fanning out."""

import asyncio
import operator
from typing import Annotated, Any

from gate import blocking_passage, note, passage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict


class Items(TypedDict, total=False):
    items: Annotated[list, operator.add]
    gate: str
    n: int


def says(word: str) -> Any:
    def node(state: Items) -> dict[str, Any]:
        return {"items": [word]}

    return node


def chain(*words: str) -> StateGraph:
    builder = StateGraph(Items)
    builder.add_sequence([(word, says(word)) for word in words])
    builder.add_edge(START, words[0])
    builder.add_edge(words[-1], END)
    return builder


noop = chain("a", "b").compile()
four = chain("one", "two", "three", "four").compile()


async def hold(state: Items, config: RunnableConfig) -> dict[str, Any]:
    await passage(state["gate"], config["configurable"]["run_id"])
    return {"items": ["held"]}


builder = StateGraph(Items)
builder.add_sequence([("first", says("first")), ("hold", hold), ("last", says("last"))])
builder.add_edge(START, "first")
gated = builder.compile()


def block(state: Items, config: RunnableConfig) -> dict[str, Any]:
    blocking_passage(state["gate"], config["configurable"]["run_id"])
    return {"items": ["blocked"]}


builder = StateGraph(Items)
builder.add_sequence([("block", block), ("last", says("last"))])
builder.add_edge(START, "block")
blocking = builder.compile()


def maybe_fail(state: Items) -> dict[str, Any]:
    if state.get("n") == 0:
        raise ValueError("kaboom")
    return {"items": ["fine"]}


builder = StateGraph(Items)
builder.add_sequence([("first", says("first")), ("maybe_fail", maybe_fail)])
builder.add_edge(START, "first")
flaky = builder.compile()

builder = StateGraph(Items)
builder.add_node("again", says("again"))
builder.add_edge(START, "again")
builder.add_edge("again", "again")
endless = builder.compile()


async def write(state: Items, config: RunnableConfig) -> dict[str, Any]:
    """Writes n numbered values; with a gate, it waits there after the first half."""
    writer = get_stream_writer()
    count = state.get("n", 10)
    for number in range(count):
        if number == count // 2 and state.get("gate"):
            await passage(state["gate"], config["configurable"]["run_id"])
        writer({"number": number})
    return {"items": ["written"]}


builder = StateGraph(Items)
builder.add_node("write", write)
builder.add_edge(START, "write")
custom = builder.compile()


async def tick(state: Items, config: RunnableConfig) -> dict[str, Any]:
    """Writes for as long as nobody stops it (a minute at most)."""
    writer = get_stream_writer()
    run_id = config["configurable"]["run_id"]
    note(state["gate"], "enter", run_id)
    try:
        for number in range(3000):
            writer({"tick": number})
            await asyncio.sleep(0.02)
    finally:
        note(state["gate"], "exit", run_id)
    return {"items": ["ticked"]}


builder = StateGraph(Items)
builder.add_node("tick", tick)
builder.add_edge(START, "tick")
ticker = builder.compile()


def spread(state: Items) -> list[Send]:
    return [Send("worker", {"n": number}) for number in range(state.get("n", 3))]


def worker(state: Items) -> dict[str, Any]:
    return {"items": [f"worker {state['n']}"]}


builder = StateGraph(Items)
builder.add_node("worker", worker)
builder.add_node("gather", lambda state: {"n": len(state["items"])})
builder.add_conditional_edges(START, spread, ["worker"])
builder.add_edge("worker", "gather")
fan_out = builder.compile()


async def tell(state: Items) -> dict[str, Any]:
    write = get_stream_writer()
    write({"name": "progress", "payload": {"done": 1}})
    write("no name")
    return {}


builder = StateGraph(Items)
builder.add_node("tell", tell)
builder.add_edge(START, "tell")
named = builder.compile()
