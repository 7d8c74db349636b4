"""Wraps a plain async function or async generator as a graph: also a method, a `functools.partial`, an object with an
async `__call__`, and what a decorator made of one (`functools.wraps`).

    async def agent(messages): ...      a chat: the conversation so far, as dictionaries `{role, content}`
    async def agent(input): ...         anything: what the client sent, what it returns is the output

An `input` whose type is a pydantic model or a dataclass is made one. Both may ask for what LangGraph's `entrypoint`
gives by name: `config`, `previous`, `runtime` (as `Runtime[Context]`: of the graph's context), `store`, `writer`. A
generator's text is streamed as chunks of a message, what else it yields as `custom`.
`entrypoint.final(value=…, save=…)` says what the output is and what the thread's next run gets as `previous`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, Any, get_args, get_origin

from langchain_core.messages import AnyMessage, HumanMessage, convert_to_openai_messages
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict

from threadlog.engine.agents.speech import Speech, as_message

CHAT, ANY = "messages", "input"
_PREVIOUS = "previous"
_GIVEN = ("config", _PREVIOUS, "runtime", "store", "writer")
_LAYERS = 32  # of decorators, more than anybody writes
_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
        AgentError: the function is not async, or asks for what no agent is given.
    """
    inner = _innermost(function)
    if not inspect.isroutine(inner) or (signature := _signature(function)) is None:
        return None
    first, *others = signature.parameters.values()
    if not _is_async(inner):
        kind = "a generator" if inspect.isgeneratorfunction(inner) else "a function"
        raise AgentError(
            f'takes "{first.name}", so it is an agent, but it is {kind} that is not async: write `async def`'
        )
    for parameter in others:
        optional = parameter.default is not parameter.empty or parameter.kind in _ANY_NUMBER
        if not optional and parameter.name not in _GIVEN:
            given = f"{', '.join(_GIVEN[:-1])} and {_GIVEN[-1]}"
            raise AgentError(f'asks for "{parameter.name}": beside "{first.name}" agents are given {given} only')
    return _chat(function, signature, name) if first.name == CHAT else _entrypoint(function, signature, name)


def is_async(function: Any) -> bool:
    """Whether it is an async function or generator, or a partial, object or decorator's function that calls one."""
    return _is_async(_innermost(function))


def _is_async(function: Any) -> bool:
    return inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)


def _innermost(function: Any) -> Any:
    """The function that is called in the end; the outermost one that is async, as a decorator may make one of another
    kind."""
    for _ in range(_LAYERS):
        if isinstance(function, functools.partial):
            function = function.func
        elif _is_async(function):
            break
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not inspect.isclass(function) and callable(function) and inspect.ismethod(function.__call__):
            function = function.__call__
        else:
            break
    return function


def _signature(function: Any) -> inspect.Signature | None:
    """What an agent takes and returns, as types where the names in it are known; None for what is no agent."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception:  # a name that only type checkers import
        signature = inspect.signature(function)
    return signature if next(iter(signature.parameters), None) in (CHAT, ANY) else None


def _entrypoint(function: Callable[..., Any], signature: inspect.Signature, name: str) -> Pregel[Any, Any, Any, Any]:
    build = _builder(signature.parameters[ANY].annotation)

    async def agent(input: Any, **kwargs: Any) -> Any:
        speech, result = await _call(function, (build(input),), kwargs)
        return speech.text or None if result is _NOTHING else result

    if inspect.isasyncgenfunction(_innermost(function)):
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    _looks_like(agent, function, signature, name)
    graph = entrypoint(context_schema=_context_type(signature))(agent)
    graph.name = name
    return graph


def _builder(declared: Any) -> Callable[[Any], Any]:
    """Makes what a client sent the pydantic models and dataclasses that the function asks for; without any it stays as
    it is."""
    if not _has_models(declared):
        return lambda value: value
    return TypeAdapter(declared).validate_python


def _has_models(declared: Any) -> bool:
    if inspect.isclass(declared) and (issubclass(declared, BaseModel) or dataclasses.is_dataclass(declared)):
        return True
    return any(map(_has_models, get_args(declared)))


def _context_type(signature: inspect.Signature) -> Any:
    """`Context` of a parameter `runtime: Runtime[Context]`."""
    runtime = signature.parameters.get("runtime")
    if runtime is None or get_origin(runtime.annotation) is not Runtime:
        return None
    context = get_args(runtime.annotation)[0]
    return context if inspect.isclass(context) else None


def _chat(function: Callable[..., Any], signature: inspect.Signature, name: str) -> Pregel[Any, Any, Any, Any]:
    wants_previous = _PREVIOUS in signature.parameters

    async def agent(state: Conversation, **kwargs: Any) -> dict[str, Any]:
        messages = _as_dictionaries(state["messages"])
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
    graph = StateGraph(
        Conversation, input_schema=Messages, output_schema=Messages, context_schema=_context_type(signature)
    )
    graph.add_node("agent", agent)
    graph.add_edge(START, "agent")
    graph.add_edge("agent", END)
    return graph.compile(name=name)


def _as_dictionaries(messages: list[AnyMessage]) -> list[dict[str, Any]]:
    """The conversation in OpenAI's form. A block that it has no form for (a video, a text file) stays as it is: what a
    client has sent once must not fail each later run of the thread."""
    try:
        return convert_to_openai_messages(messages)
    except (ValueError, LookupError, TypeError):
        return [made for message in messages for made in _message_as_dictionaries(message)]


def _message_as_dictionaries(message: AnyMessage) -> list[dict[str, Any]]:
    try:
        return convert_to_openai_messages([message])
    except (ValueError, LookupError, TypeError):
        if not isinstance(message.content, list):
            raise
    content: list[Any] = []
    for block in message.content:
        try:
            content += convert_to_openai_messages([HumanMessage([block])], text_format="block")[0]["content"]
        except (ValueError, LookupError, TypeError):
            content.append(block)
    [made] = convert_to_openai_messages([message.model_copy(update={"content": ""})])
    return [{**made, "content": content}]


def _looks_like(agent: Any, function: Callable[..., Any], signature: inspect.Signature, name: str) -> None:
    """LangGraph hands over what the signature asks for: by name, where no annotation says otherwise."""
    inner = _innermost(function)
    agent.__name__ = agent.__qualname__ = name
    agent.__doc__ = inner.__doc__
    agent.__module__ = inner.__module__
    agent.__signature__ = signature.replace(
        parameters=[
            parameter.replace(annotation=parameter.empty) if parameter.name in _GIVEN else parameter
            for parameter in signature.parameters.values()
        ]
    )


_NOTHING = object()


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Speech, Any]:
    """What the function said and returned; `_NOTHING` for a generator that yielded no `entrypoint.final`."""
    speech = Speech()
    made = function(*args, **kwargs)
    if not inspect.isasyncgen(made):
        return speech, await made if inspect.isawaitable(made) else made
    write, result = get_stream_writer(), _NOTHING
    try:
        async with aclosing(made) as pieces:
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
