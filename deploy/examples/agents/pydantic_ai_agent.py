"""An agent of pydantic-ai. Its messages are kept between runs, calls that need approval are asked about in between."""

import json
from collections.abc import AsyncIterator

from fake_model import Refund, answer, pieces
from langgraph.func import entrypoint, task
from langgraph.types import interrupt
from pydantic_ai import Agent, AgentRunResultEvent, ModelMessagesTypeAdapter, PartDeltaEvent, PartStartEvent, TextPart
from pydantic_ai.messages import ModelMessage, ModelRequest, TextPartDelta, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults

from threadlog.engine.agents import stream_text


async def fake(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    returned = str(parts[-1].content) if isinstance(parts[-1], ToolReturnPart) else None
    turn = answer([str(part.content) for part in parts if isinstance(part, UserPromptPart)], returned)
    if isinstance(turn, Refund):
        arguments = json.dumps({"order": turn.order})
        yield {0: DeltaToolCall(name="refund", json_args=arguments, tool_call_id=f"call-{len(parts)}")}
    else:
        for piece in pieces(turn):
            yield piece


clerk = Agent(FunctionModel(stream_function=fake), output_type=[str, DeferredToolRequests])


@clerk.tool_plain(requires_approval=True)
def refund(order: str) -> str:
    return f"order {order} is refunded."


@task
async def run(prompt: str | None, history: bytes, approvals: dict[str, bool]) -> tuple[str, bytes, list[list[str]]]:
    """One run of the framework: what it says, its messages afterwards, and the calls that need approval.

    As a task it is not run again when the thread is resumed: its result is in the log.
    """
    asked: list[list[str]] = []
    after = history

    async def text() -> AsyncIterator[str]:
        nonlocal after
        results = DeferredToolResults(approvals=approvals) if approvals else None
        before = ModelMessagesTypeAdapter.validate_json(history)
        async with clerk.run_stream_events(prompt, message_history=before, deferred_tool_results=results) as events:
            async for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    yield event.part.content
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    yield event.delta.content_delta
                elif isinstance(event, AgentRunResultEvent):
                    after = ModelMessagesTypeAdapter.dump_json(event.result.all_messages())
                    if isinstance(event.result.output, DeferredToolRequests):
                        asked.extend([call.tool_call_id, str(call.args)] for call in event.result.output.approvals)

    return await stream_text(text()), after, asked


async def agent(messages, previous=None):
    text, history, asked = await run(messages[-1]["content"], previous or b"[]", {})
    while asked:
        approvals = {call: interrupt({"action": "refund", "arguments": args}) == "approve" for call, args in asked}
        more, history, asked = await run(None, history, approvals)
        text += more
    return entrypoint.final(value=text, save=history)
