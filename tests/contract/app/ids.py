"""Subgraphs whose node returns a message without an id, in every form a node may return one."""

import operator
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph, add_messages
from langgraph.types import Command
from pydantic import BaseModel
from typing_extensions import TypedDict


class Messages(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Model(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []


def newest(left: Any, right: Any) -> list[AnyMessage]:
    """A reducer of the application's own, as many write them."""
    return add_messages(left, right)[-10:]


class Newest(TypedDict):
    messages: Annotated[list[AnyMessage], newest]


class Added(TypedDict):
    """No ids are given here."""

    messages: Annotated[list[AnyMessage], operator.add]


def inside(returned: Any, schema: Any = Messages, depth: int = 1) -> Any:
    """A node `inner` that returns this, in a graph that is a node `kid`, as often as `depth` says."""
    builder = StateGraph(schema)
    builder.add_node("inner", lambda state: returned())
    builder.add_edge(START, "inner")
    graph = builder.compile()
    for _ in range(depth):
        builder = StateGraph(schema)
        builder.add_node("kid", graph)
        builder.add_edge(START, "kid")
        graph = builder.compile()
    return graph


in_list = inside(lambda: {"messages": [AIMessage("x")]})
alone = inside(lambda: {"messages": AIMessage("x")})
as_tuple = inside(lambda: {"messages": [("ai", "x")]})
as_dict = inside(lambda: {"messages": [{"role": "ai", "content": "x"}]})
in_command = inside(lambda: Command(update={"messages": [AIMessage("x")]}))
in_object = inside(lambda: Model(messages=[AIMessage("x")]), Model)
deep = inside(lambda: {"messages": [AIMessage("x")]}, depth=3)
own_reducer = inside(lambda: {"messages": [AIMessage("x")]}, Newest)
added = inside(lambda: {"messages": [AIMessage("x")]}, Added, depth=0)
