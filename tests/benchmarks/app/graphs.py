"""The graphs every server and the plain-LangGraph floor run."""

import asyncio
import operator
from typing import Annotated, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph


class State(TypedDict, total=False):
    items: Annotated[list, operator.add]
    n: float


def _one(node, schema=State):
    builder = StateGraph(schema)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()


def _add(state):
    return {"items": ["x"]}


_two = StateGraph(State)
_two.add_node("a", _add)
_two.add_node("b", _add)
_two.add_edge(START, "a")
_two.add_edge("a", "b")
_two.add_edge("b", END)
noop = _two.compile()


def _tokens(state):
    write = get_stream_writer()
    for i in range(int(state.get("n", 100))):
        write({"token": f"tok{i}"})
    return {"items": ["done"]}


tokens = _one(_tokens)


async def _slow_tokens(state):
    write = get_stream_writer()
    await asyncio.sleep(2.0)
    for i in range(int(state.get("n", 100))):
        write({"token": f"tok{i}"})
        await asyncio.sleep(0.01)
    return {"items": ["done"]}


slow_tokens = _one(_slow_tokens)


async def _sleep(state):
    await asyncio.sleep(float(state.get("n", 1)))
    return {"items": ["slept"]}


sleep = _one(_sleep)


def _model(state):
    words = " ".join(f"w{i}" for i in range(50))
    model = GenericFakeChatModel(messages=iter([AIMessage(content=words)]))
    return {"messages": [model.invoke(state["messages"])]}


chat = _one(_model, MessagesState)
