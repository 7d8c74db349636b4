"""Graphs whose tools are called as the input says: all calls in one task, or a task for each."""

import operator
from typing import Annotated, Any

from gate import passage
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

try:
    from langgraph.prebuilt import ToolRuntime
except ImportError:  # an older LangGraph: `count` is not called there
    ToolRuntime = Any


class Work(TypedDict, total=False):
    """`calls`: what the model will ask for, as (tool, args); their ids are call-0, call-1, …"""

    calls: list
    messages: Annotated[list, add_messages]


class Notes(TypedDict, total=False):
    text: str
    notes: Annotated[list, operator.add]


def think(state: Notes) -> dict[str, Any]:
    if state["text"] == "nonsense":
        raise ValueError("this is nonsense")
    if state["text"] == "unclear":
        return {"notes": [interrupt({"question": "what do you mean?"})]}
    return {"notes": [f"thought about {state['text']}"]}


builder = StateGraph(Notes)
builder.add_node("think", think)
builder.add_edge(START, "think")
thinker = builder.compile()

builder = StateGraph(Notes)
builder.add_node("inner", thinker)
builder.add_edge(START, "inner")
researcher = builder.compile()


@tool
def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


@tool
async def count(to: int, runtime: ToolRuntime) -> str:
    """Count aloud."""
    for number in range(to):
        runtime.emit_output_delta({"number": number})
    return "done"


@tool
def explode() -> str:
    """Fail."""
    raise ValueError("boom")


@tool
def ask(question: str) -> str:
    """Ask the user."""
    return interrupt({"question": question})


@tool
async def wait(gate: str, config: RunnableConfig) -> str:
    """Wait at a gate."""
    await passage(gate, config["configurable"]["run_id"])
    return "waited"


@tool
async def research(text: str) -> str:
    """Have a subgraph think."""
    found = await researcher.ainvoke({"text": text})
    return found["notes"][-1]


@tool
async def twice(text: str) -> str:
    """Have a tool called, then the same subgraph twice."""
    await add.ainvoke({"type": "tool_call", "id": "inside", "name": "add", "args": {"left": 1, "right": 1}})
    await researcher.ainvoke({"text": text})
    await researcher.ainvoke({"text": text})
    return "twice"


TOOLS = [add, count, explode, ask, wait, research, twice]


def model(state: Work) -> dict[str, Any]:
    if state.get("messages"):
        return {"messages": [AIMessage("that is all", id="last")]}
    calls = [{"name": name, "args": args, "id": f"call-{index}"} for index, (name, args) in enumerate(state["calls"])]
    return {"messages": [AIMessage("", tool_calls=calls, id="first")]}


def toolbox(each: bool, **options: Any) -> StateGraph:
    def choose(state: Work) -> Any:
        calls = state["messages"][-1].tool_calls
        if not calls:
            return END
        return [Send("tools", [call]) for call in calls] if each else "tools"

    builder = StateGraph(Work)
    builder.add_node("model", model)
    builder.add_node("tools", ToolNode(TOOLS, **options))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", choose, ["tools", END])
    builder.add_edge("tools", "model")
    return builder


tools = toolbox(each=False, handle_tool_errors=True).compile()
tools_each = toolbox(each=True, handle_tool_errors=True).compile()
tools_strict = toolbox(each=False, handle_tool_errors=False).compile()

builder = StateGraph(Work)
builder.add_node("office", tools)
builder.add_edge(START, "office")
tools_parent = builder.compile()

builder = StateGraph(Notes)
builder.add_node("outer", researcher)
builder.add_edge(START, "outer")
thinking = builder.compile()
