"""A chat that goes on for many turns, and an agent that carries a large value through many steps."""

import random
import string
from typing import Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

# Random choices among so many words compress about as prose does.
_WORDS = ["".join(random.Random(n).choices(string.ascii_lowercase, k=2 + n % 9)) for n in range(4096)]


def words(n: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(_WORDS, k=n))


def _answer(state: MessagesState) -> Any:
    return {"messages": [AIMessage(words(200, len(state["messages"])))]}


class Work(TypedDict):
    document: Any
    steps_left: int


def _step(state: Work) -> Any:
    return {"steps_left": state["steps_left"] - 1}


chatting = StateGraph(MessagesState)
chatting.add_node("model", _answer)
chatting.add_edge(START, "model")
chat = chatting.compile()

working = StateGraph(Work)
working.add_node("step", _step)
working.add_edge(START, "step")
working.add_conditional_edges("step", lambda s: "step" if s["steps_left"] > 0 else "__end__", ["step", "__end__"])
agent = working.compile()
