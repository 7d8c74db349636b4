"""An agent of smolagents, which is not async: it runs in a thread. Its tool only notes what it was asked for; a person
decides once the agent is done, and the agent says how it ended."""

import asyncio
from typing import Any

from fake_model import Refund, answer, pieces
from langgraph.func import task
from langgraph.types import interrupt
from smolagents import LogLevel, Tool, ToolCallingAgent
from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole, Model

from threadlog.engine.agents import stream_text


class FakeModel(Model):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said, self._calls = said, 0

    def generate(self, messages: list[ChatMessage], **kwargs: Any) -> ChatMessage:
        self._calls += 1
        turn: str | Refund = answer(self._said) if self._calls == 1 else "I have asked a colleague. "
        if isinstance(turn, Refund):
            function = ChatMessageToolCallFunction(name="refund", arguments={"order": turn.order})
        else:
            function = ChatMessageToolCallFunction(name="final_answer", arguments={"answer": turn})
        call = ChatMessageToolCall(function=function, id=f"call-{self._calls}", type="function")
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])


class RefundTool(Tool):
    name, description, output_type = "refund", "Asks a colleague to refund an order.", "string"
    inputs = {"order": {"type": "string", "description": "number of the order"}}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def forward(self, order: str) -> str:
        self.asked.append(order)
        return "A colleague has to decide."


@task
async def run(said: list[str]) -> tuple[str, list[str]]:
    """One run of the framework: what it says, and the orders to refund.

    As a task it is not run again when the thread is resumed: its result is in the log.
    """
    tool = RefundTool()
    clerk = ToolCallingAgent([tool], FakeModel(said), verbosity_level=LogLevel.OFF)
    said_now = await asyncio.to_thread(clerk.run, "\n".join(said))
    return await stream_text(pieces(str(said_now))), tool.asked


async def agent(messages):
    said = [message["content"] for message in messages if message["role"] == "user"]
    text, asked = await run(said)
    decisions = [interrupt({"action": "refund", "order": order}) for order in asked]
    for order, decision in zip(asked, decisions, strict=True):
        result = f"order {order} is refunded." if decision == "approve" else "a colleague refused."
        text += await stream_text(pieces(str(answer(said, result))))
    return text
