"""The application whose data the fixtures hold. Stays as it is: what was stored names its classes and nodes."""

import asyncio
import itertools
import operator
import os
import random
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

GATE = "UPGRADE_GATE_OPEN"


@dataclass
class Order:
    """A value of a type of the application's own."""

    number: int
    article: str


class Talk(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    order: Order
    facts: dict[str, Any]
    picture: bytes


def reply(state: Talk) -> Talk:
    turn = len(state["messages"])
    said = f"Answer {turn} to: {state['messages'][-1].content}"
    return {"messages": [AIMessage(said, id=f"answer-{turn}")], "order": Order(turn, "chair"),
            "facts": {"turn": turn, "long": "x" * 3000, "short": [1, 2.5, None, "ü"]}}  # fmt: skip


def draw(state: Talk) -> Talk:
    """Too large for the events topic: it goes to `values`."""
    return {"picture": random.Random(7).randbytes(36 * 1024)}


class Steps(TypedDict, total=False):
    steps: Annotated[list[str], operator.add]
    answer: str


def one(state: Steps) -> Steps:
    """Says which server ran it, so that a test sees whether it ran again."""
    return {"steps": ["one, now" if GATE in os.environ else "one, then"]}


async def at_the_gate(state: Steps) -> Steps:
    """On the server that wrote the fixture it waits until the server is killed."""
    while GATE not in os.environ:
        await asyncio.sleep(1)
    return {"steps": ["gate"]}


def three(state: Steps) -> Steps:
    return {"steps": ["three"]}


def ask(state: Steps) -> Steps:
    answer = interrupt({"question": "Shall I?"})
    return {"steps": ["asked"], "answer": answer}


def fail(state: Steps) -> Steps:
    raise ValueError("out of paper")


def _chain(state: type, *nodes: Any) -> StateGraph:
    graph = StateGraph(state)
    for node in nodes:
        graph.add_node(node)
    graph.set_entry_point(nodes[0].__name__)
    for before, after in itertools.pairwise(nodes):
        graph.add_edge(before.__name__, after.__name__)
    return graph


talk = _chain(Talk, reply).compile()
drawing = _chain(Talk, draw, reply).compile()
gated = _chain(Steps, one, at_the_gate, three).compile()
question = _chain(Steps, ask, three).compile()
failing = _chain(Steps, three, fail).compile()

inner = _chain(Steps, ask).compile(checkpointer=True)
outer = StateGraph(Steps).add_node("inner", inner).add_node(three)
family = outer.add_edge("__start__", "inner").add_edge("inner", "three").compile()
