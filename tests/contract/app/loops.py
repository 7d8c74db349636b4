"""Graphs that call graphs on event loops of their own, as synchronous code does with what is only asynchronous."""

import asyncio
from typing import Any

from langgraph.graph import START, StateGraph
from plain import Items

LARGE = "large " * 20_000  # more than a report carries


async def remember(state: Items) -> dict[str, Any]:
    return {"items": ["inner", LARGE]}


_inner = StateGraph(Items)
_inner.add_node("remember", remember)
_inner.add_edge(START, "remember")
inner = _inner.compile(checkpointer=True)


def call(state: Items) -> dict[str, Any]:
    found = [item for word in ("first", "second") for item in asyncio.run(inner.ainvoke({"items": [word]}))["items"]]
    return {"items": [len(item) if item == LARGE else item for item in found]}


_outer = StateGraph(Items)
_outer.add_node("call", call)
_outer.add_edge(START, "call")
own_loop = _outer.compile()
