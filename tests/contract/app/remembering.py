"""Nodes that use the store: asynchronous, synchronous, in a subgraph, by `runtime.store` and `get_store()`."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

from langgraph.config import get_store
from langgraph.graph import StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from typing_extensions import TypedDict


class State(TypedDict):
    root: str
    seen: Annotated[list[Any], operator.add]


async def write(state: State, runtime: Runtime) -> dict[str, Any]:
    namespace = (state["root"], "facts")
    assert runtime.store is not None
    await runtime.store.aput(namespace, "first", {"n": 1})
    item = await runtime.store.aget(namespace, "first")
    return {"seen": [item.value["n"] if item else None]}


def read(state: State) -> dict[str, Any]:
    store = get_store()
    item = store.get((state["root"], "facts"), "first")
    store.put((state["root"], "facts"), "second", {"n": 2})
    return {"seen": [item.value["n"] if item else None, len(store.search((state["root"],)))]}


async def below(state: State, runtime: Runtime) -> dict[str, Any]:
    assert runtime.store is not None
    await runtime.store.adelete((state["root"], "facts"), "first")
    found = await runtime.store.asearch((state["root"],))
    return {"seen": [[item.key for item in found], await runtime.store.alist_namespaces(prefix=(state["root"],))]}


child = StateGraph(State).add_node("below", below).add_edge("__start__", "below").compile()


async def leaf(state: State) -> dict[str, Any]:
    return {"seen": (await child.ainvoke({"root": state["root"], "seen": []}))["seen"]}


graph = (
    StateGraph(State)
    .add_node("write", write)
    .add_node("read", read)
    .add_node("leaf", leaf)
    .add_edge("__start__", "write")
    .add_edge("write", "read")
    .add_edge("read", "leaf")
    .compile(store=InMemoryStore())
)


async def write_too_much(state: State, runtime: Runtime) -> dict[str, Any]:
    """The engine refuses it; what is written beside it is stored."""
    store = runtime.store
    assert store is not None
    puts = (
        store.aput((state["root"],), "large", {"text": "x" * 17_000_000}),
        store.aput((state["root"], "b"), "small", {}),
    )
    results = await asyncio.gather(*puts, return_exceptions=True)
    return {"seen": [result and f"{type(result).__name__}: {result}" for result in results]}


too_much = StateGraph(State).add_node("write", write_too_much).add_edge("__start__", "write").compile()
