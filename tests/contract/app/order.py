"""Nodes that run side by side, in an order that is not the alphabet's; and a question two subgraphs down."""

import operator
from collections.abc import Callable
from typing import Annotated, Any

from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

NAMES = ("zeta", "alpha", "mid")


class Items(TypedDict, total=False):
    ask: bool
    send: bool
    items: Annotated[list[Any], operator.add]


def asking(name: str) -> Callable[[Items], dict[str, Any]]:
    def node(state: Items) -> dict[str, Any]:
        return {"items": [interrupt({"from": name}) if state.get("ask") else name]}

    return node


def side_by_side() -> StateGraph:
    builder = StateGraph(Items)
    for name in NAMES:
        builder.add_node(name, asking(name))
        builder.add_edge(START, name)
    builder.add_conditional_edges(
        START, lambda state: [Send("mid", state), Send("alpha", state)] if state.get("send") else [], ["mid", "alpha"]
    )
    return builder


parallel = side_by_side().compile()


def around(name: str, graph: Any) -> Any:
    builder = StateGraph(Items)
    builder.add_node(name, graph)
    builder.add_edge(START, name)
    return builder.compile()


parallel_below = around("below", side_by_side().compile())

builder = StateGraph(Items)
builder.add_node("inner", asking("inner"))
builder.add_edge(START, "inner")
nested_question = around("outer", around("middle", builder.compile()))
