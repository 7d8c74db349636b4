"""A graph that shows what it is told of the request."""

from typing import Any

from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    seen: Any


def show(state: State, config) -> State:
    return {"seen": {name: value for name, value in config["configurable"].items() if name.startswith("x-")}}


graph = StateGraph(State)
graph.add_node("show", show)
graph.add_edge(START, "show")
graph.add_edge("show", END)
