"""Graphs that tell who their user is, to nodes and to a factory, and what a client of their own sees."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import get_runtime
from langgraph_sdk import get_client


class State(TypedDict, total=False):
    look: str
    seen: dict[str, Any]


def user_of(runtime: Any) -> str | None:
    """None where LangGraph, before 1.1.5, tells nodes nothing of the server."""
    server = getattr(runtime, "server_info", None)
    return server and server.user.identity


async def tell(state: State, config: RunnableConfig) -> dict[str, Any]:
    configurable = config["configurable"]
    user = configurable["langgraph_auth_user"]
    seen: dict[str, Any] = {
        "id": configurable["langgraph_auth_user_id"],
        "permissions": configurable["langgraph_auth_permissions"],
        "user": None if user is None else [user.identity, user["team"], user.team, sorted(user)],
        "runtime": None if user is None else user_of(get_runtime()),
    }
    if thread_id := state.get("look"):
        client = get_client()
        thread = await client.threads.get(thread_id)
        inner = await client.runs.wait(None, "whoami", input={})
        seen["own client"] = [thread["metadata"]["owner"], inner["seen"]["id"]]
    return {"seen": seen}


whoami = StateGraph(State).add_node("tell", tell).add_edge(START, "tell").compile()


def made_for(config: RunnableConfig):
    made = (config.get("configurable") or {}).get("langgraph_auth_user_id")

    def say(state: State) -> dict[str, Any]:
        return {"seen": {"made for": made}}

    return StateGraph(State).add_node("say", say).add_edge(START, "say").compile()
