"""What an attempt tells of the tokens that its models used."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import manager
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from tests.executor.executor_harness import ExecutorHarness
from threadlog.engine.domain.usage import MODELS, OTHER_MODELS, usage_of
from threadlog.engine.executor.run.tool_calls import ToolCallHandler
from threadlog.engine.executor.run.usage import UsageCounter

USED = {
    "small": {"calls": 1, "input_tokens": 2, "output_tokens": 1, "total_tokens": 3, "reasoning_tokens": 1},
    "large": {"calls": 2, "input_tokens": 15, "output_tokens": 2, "total_tokens": 17, "reasoning_tokens": 2},
}


@pytest.mark.parametrize(("said", "status"), [("hi", "success"), ("fail", "error")])
async def test_an_outcome_adds_up_the_tokens_of_all_models(harness: ExecutorHarness, serving, said, status) -> None:
    await serving("billed")
    run_id = await harness.enqueue("billed", {"messages": [{"role": "user", "content": said}]})
    outcome = await harness.outcome(run_id)
    assert (outcome["status"], outcome["usage"]) == (status, USED)
    assert usage_of(outcome) == USED


async def test_a_run_without_models_tells_no_usage(harness: ExecutorHarness, serving) -> None:
    await serving("noop")
    assert "usage" not in await harness.outcome(await harness.enqueue("noop", {"items": []}))


@pytest.mark.parametrize("handler", [UsageCounter(), ToolCallHandler(None, None)])
async def test_a_model_call_makes_no_text_of_its_messages(handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain makes one for a handler without `on_chat_model_start`: the longer a chat, the dearer."""
    monkeypatch.setattr(manager, "get_buffer_string", lambda _: pytest.fail("a text is made of all messages"))
    model = GenericFakeChatModel(messages=iter([AIMessage("one"), AIMessage("two")]))
    config = {"callbacks": [handler]}
    assert model.invoke("hello", config).text == "one"
    assert (await model.ainvoke("hello", config)).text == "two"


def test_whatever_a_model_tells_is_an_outcome_that_can_be_taken() -> None:
    counter = UsageCounter()

    def ended(model: object, **usage: object) -> None:
        message = AIMessage("", response_metadata={"model": model})
        message.usage_metadata = usage  # type: ignore[assignment]
        counter.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=None)  # type: ignore[arg-type]

    ended("m" * 500, input_tokens=2**60, output_tokens=-4, total_tokens="many", output_token_details=None)
    ended(7, input_tokens=2.5)
    for n in range(200):
        ended(f"model {n}", input_tokens=1)
    usage = usage_of({"usage": counter.totals()})
    assert len(usage) == MODELS and usage[OTHER_MODELS] == {"calls": 103, "input_tokens": 103}
    assert usage["m" * 200] == {"calls": 1, "input_tokens": 2**53 - 1} and usage["7"] == {"calls": 1}
