"""Graphs that talk: a model that streams words, the same in a subgraph, two levels down, and with a tool."""

from collections.abc import Iterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


class Parrot(BaseChatModel):
    """Repeats what it was told, word by word; asked for a sum it calls the tool `add` first."""

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            return AIMessage(f"The sum is {last.content}")
        if last.text.startswith("add "):
            left, right = last.text.removeprefix("add ").split()
            call = {"name": "add", "args": {"left": int(left), "right": int(right)}, "id": "call-1"}
            return AIMessage("Let me see", tool_calls=[call])
        return AIMessage(f"You said: {last.text}")

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        reply = self._reply(messages)
        words = reply.text.split(" ")
        for index, word in enumerate(words):
            text = word if index == 0 else f" {word}"
            yield ChatGenerationChunk(message=AIMessageChunk(text))
        for call in reply.tool_calls:
            args_text = "{" + ", ".join(f'"{name}": {value}' for name, value in call["args"].items()) + "}"
            chunk = {"name": call["name"], "args": args_text, "id": call["id"], "index": 0}
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[chunk]))


async def model(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await Parrot().ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_edge(START, "model")
chat = builder.compile()

builder = StateGraph(MessagesState)
builder.add_node("child", chat)
builder.add_edge(START, "child")
chat_parent = builder.compile()

builder = StateGraph(MessagesState)
builder.add_node("parent", chat_parent)
builder.add_edge(START, "parent")
grandparent = builder.compile()


@tool
def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_node("tools", ToolNode([add]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition)
builder.add_edge("tools", "model")
agent = builder.compile()
