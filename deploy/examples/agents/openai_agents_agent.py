"""An agent of the OpenAI Agents SDK. It takes the conversation as it is; a call that needs approval stops its run, and
the state of that is kept in the log until somebody has decided."""

import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Runner, RunState, function_tool, set_tracing_disabled
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.usage import Usage
from fake_model import Refund, answer, pieces
from langgraph.func import task
from langgraph.types import interrupt
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from threadlog.engine.agents import stream_text

set_tracing_disabled(True)  # its traces go to OpenAI


class FakeModel(Model):
    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(output=self._output(args[1]), usage=Usage(), response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        output = self._output(args[1])
        if isinstance(output[0], ResponseOutputMessage):
            for number, piece in enumerate(pieces(output[0].content[0].text)):
                yield ResponseTextDeltaEvent(
                    type="response.output_text.delta", delta=piece, item_id="m", output_index=0, content_index=0,
                    sequence_number=number, logprobs=[],
                )  # fmt: skip
        response = Response(
            id="r", created_at=0, model="fake", object="response", output=output, parallel_tool_calls=False,
            tool_choice="auto", tools=[],
        )  # fmt: skip
        yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=1000)

    def _output(self, items: Any) -> list[Any]:
        said = [item["content"] for item in items if item.get("role") == "user"]
        returned = items[-1]["output"] if items[-1].get("type") == "function_call_output" else None
        turn = answer(said, returned)
        if isinstance(turn, Refund):
            return [
                ResponseFunctionToolCall(
                    type="function_call", name="refund", arguments=json.dumps({"order": turn.order}),
                    call_id=f"call-{len(items)}",
                )
            ]  # fmt: skip
        text = ResponseOutputText(type="output_text", text=turn, annotations=[], logprobs=[])
        return [ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])]


@function_tool(needs_approval=True)
def refund(order: str) -> str:
    return f"order {order} is refunded."


clerk = Agent(name="clerk", model=FakeModel(), tools=[refund])


@task
async def run(messages: list[dict[str, Any]], state: str | None, approved: bool) -> tuple[str, str | None, list[str]]:
    """One run of the framework: what it says, and, if it stopped at calls that need approval, its state and the calls.

    As a task it is not run again when the thread is resumed: its result is in the log.
    """
    given: Any = [{"role": message["role"], "content": message["content"]} for message in messages]
    if state is not None:
        given = await RunState.from_string(clerk, state)
        for call in given.get_interruptions():
            given.approve(call) if approved else given.reject(call)
    result = Runner.run_streamed(clerk, given)

    async def text() -> AsyncIterator[str]:
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                yield event.data.delta

    said = await stream_text(text())
    if not result.interruptions:
        return said, None, []
    return said, result.to_state().to_string(), [str(call.arguments) for call in result.interruptions]


async def agent(messages):
    text, state, asked = await run(messages, None, False)
    while state is not None:
        decision = interrupt({"action": "refund", "arguments": asked})
        more, state, asked = await run(messages, state, decision == "approve")
        text += more
    return text
