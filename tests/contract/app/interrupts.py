"""Graphs that stop and ask: once, twice in parallel, in a subgraph, at a breakpoint, about a message."""

from typing import Any

from gate import passage
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from plain import Items, chain, gated, says


def question(state: Items) -> dict[str, Any]:
    return {"items": [interrupt({"question": "ok?"})]}


builder = StateGraph(Items)
builder.add_sequence([("question", question), ("done", says("done"))])
builder.add_edge(START, "question")
ask = builder.compile()


def side(name: str) -> Any:
    def node(state: Items) -> dict[str, Any]:
        return {"items": [f"{name} {interrupt({'side': name})}"]}

    return node


builder = StateGraph(Items)
builder.add_node("left", side("left"))
builder.add_node("right", side("right"))
builder.add_node("done", says("done"))
builder.add_edge(START, "left")
builder.add_edge(START, "right")
builder.add_edge(["left", "right"], "done")
ask_two = builder.compile()

breakpoint = chain("a", "b", "c").compile(interrupt_before=["b"])

builder = StateGraph(Items)
builder.add_node("a", says("a"))
builder.add_node("elsewhere", lambda state: {"items": [f"elsewhere with n={state.get('n')}"]})
builder.add_edge(START, "a")
jump = builder.compile()

kid = StateGraph(Items)
kid.add_sequence([("think", says("thought")), ("question", question)])
kid.add_edge(START, "think")
builder = StateGraph(Items)
builder.add_sequence([("before", says("before")), ("kid", kid.compile()), ("after", says("after"))])
builder.add_edge(START, "before")
family = builder.compile()


def draft(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("a first draft", id="draft")]}


def approve(state: MessagesState) -> dict[str, Any]:
    answer = interrupt({"question": "send it?"})
    return {"messages": [AIMessage(f"{answer}: {state['messages'][-1].content}", id="sent")]}


builder = StateGraph(MessagesState)
builder.add_sequence([("draft", draft), ("approve", approve)])
builder.add_edge(START, "draft")
review = builder.compile()


async def hold(state: Items, config: RunnableConfig) -> dict[str, Any]:
    await passage(state["gate"], config["configurable"]["run_id"])
    return {"items": ["held"]}


async def hold_then_ask(state: Items, config: RunnableConfig) -> dict[str, Any]:
    await passage(state["gate"], config["configurable"]["run_id"])
    return {"items": [interrupt({"question": "ok?"})]}


async def ask_then_hold(state: Items, config: RunnableConfig) -> dict[str, Any]:
    answer = interrupt({"question": "ok?"})
    await passage(state["gate"], config["configurable"]["run_id"])
    return {"items": [answer]}


def asking(node: Any) -> Any:
    builder = StateGraph(Items)
    builder.add_sequence([("ask", node), ("done", says("done"))])
    builder.add_edge(START, "ask")
    return builder.compile()


gated_question, gated_answer = asking(hold_then_ask), asking(ask_then_hold)

builder = StateGraph(Items)
builder.add_node("hold", hold)
builder.add_node("quick", says("quick"))
builder.add_node("ask", question)
for name in ("hold", "quick", "ask"):
    builder.add_edge(START, name)
gated_sides = builder.compile()

builder = StateGraph(Items)
builder.add_node("kid", gated)
builder.add_edge(START, "kid")
gated_family = builder.compile()
