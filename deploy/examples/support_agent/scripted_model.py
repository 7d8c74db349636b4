"""A chat model that follows a script: it streams words and calls tools like a real one, from the conversation alone.

What it says next depends only on the messages it is given, so a run that is taken up again after a crash, by another
process, goes on as if nothing had happened.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

CITIES = ["Berlin", "Lyon", "Porto", "Turin", "Vienna"]
Call = tuple[str, dict[str, Any]]


class ScriptedModel(BaseChatModel):
    """Plays the support desk. `seconds_per_word` is how fast it talks."""

    seconds_per_word: float = 0.03

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        whole: AIMessageChunk | None = None
        for chunk in _chunks(messages):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        return ChatResult(generations=[ChatGeneration(message=AIMessage(whole.content, tool_calls=whole.tool_calls))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(messages):
            time.sleep(self.seconds_per_word)
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(messages):
            await asyncio.sleep(self.seconds_per_word)
            yield ChatGenerationChunk(message=chunk)


def _chunks(messages: list[BaseMessage]) -> Iterator[AIMessageChunk]:
    text, call = _next(messages)
    for index, word in enumerate(text.split(" ") if text else []):
        yield AIMessageChunk(word if index == 0 else f" {word}")
    if call is not None:
        name, args = call
        chunk = {"name": name, "args": json.dumps(args), "id": f"call_{uuid.uuid4().hex[:12]}", "index": 0}
        yield AIMessageChunk("", tool_call_chunks=[{**chunk, "type": "tool_call_chunk"}])
    yield AIMessageChunk("", chunk_position="last")


def _next(messages: list[BaseMessage]) -> tuple[str, Call | None]:
    """What to say, and which tool to call."""
    asked = max(i for i, message in enumerate(messages) if isinstance(message, HumanMessage))
    question = messages[asked].text
    done = {m.name: m.text for m in messages[asked:] if isinstance(m, ToolMessage)}
    walked = [m.text for m in messages[asked:] if isinstance(m, ToolMessage) and m.name == "check_warehouse"]
    named = re.findall(r"[A-Z]-\d{4}", " ".join(m.text for m in messages if isinstance(m, HumanMessage)))
    order = named[-1] if named else "A-1042"
    wish = question.lower()
    if "audit" in wish:
        return _audit(walked)
    if "refund" in wish or "money back" in wish:
        return _refund(order, done)
    if "letter" in wish:
        return LETTER, None
    if "short" in wish:
        return "Your lamp got lost, we are sorry, and your money is on its way.", None
    if named:
        return _late(order, done)
    return "Hello! Tell me your order number and I will see what I can do.", None


def _late(order: str, done: dict[str | None, str]) -> tuple[str, Call | None]:
    if "lookup_order" not in done:
        return "Let me look that up.", ("lookup_order", {"order_id": order})
    if "search_policies" not in done:
        return "It should have been with you. I check what we can do.", ("search_policies", {"topic": "late delivery"})
    return (
        f"I am sorry: order {order}, the walnut desk lamp, was promised for 2 November and got lost in transit. You "
        "can have your EUR 89 back in full, or I send a new one by express today. Which do you prefer?"
    ), None


def _refund(order: str, done: dict[str | None, str]) -> tuple[str, Call | None]:
    if "refund_order" not in done:
        return "Of course. I ask a colleague to approve it.", ("refund_order", {"order_id": order, "amount_eur": 89})
    if "will be back" in done["refund_order"]:
        return f"Done: {done['refund_order']} Thank you for your patience.", None
    return "My colleague did not approve the refund. I will find out why and come back to you.", None


def _audit(walked: list[str]) -> tuple[str, Call | None]:
    if len(walked) < len(CITIES):
        return "", ("check_warehouse", {"city": CITIES[len(walked)]})
    return "Stock audit. " + " ".join(walked) + " Lyon needs lamps; Porto has plenty to send.", None


LETTER = (
    "Dear customer, thank you for writing to us about your walnut desk lamp. Let me begin at the beginning: on the "
    "last day of October your parcel left our warehouse in Berlin, well wrapped and in good spirits. It travelled by "
    "night train to Lyon, where it was scanned twice and admired once. From there it was meant to take the morning van "
    "to your door. The van left, your parcel did not, and since then nobody has seen it. We have asked the driver, the "
    "driver's brother, and the cat that lives in the depot. None of them could help. We have also written to the "
    "carrier, who answered with a poem. We are, in short, very sorry, and we would like to make it up to you."
)
