"""Graphs of every kind whose states are compared with LangGraph's own."""

from __future__ import annotations

import dataclasses
import operator
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel


class Items(TypedDict):
    items: Annotated[list[str], operator.add]


class Wide(TypedDict, total=False):
    items: Annotated[list[str], operator.add]
    note: str
    count: int


class Talk(MessagesState):
    summary: str


class Model(BaseModel):
    items: Annotated[list[str], operator.add] = []
    inner: dict[str, Any] = {}


@dataclasses.dataclass
class Record:
    items: Annotated[list[str], operator.add] = dataclasses.field(default_factory=list)
    nested: Any = None


def _add(current: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    return current + [item for write in writes for item in write]


def noop() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Wide)
    graph.add_node("a", lambda s: {"items": ["x"], "count": 1})
    graph.add_node("b", lambda s: {"note": "done"})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    return graph


def asking() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Wide)

    def ask(state: Wide) -> dict[str, Any]:
        first = interrupt({"question": "ok?"})
        second = interrupt({"question": "sure?"})
        return {"items": [f"{first}/{second}"]}

    graph.add_node("prepare", lambda s: {"note": "ready"})
    graph.add_node("ask", ask)
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "ask")
    return graph


def parallel() -> StateGraph[Any, Any, Any, Any]:
    """Two questions at once, and a node beside them that finishes."""
    graph = StateGraph(Wide)
    graph.add_node("left", lambda s: {"items": [interrupt("left?")]})
    graph.add_node("right", lambda s: {"items": [interrupt("right?")]})
    graph.add_node("quick", lambda s: {"items": ["quick"], "note": "fast"})
    for node in ("left", "right", "quick"):
        graph.add_edge(START, node)
    graph.add_node("after", lambda s: {"count": len(s["items"])})
    graph.add_edge(["left", "right", "quick"], "after")
    return graph


def failing() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Wide)

    def fail(state: Wide) -> None:
        raise ValueError("kaboom")

    graph.add_node("good", lambda s: {"items": ["good"]})
    graph.add_node("bad", fail)
    graph.add_edge(START, "good")
    graph.add_edge(START, "bad")
    return graph


def subgraphs() -> StateGraph[Any, Any, Any, Any]:
    """Two levels down, with a question at the bottom."""
    bottom = StateGraph(Items)
    bottom.add_node("start", lambda s: {"items": ["bottom"]})
    bottom.add_node("ask", lambda s: {"items": [interrupt("deep?")]})
    bottom.add_edge(START, "start")
    bottom.add_edge("start", "ask")
    middle = StateGraph(Items)
    middle.add_node("before", lambda s: {"items": ["middle"]})
    middle.add_node("bottom", bottom.compile())
    middle.add_edge(START, "before")
    middle.add_edge("before", "bottom")
    top = StateGraph(Wide)
    top.add_node("first", lambda s: {"items": ["top"]})
    top.add_node("middle", middle.compile())
    top.add_node("last", lambda s: {"note": "end"})
    top.add_edge(START, "first")
    top.add_edge("first", "middle")
    top.add_edge("middle", "last")
    return top


def fanning_out() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Wide)
    graph.add_node("plan", lambda s: {"count": 3})
    graph.add_node("work", lambda s: {"items": [f"worked {s['n']}"]})
    graph.add_node("check", lambda s: {"items": [interrupt(f"check {s['n']}?")]})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges(
        "plan", lambda s: [*(Send("work", {"n": i}) for i in range(s["count"])), Send("check", {"n": 9})],
        ["work", "check"],
    )  # fmt: skip
    return graph


def talking() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Talk)

    def model(state: Talk) -> dict[str, Any]:
        n = len(state["messages"])
        call = {"name": "search", "args": {"q": n}, "id": f"call-{n}"}
        return {"messages": [AIMessage(f"answer {n}", id=f"ai-{n}", tool_calls=[call])], "summary": f"{n} messages"}

    def forget(state: Talk) -> dict[str, Any]:
        return {"messages": [RemoveMessage(id=state["messages"][0].id)]} if len(state["messages"]) > 4 else {}

    graph.add_node("model", model)
    graph.add_node("forget", forget)
    graph.add_edge(START, "model")
    graph.add_edge("model", "forget")
    return graph


def modelled() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Model)
    graph.add_node("a", lambda s: {"items": ["a"], "inner": {"when": uuid.UUID(int=1), "set": {2}}})
    graph.add_node("b", lambda s: Model(items=["b"], inner={"deep": s.inner}))
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    return graph


def recorded() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Record)
    graph.add_node("a", lambda s: {"items": ["a"], "nested": Record(items=["inner"])})
    graph.add_node("b", lambda s: {"nested": [s.nested, Model(items=["m"])]})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    return graph


def deltas() -> StateGraph[Any, Any, Any, Any]:
    from langgraph.channels import DeltaChannel  # not in every version that the tests run with
    from langgraph.types import Overwrite

    items = Annotated[list[str], DeltaChannel(_add, snapshot_frequency=3)]
    other = Annotated[list[str], operator.add]
    graph = StateGraph(TypedDict("Deltas", {"items": items, "other": other}))  # type: ignore[operator]
    graph.add_node("a", lambda s: {"items": [f"a{len(s['items'])}"], "other": ["o"]})
    graph.add_node("b", lambda s: {"items": [f"b{len(s['items'])}"]})
    graph.add_node("c", lambda s: {"items": Overwrite(["fresh"])} if len(s["items"]) > 12 else {"other": ["c"]})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge("b", "c")
    return graph


def single() -> StateGraph[Any, Any, Any, Any]:
    """The state is one value, not a mapping of channels."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Annotated[dict, operator.or_])  # type: ignore[arg-type]
    graph.add_node("a", lambda s: {"a": 1})
    graph.add_node("b", lambda s: {"b": 2})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge("b", END)
    return graph


def number() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Annotated[int, operator.add])  # type: ignore[arg-type]
    graph.add_node("a", lambda s: 1)
    graph.add_node("ask", lambda s: interrupt("how many?"))
    graph.add_edge(START, "a")
    graph.add_edge("a", "ask")
    return graph


def routing() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Wide)

    def route(state: Wide) -> Command[Any]:
        return Command(goto="there", update={"items": ["routed"]})

    graph.add_node("route", route, destinations=("there",))
    graph.add_node("there", lambda s: {"items": ["there"]})
    graph.add_edge(START, "route")
    return graph


@task
async def double(n: int) -> int:
    return 2 * n


@entrypoint()
async def functional(n: int, *, previous: int | None = None) -> Any:
    doubled = await double(n)
    answer = interrupt({"doubled": doubled})
    return entrypoint.final(value={"answer": answer, "previous": previous}, save=doubled)


def chat_input(text: str) -> dict[str, list[AnyMessage]]:
    return {"messages": [HumanMessage(text, id=f"human-{text}")]}
