"""Text of an agent as the chunks of a chat message, told to LangChain's callbacks as a chat model tells its tokens.

So it is streamed (`messages`, `messages-tuple`, `events`) and traced like a model's. All text of one turn belongs to
one message: its id is made from the task of the graph, which is the same before and after an interrupt.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables.config import get_async_callback_manager_for_config
from langgraph.config import get_config


class Speech:
    """What an agent says in one turn, or in one task of it."""

    def __init__(self) -> None:
        self._config = get_config()
        namespace = str((self._config.get("metadata") or {}).get("langgraph_checkpoint_ns") or "")
        outermost = namespace.split("|")[0]
        self.message_id = f"ai-{outermost.rpartition(':')[2]}"
        self.text = ""
        self._call: AsyncCallbackManagerForLLMRun | None = None

    async def say(self, text: str) -> None:
        """Stream a piece of text."""
        if not text:
            return
        if self._call is None:
            manager = get_async_callback_manager_for_config(self._config)
            [self._call] = await manager.on_chat_model_start({"name": "agent"}, [[]], name="agent")
        self.text += text
        chunk = ChatGenerationChunk(message=AIMessageChunk(content=text, id=self.message_id))
        await self._call.on_llm_new_token(text, chunk=chunk)

    async def end(self, error: BaseException | None = None) -> None:
        """Say that there is no more text; `error` is what broke it off."""
        call, self._call = self._call, None
        if call is None:
            return
        if error is not None:
            await call.on_llm_error(error, response=LLMResult(generations=[]))
            return
        message = AIMessage(content=self.text, id=self.message_id)
        await call.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))


async def stream_text(pieces: AsyncIterable[str] | Iterable[str]) -> str:
    """Stream text as chunks of the agent's message, and return all of it.

    For code that can't `yield` to the agent: a function that it calls, a LangGraph `@task`. The text a task has
    streamed is not streamed again when the task's result is taken from the log.

    Raises:
        RuntimeError: called outside a run.
    """
    speech = Speech()
    try:
        if isinstance(pieces, AsyncIterable):
            async for piece in pieces:
                await speech.say(piece)
        else:
            for piece in pieces:
                await speech.say(piece)
    except BaseException as error:
        await speech.end(error)
        raise
    await speech.end()
    return speech.text


def as_message(value: Any, message_id: str) -> Any:
    """The messages an agent returned: none, text, one, or several; dictionaries are in OpenAI's form.

    Raises:
        TypeError: it is none of these.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [AIMessage(content=value, id=message_id)]
    if isinstance(value, dict) and "messages" in value and "role" not in value:
        value = value["messages"]
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(one, BaseMessage | dict | tuple | str) for one in several):
        raise TypeError(
            f"an agent that takes messages returned a {type(value).__name__}: return text, a message or a list of "
            "messages"
        )
    return convert_to_messages(several)
