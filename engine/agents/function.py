"""Wraps a plain async function or async generator as a graph.

    async def agent(messages): ...      a chat: the conversation so far, as dictionaries `{role, content}`
    async def agent(input): ...         anything: what the client sent, what it returns is the output

Both may ask for what LangGraph's `entrypoint` gives by name: `config`, `previous`, `runtime`, `store`, `writer`. A
generator's text is streamed as chunks of a message, what else it yields as `custom`.
`entrypoint.final(value=…, save=…)` says what the output is and what the thread's next run gets as `previous`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, Any

from langchain_core.messages import AnyMessage, convert_to_openai_messages
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.pregel import Pregel
from typing_extensions import TypedDict

from threadlog.engine.agents.speech import Speech, as_message

CHAT, ANY = "messages", "input"
_PREVIOUS = "previous"


class AgentError(Exception):
    """A function is meant as an agent and can't be one; says why."""


class Messages(TypedDict):
    """What goes into a chat agent, and what comes out of it."""

    messages: Annotated[list[AnyMessage], add_messages]


class Conversation(Messages):
    """The state of a chat agent's thread; `previous` is what its last run has saved for the next."""

    previous: Any


def as_graph(function: Any, name: str) -> Pregel[Any, Any, Any, Any] | None:
    """The graph of a function whose first parameter is called `messages` or `input`; None for anything else.

    Raises:
        AgentError: the function is not async.
    """
    first = _first_parameter(function)
    if first not in (CHAT, ANY):
        return None
    if not (inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)):
        kind = "a generator" if inspect.isgeneratorfunction(function) else "a function"
        raise AgentError(f'takes "{first}", so it is an agent, but it is {kind} that is not async: write `async def`')
    return _chat(function, name) if first == CHAT else _entrypoint(function, name)


def _first_parameter(function: Any) -> str | None:
    if not inspect.isfunction(function):
        return None
    return next(iter(inspect.signature(function).parameters), None)


def _entrypoint(function: Callable[..., Any], name: str) -> Pregel[Any, Any, Any, Any]:
    async def agent(*args: Any, **kwargs: Any) -> Any:
        speech, result = await _call(function, args, kwargs)
        return speech.text or None if result is _NOTHING else result

    signature = inspect.signature(function, eval_str=True)
    if inspect.isasyncgenfunction(function):
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    _looks_like(agent, function, signature, name)
    graph = entrypoint()(agent)
    graph.name = name
    return graph


def _chat(function: Callable[..., Any], name: str) -> Pregel[Any, Any, Any, Any]:
    signature = inspect.signature(function)
    wants_previous = _PREVIOUS in signature.parameters

    async def agent(state: Conversation, **kwargs: Any) -> dict[str, Any]:
        messages = convert_to_openai_messages(state["messages"])
        if wants_previous:
            kwargs[_PREVIOUS] = state.get(_PREVIOUS)
        speech, result = await _call(function, ([*messages],), kwargs)
        update: dict[str, Any] = {}
        if isinstance(result, entrypoint.final):
            update[_PREVIOUS], result = result.save, result.value
        if result is _NOTHING:
            result = speech.text or None
        return {**update, "messages": as_message(result, speech.message_id)}

    rest = [parameter for parameter in signature.parameters.values() if parameter.name != _PREVIOUS]
    _looks_like(agent, function, signature.replace(parameters=rest, return_annotation=inspect.Signature.empty), name)
    graph = StateGraph(Conversation, input_schema=Messages, output_schema=Messages)
    graph.add_node("agent", agent)
    graph.add_edge(START, "agent")
    graph.add_edge("agent", END)
    return graph.compile(name=name)


def _looks_like(agent: Any, function: Callable[..., Any], signature: inspect.Signature, name: str) -> None:
    """LangGraph hands over what the signature asks for."""
    agent.__name__ = agent.__qualname__ = name
    agent.__doc__ = function.__doc__
    agent.__module__ = function.__module__
    agent.__signature__ = signature


_NOTHING = object()


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Speech, Any]:
    """What the function said and returned; `_NOTHING` for a generator that yielded no `entrypoint.final`."""
    speech = Speech()
    called = functools.partial(function, *args, **kwargs)
    if not inspect.isasyncgenfunction(function):
        return speech, await called()
    write, result = get_stream_writer(), _NOTHING
    try:
        async with aclosing(called()) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    await speech.say(piece)
                elif isinstance(piece, entrypoint.final):
                    result = piece
                else:
                    write(piece)
    except BaseException as error:
        await speech.end(error)
        raise
    await speech.end()
    return speech, result
