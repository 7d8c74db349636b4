"""A graph that keeps what it is told in the store, and says what is there."""

from __future__ import annotations

from typing import Any

from langgraph.graph import StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    root: str
    email: str
    city: str
    found: dict[str, Any]


async def keep(state: State, runtime: Runtime) -> dict[str, Any]:
    assert runtime.store is not None
    await runtime.store.aput((state["root"],), "ann", {"email": state["email"], "city": state.get("city", "Delft")})
    (item,) = await runtime.store.asearch((state["root"],), filter={"city": "Delft"})
    return {"found": item.value}


notes = StateGraph(State).add_node("keep", keep).add_edge("__start__", "keep").compile()
