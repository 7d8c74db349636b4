"""A chat model that answers from a script: it streams tokens, calls tools and fails, when and as the test says."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

Reply = Any
"""A text, `call(…)` or a list of calls, an `AIMessage`, an exception (raised), or a function of the messages that
returns one of these."""


_CALLS_KEPT = 100


class ScriptEnded(AssertionError):
    """A scripted model was asked more often than its script has replies."""


def call(tool: str, /, **args: Any) -> ToolCall:
    """A call of this tool, as a reply of a scripted model or as what a scenario expects."""
    return ToolCall(name=tool, args=args, id=None, type="tool_call")


class ScriptedChatModel(BaseChatModel):
    """Returns the replies of `script`, one per call, in order, whoever asks: nodes, subgraphs, several runs.

    A text is streamed word by word. When the script has ended, the next call raises `ScriptEnded`, with what was asked.
    `calls` has the messages of every call, `tools` the names of the tools bound last.

    A function as the script returns the reply to the messages of each call: a model that never ends, and that says the
    same after a restart. Its `calls` are the last 100.
    """

    script: list[Any] | Callable[[list[BaseMessage]], Any] = Field(default_factory=list)
    seconds_per_token: float = 0.0
    """How long each token takes, so that a test can look at or cancel a run that is speaking."""

    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _calls: deque[list[BaseMessage]] = PrivateAttr(default_factory=deque)
    _tools: list[str] = PrivateAttr(default_factory=list)

    def __init__(self, script: Sequence[Reply] | Callable[[list[BaseMessage]], Reply] = (), **options: Any) -> None:
        super().__init__(**{"script": script if callable(script) else list(script), **options})
        if callable(self.script):
            self._calls = deque(maxlen=_CALLS_KEPT)

    @property
    def calls(self) -> list[list[BaseMessage]]:
        """The messages that each call was given."""
        return list(self._calls)

    @property
    def tools(self) -> list[str]:
        return list(self._tools)

    @property
    def remaining(self) -> int:
        """How many replies nobody has asked for; none of a function are known."""
        return 0 if callable(self.script) else len(self.script) - len(self._calls)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        self._tools = [convert_to_openai_tool(tool)["function"]["name"] for tool in tools]
        return self.bind(**{key: value for key, value in kwargs.items() if value is not None})

    # --- what BaseChatModel calls ------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(self._next(messages)):
            if self.seconds_per_token:
                time.sleep(self.seconds_per_token)
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(self._next(messages)):
            await asyncio.sleep(self.seconds_per_token)
            yield ChatGenerationChunk(message=chunk)

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        with self._lock:
            number = len(self._calls)
            self._calls.append(list(messages))
        if callable(self.script):
            return _message(self.script, messages, len(messages))
        if number >= len(self.script):
            last = messages[-1] if messages else None
            asked = "nothing" if last is None else f"{last.type} message {last.text!r}"
            raise ScriptEnded(f"the script has {len(self.script)} replies, this is call {number + 1}, on {asked}")
        return _message(self.script[number], messages, number)


def _message(reply: Reply, messages: list[BaseMessage], number: int) -> AIMessage:
    if isinstance(reply, BaseException) or (inspect.isclass(reply) and issubclass(reply, BaseException)):
        raise reply
    if isinstance(reply, AIMessage):
        return reply.model_copy(update={"tool_calls": _named(reply.tool_calls, number)})  # it is given an id
    if isinstance(reply, str):
        return AIMessage(content=reply)
    if isinstance(reply, dict):
        reply = [reply]
    if isinstance(reply, list):
        return AIMessage(content="", tool_calls=_named(reply, number))
    if callable(reply):
        made: Callable[[list[BaseMessage]], Reply] = reply
        return _message(made(list(messages)), messages, number)
    raise TypeError(f"a reply of a script may be a text, call(…), a message, an exception or a function, not {reply!r}")


def _named(calls: list[ToolCall], number: int) -> list[ToolCall]:
    """The calls with ids, of which a conversation has each once. `number`: of the call of the model."""
    return [{**one, "id": one.get("id") or f"call_{number}_{index}"} for index, one in enumerate(calls)]


def _chunks(message: AIMessage) -> Iterator[AIMessageChunk]:
    if isinstance(message.content, str):
        for word in re.findall(r"\s*\S+|\s+$", message.content):
            yield AIMessageChunk(content=word)
    else:
        yield AIMessageChunk(content=message.content)
    for index, wanted in enumerate(message.tool_calls):
        chunk: Any = {
            "type": "tool_call_chunk",
            "name": wanted["name"],
            "args": json.dumps(wanted["args"]),
            "id": wanted["id"],
            "index": index,
        }
        yield AIMessageChunk(content="", tool_call_chunks=[chunk])
    yield AIMessageChunk(
        content="",
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        additional_kwargs=message.additional_kwargs,
        chunk_position="last",
    )
